"""The shadow host's roster: its share of the registry's members, or those that are named, wherever the live
host does not ask them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from members.crew import Crew
from members.errors import LoadError
from members.following import Following
from members.ownership import Owned
from members.panel import Panel
from members.registry.lifecycle import Registry
from members.registry.log import RegistryLog
from members.swapping import Steps, in_share, missed, reported, shadowed, shadowed_from, steps
from streams.connect import check_topics, connecting, make_consumer, until_available
from streams.errors import ConfigError
from streams.refusals import explain
from streams.settings import Kafka
from streams.suite import Suite

log = logging.getLogger("chorus")

#: Seconds after which marks are written again: the broker drops what a group without members committed, a
#: week after it did.
_AFRESH = 6 * 3600.0


@dataclass(slots=True)
class Marks:
    """Up to which offset of the registry's log the reports of live hosts have been acted on, per partition of
    `requests`.

    They are kept as offsets of a consumer group of their own; `consumer` reads nothing.
    """

    consumer: Any
    topic: str
    clock: Callable[[], float] = time.monotonic
    _written: dict[int, int] = field(default_factory=dict)
    _since: float | None = None
    _said: str = ""

    async def read(self, partition: int) -> int | None:
        """None where nothing has been acted on yet. Raises KafkaError."""
        here = TopicPartition(self.topic, partition)
        if here not in self.consumer.assignment():
            self.consumer.assign([*self.consumer.assignment(), here])
            self.consumer.pause(*self.consumer.assignment())
        mark: int | None = await self.consumer.committed(here)
        if mark is not None:
            self._written[partition] = mark
        return mark

    def kept(self, partition: int, mark: int | None) -> bool:
        """Whether a mark has been written."""
        return self._written.get(partition) == mark

    async def write(self, marks: Mapping[int, int]) -> None:
        """Keep them, where they have changed; an attempt that fails is made again."""
        if self._since is None or self.clock() - self._since > _AFRESH:
            self._since = self.clock()
            self._written.clear()
        new = {p: mark for p, mark in marks.items() if self._written.get(p) != mark}
        if new:
            try:
                await self.consumer.commit({TopicPartition(self.topic, p): mark for p, mark in new.items()})
            except KafkaError as error:
                why = explain(error, "Read")  # until somebody allows it, members that change wait here
                tell = log.debug if why is None or why == self._said else log.warning
                tell("what was acted on is not committed: %s", why or error)
                self._said = why or self._said
            else:
                self._written.update(new)


class ShadowRoster(Following):
    """The members of its share (number, of how many) that score in the shadow, or those of `only`. A Roster.

    topic: of the requests; group: the host's own consumer group.
    """

    def __init__(
        self,
        registry: RegistryLog,
        panel: Panel,
        *,
        share: tuple[int, int] = (0, 1),
        only: Collection[str] = (),
        kafka: Kafka,
        topic: str,
        group: str,
        **host: Any,
    ) -> None:
        super().__init__(registry, panel, **host)
        self._only = frozenset(only)
        self._share, self._kafka, self._topic, self._group = share, kafka, topic, f"{group}.acted"
        self._marks: Marks | None = None
        self._mine: tuple[str, ...] = ()
        self._loading: set[str] = set()
        self._crews: dict[tuple[str, ...], Crew] = {}
        self._seen: Registry | None = None
        self._stairs: dict[tuple[int, int | None], Steps] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.panel.ids)

    async def _connect(self) -> None:
        """Raises Unavailable."""
        consumer = make_consumer(self._kafka, group=self._group)
        async with connecting(self._kafka, consumer.stop):
            await consumer.start()
            await check_topics(consumer, [self._topic])
        self._marks = Marks(consumer, self._topic)

    async def close(self) -> None:
        await super().close()
        if self._marks is not None:
            await self._marks.consumer.stop()

    async def open(self, declared: Suite) -> Suite:
        """Load the shadow members of this share. Raises ConfigError where one of `only` is not registered."""
        suite = await self._read(declared)
        self._look()
        for name in sorted(self._only):
            if name not in self.registry.entries:
                raise ConfigError(
                    f"there is no member {name} in the registry: check --member, or register it first "
                    "(`chorus members add`, or `apply` for one of the suite file)"
                )
            if name not in self.registry.shadow:
                state = self.registry.entries[name].state
                log.info("member %s is %s: it is asked here once it is in the shadow", name, state)
        shadow = set(self.registry.shadow)
        self.panel.enlist(suite.members[name] for name in self._mine if name in shadow)
        await self.panel.load()
        await until_available(self._connect)
        return suite

    def _look(self) -> None:
        """Take note of the registry as it is by now."""
        if self._seen is not self.registry:
            self._seen = self.registry
            mine = in_share(self.registry, *self._share)
            self._mine = tuple(name for name in mine if name in self._only) if self._only else mine
            self._stairs.clear()
            self._crews.clear()

    def _steps(self, partition: int, through: int | None = None) -> Steps:
        if (partition, through) not in self._stairs:
            self._stairs[partition, through] = steps(self.registry, partition, through)
        return self._stairs[partition, through]

    def at(self, partition: int, offset: int) -> tuple[Crew, int | None] | None:
        """As the reports say that have been acted on, and only once that is written: what `back` looks for is
        what they did not ask for."""
        self._look()
        owned = self._owned.get(partition)
        mark = None if owned is None else owned.mark
        if mark is not None and self._marks is not None and not self._marks.kept(partition, mark):
            return None
        ids, until = shadowed(self.registry, self._mine, self._steps(partition, mark), offset)
        there = tuple(name for name in ids if name in self.panel.ids)
        if any(name not in there and self._was_live(name) for name in ids):
            return None  # it comes from the live host: none of its positions may be left out
        if there not in self._crews:
            self._crews[there] = Crew(there, self.registry.revision, self.panel.view(there).vote)
        return self._crews[there], until

    def _was_live(self, name: str) -> bool:
        return any(name in live for live in self.registry.lives.values())

    async def look_up(self, owned: Owned) -> None:
        """Find what an earlier host has acted on. Raises KafkaError."""
        if self._marks is not None:
            owned.mark = await self._marks.read(owned.partition)

    def enter(self, owned: Owned) -> None:
        """With no mark there is nothing that it could have left out."""
        if owned.mark is None:
            owned.mark = reported(self.registry, owned.partition)

    def news(self, owned: Owned) -> bool:
        return owned.mark is not None and reported(self.registry, owned.partition) > owned.mark

    def back(self, owned: Owned) -> int | None:
        self._look()
        mark, latest = owned.mark, reported(self.registry, owned.partition)
        if mark is None or latest <= mark:
            return None
        owned.mark = latest
        return missed(self.registry, self._mine, owned.partition, mark, owned.position)

    async def keep(self, owned: Collection[Owned]) -> None:
        """After the offsets, so that a crash in between goes back once more rather than not at all."""
        if self._marks is not None:
            await self._marks.write({each.partition: each.mark for each in owned if each.mark is not None})

    def step(self) -> None:
        self._look()
        shadow = set(self.registry.shadow)
        wanted = {name for name in self._mine if name in shadow}
        for partition, owned in self._owned.items():
            for through in {None, owned.mark}:
                stairs = self._steps(partition, through)
                wanted |= shadowed_from(self.registry, self._mine, stairs, min(owned.position, owned.done))
        there = set(self.panel.ids)
        for name in wanted - there - self._loading:
            self._loading.add(name)
            self._spawn(self._load(name))
        gone = [self.panel.unseat(name) for name in there - wanted]
        if gone:
            self._changed()
            self._let_go([seat for seat in gone if seat is not None])

    async def _load(self, name: str) -> None:
        spec = self.registry.entries[name].spec
        try:
            seat = await self.panel.prepare(spec)
        except LoadError as error:
            seat = self.panel.suspended(spec, str(error))
        finally:
            self._loading.discard(name)
        self.panel.seat(seat)
        self._changed()

    def _changed(self) -> None:
        self._crews.clear()
        log.info("the shadow host asks: %s", " ".join(self.panel.ids) or "nobody")
        self._look_again()
