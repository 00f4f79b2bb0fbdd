"""What a live host reports of its partitions: which revision answers them, from which offset on.

A report is written whenever the log says anything else than what this host does, be it that it has swapped,
that it took a partition over from a host of another revision, or that another host was wrong about it. The
first answers of a revision wait for it: a successor would not know where they begin.

A host that was cut off, or frozen, may have lost its partitions and not know it yet. It reports nothing of
them, and does not swap either, until it must have heard.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from members.ownership import Owned
from members.registry.events import Event
from members.registry.log import Conflict, RegistryLog
from members.swapping import Steps, answers, steps_of, unsaid

log = logging.getLogger("chorus")

#: Seconds that a batch waits for the report of where its crew begins, before it goes on without. The report
#: is written all the same, later: only a host that ends before that leaves a successor in the dark.
_ANNOUNCED_WITHIN = 1.0
#: Seconds after which a report is repeated where another host says otherwise.
_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class _Late:
    """A revision that has answered [at, until) of a partition without a report, before the partition went."""

    partition: int
    at: int
    until: int
    revision: int


class Announcer:
    """`write` makes a `serving` report of a revision; owned: the host's partitions; session: seconds after
    which a host that is not heard loses them."""

    def __init__(
        self,
        log: RegistryLog,
        owned: Mapping[int, Owned],
        write: Callable[..., Event],
        *,
        session: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._owned, self._write = log, owned, write
        self._session, self._clock = session, clock
        self._unsaid: dict[int, tuple[Owned, Steps]] = {}
        self._waived: set[tuple[Owned, int]] = set()
        self._late: list[_Late] = []
        self._mute = False  # a batch has waited in vain, and nothing could be written since
        self._told: dict[tuple[Owned, int, int], float] = {}
        self._said = asyncio.Event()
        self._seen: object = None
        self._heard: float | None = None
        self._listened: float | None = None
        self._back = float("-inf")

    # -- what this host does

    def take_over(self, owned: Owned, revision: int) -> None:
        """A partition is this host's from `owned.position` on."""
        owned.steps = answers(owned.replay, owned.position, revision)
        self._look_at(owned)

    def swap(self, revision: int) -> None:
        """What is handed out from here on is answered by `revision`."""
        for owned in self._owned.values():
            before = [step for step in owned.steps if step[0] < owned.position]
            owned.steps = steps_of([*before, *answers(owned.replay, owned.position, revision)])
            self._look_at(owned)

    # -- whether it may say so

    def listen(self) -> None:
        """Notice that the broker was not heard, or nobody here listened, for so long that partitions may have
        gone."""
        heard, now = self._log.heard, self._clock()
        deaf = heard is not None and self._heard is not None and heard - self._heard > self._session / 2
        if deaf or (self._listened is not None and now - self._listened > self._session / 2):
            self._back = now
        self._heard, self._listened = self._heard if heard is None else heard, now

    def doubtful(self, owned: Owned) -> bool:
        """Whether a partition may be another host's by now."""
        return owned.taken <= self._back and self._clock() - self._back < self._session

    @property
    def in_doubt(self) -> bool:
        """Whether any is."""
        return any(self.doubtful(owned) for owned in self._owned.values())

    # -- what is on record of it

    def look(self) -> None:
        """Compare what this host does with what the log says of it by now."""
        for partition, (owned, rest) in list(self._unsaid.items()):
            if not self._has(owned):
                del self._unsaid[partition]
                self._gone(owned, rest)
        if self._seen is not self._log.registry.servings:
            self._seen = self._log.registry.servings
            for owned in self._owned.values():
                self._look_at(owned)
        self._told = {key: at for key, at in self._told.items() if self._has(key[0])}
        self._waived = {key for key in self._waived if self._has(key[0])}
        self._said.set()
        self._said = asyncio.Event()

    def _has(self, owned: Owned) -> bool:
        """Whether the partition is still this host's, and has not gone and come back meanwhile."""
        return self._owned.get(owned.partition) is owned

    def _look_at(self, owned: Owned) -> None:
        rest = unsaid(self._log.registry, owned.partition, owned.steps) if owned.steps else []
        if rest:
            self._unsaid[owned.partition] = owned, rest
        else:
            self._unsaid.pop(owned.partition, None)

    def _gone(self, owned: Owned, rest: Steps) -> None:
        """Another host has the partition. Only where answers did not wait for the report is one due."""
        ends = [at for at, _ in rest[1:]] + [owned.done]
        for (at, revision), until in zip(rest, ends, strict=True):
            if (owned, revision) in self._waived and at < until:
                self._late.append(_Late(owned.partition, at, until, revision))

    async def send(self) -> None:
        """Write what is not on record. Raises Unavailable."""
        self.look()
        while self._late:
            late = self._late[0]
            end = {"until": {late.partition: late.until}}
            await self._append(self._write(late.revision, {late.partition: late.at}, **end))
            del self._late[0]
        while heads := self._due():
            revision = min(step[1] for _, step in heads)
            now = [(owned, step) for owned, step in heads if step[1] == revision]
            await self._append(self._write(revision, {o.partition: at for o, (at, _) in now}))
            self._told |= {(owned, *step): self._clock() for owned, step in now}
            self.look()
        self._mute = False

    async def _append(self, report: Event) -> None:
        try:
            await self._log.append(report)
        except Conflict as error:  # a log that was made anew may not know what was answered before
            log.debug("a report is ignored: %s", error)

    def _due(self) -> list[tuple[Owned, tuple[int, int]]]:
        """The first thing to be said of each partition, where it has not just been said."""
        return [
            (owned, rest[0])
            for owned, rest in self._unsaid.values()
            if not self.doubtful(owned)
            and self._clock() - self._told.get((owned, *rest[0]), -_AGAIN) >= _AGAIN
        ]

    async def announced(self, revision: int, partition: int) -> None:
        """Wait until it is on record where a revision begins: a successor that did not know would say a later
        offset, and what lies between would be missing in the history of a member that went out."""
        owned = self._owned.get(partition)
        if owned is None:
            return

        def waits() -> bool:
            owner, rest = self._unsaid.get(partition, (None, []))
            missing = any(each == revision for _, each in rest)
            return owner is owned and missing and (owned, revision) not in self._waived

        try:
            async with asyncio.timeout(0 if self._mute else _ANNOUNCED_WITHIN):
                while waits():
                    await self._said.wait()
        except TimeoutError:
            self._mute = True
            self._waived.add((owned, revision))  # the answers matter more
