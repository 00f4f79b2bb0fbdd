"""The registry's log on Kafka: read to its end, followed, and written with compare-and-set."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import TopicPartition

from members.registry.events import Event, decode_event, encode_event
from members.registry.lifecycle import Registry, draft, fold
from streams.connect import answering, check_topics, connecting, make_consumer, make_producer, no_broker
from streams.errors import BadRecord, ChorusError, Unavailable
from streams.settings import Kafka
from streams.suite import Suite
from streams.topics import Topics

log = logging.getLogger("chorus.registry")

_POLL = 200  # ms
_PATIENCE = 30.0  # s that writing or reading may take before the broker counts as away


class Conflict(ChorusError):
    """The event was ignored: somebody else was first, or it is not legal where the member stands."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event where it stands, and why it was ignored (None: it counts)."""

    offset: int
    event: Event
    ignored: str | None


class RegistryLog:
    """One reader (and, where needed, writer) of a suite's registry. `registry` is what it has read so far.

    Events go out one to a batch, so that the end of the log can be believed on every broker. `keep` holds on
    to the events as `recorded`; `group` is the consumer group in which `commit` notes a place; `quiet` warns
    of no record that is no event: they stand in `bad`. Every method that talks to the broker raises
    Unavailable.
    """

    def __init__(
        self, kafka: Kafka, suite: str, *, keep: bool = False, group: str | None = None, quiet: bool = False
    ) -> None:
        self.registry = Registry()
        self.recorded: list[Recorded] = []
        self.bad: list[tuple[Any, BadRecord]] = []
        self._kafka, self._topic, self._keep, self._group = kafka, Topics(suite).members, keep, group
        self._level = logging.DEBUG if quiet else logging.WARNING
        self._at = TopicPartition(self._topic, 0)
        self._consumer: Any = None
        self._producer: Any = None
        self._reading, self._writing = asyncio.Lock(), asyncio.Lock()
        self._mine: dict[str, str | None] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect, and read to the end."""
        self._consumer = make_consumer(self._kafka, group=self._group)
        async with connecting(self._kafka, self.stop, "Read"):
            await self._consumer.start()
            await check_topics(self._consumer, [self._topic])
            self._consumer.assign([self._at])
            self._consumer.seek(self._at, self.registry.applied)  # a start that failed may have read a part
            await self.refresh()

    async def stop(self) -> None:
        clients = [each for each in (self._consumer, self._producer) if each is not None]
        self._consumer = self._producer = None
        await asyncio.gather(*(client.stop() for client in clients), return_exceptions=True)

    @property
    def heard(self) -> float | None:
        """When the broker last answered, by the clock (s); None before it has."""
        stamp = None if self._consumer is None else self._consumer.last_poll_timestamp(self._at)
        return None if stamp is None else stamp / 1000

    def _open(self) -> Any:
        if self._consumer is None:  # whoever stops does not wait for those who read
            raise Unavailable("the registry is not open")
        return self._consumer

    async def refresh(self) -> Registry:
        """Read what the log holds now."""
        with answering(self._kafka, "Read"):
            end = (await self._open().end_offsets([self._at]))[self._at]
        await self._until(end)
        return self.registry

    async def _until(self, end: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self.registry.applied < end:
            if not await self.poll() and time.monotonic() > deadline:
                raise Unavailable(no_broker(self._kafka))

    async def poll(self, timeout: int = _POLL) -> bool:
        """Read what comes within `timeout` ms; whether anything did."""
        async with self._reading:
            with answering(self._kafka, "Read"):
                data = await self._open().getmany(self._at, timeout_ms=timeout)
            records = data.get(self._at, [])
            for record in records:
                self._take(record)
            if records:  # control records and holes take offsets too
                end = records[-1].offset + 1
                if self.registry.applied < end:
                    self.registry = self.registry.model_copy(update={"applied": end})
        return bool(records)

    def _take(self, record: Any) -> None:
        try:
            event = decode_event(record.value)
        except BadRecord as error:
            log.log(self._level, "%s, record %d is passed over: %s", self._topic, record.offset, error.detail)
            self.bad.append((record, error))
            return
        self.registry, ignored = fold(self.registry, record.offset, event)
        if self._keep:
            self.recorded.append(Recorded(record.offset, event, ignored))
        if event.id in self._mine and self._mine[event.id] != "":
            self._mine[event.id] = ignored or ""

    async def append(self, event: Event) -> Registry:
        """Write an event and read on until it is clear whether it counts. Raises Conflict."""
        async with self._writing:
            if self._producer is None:
                producer = make_producer(self._kafka)
                async with connecting(self._kafka, producer.stop, "Write"):
                    await producer.start()
                self._producer = producer
            self._mine[event.id] = None
            try:
                with answering(self._kafka, "Write"):
                    sent = await self._producer.send_and_wait(
                        self._topic, encode_event(event), key=event.member.encode(), partition=0
                    )
                    await self._until(sent.offset + 1)
            finally:
                outcome = self._mine.pop(event.id)
        if outcome:
            raise Conflict(outcome)
        return self.registry

    async def committed(self) -> int:
        """The offset that `commit` noted last; 0 before it did."""
        with answering(self._kafka):
            return await self._open().committed(self._at) or 0

    async def commit(self, offset: int) -> None:
        """Note a place, for whoever asks next with the same group."""
        with answering(self._kafka):
            await self._open().commit({self._at: offset})

    async def found(
        self, suite: Suite, who: str, why: str = "the suite file, at the first start"
    ) -> Registry:
        """Make the suite file's members the first revision, where nothing has been registered yet."""
        if not self.registry.revision:
            at = time.time_ns() // 1_000_000
            event = draft(self.registry, "founded", "", who=who, why=why, at=at, members=list(suite.member))
            try:
                await self.append(event)
            except Conflict:
                log.debug("another process founded suite %s", suite.name)
        return self.registry
