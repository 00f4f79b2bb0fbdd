"""Who votes on a batch: an immutable crew, taken once for each batch when its positions are handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka.structs import TopicPartition

from members.ownership import Owned
from streams.suite import Suite


async def _nothing_to_say(partition: int) -> None:
    """Nobody waits to hear where this crew begins."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The members `ids` as of a suite revision; `vote(batch)` answers with their `Ballot`, in that order.

    `announced(partition)` returns once it is on record where this crew's positions begin.
    """

    ids: tuple[str, ...]
    revision: int
    vote: Callable[[Any], Awaitable[Any]]
    announced: Callable[[int], Awaitable[None]] = _nothing_to_say


class Roster(Protocol):
    """Says who votes where, and follows what changes that."""

    @property
    def ids(self) -> Sequence[str]:
        """The members that vote now."""

    async def open(self, declared: Suite) -> Suite:
        """Load the first members; returns the suite with the members that it has now."""

    async def run(self) -> None:
        """Follow changes until it is cancelled."""

    async def close(self) -> None: ...

    def at(self, partition: int, offset: int) -> tuple[Crew, int | None] | None:
        """Who scores from `offset` of `requests` on, and up to where (None: without end).

        None where that has to wait: a member that must not miss these positions is still being loaded.
        """

    async def look_up(self, owned: Owned) -> None:
        """Called when a partition is taken over, before `enter`."""

    def enter(self, owned: Owned) -> None:
        """A partition has been taken over, and is read from now on; its `replay` is known."""

    def news(self, owned: Owned) -> bool:
        """Whether `back` has something new to look at."""

    def back(self, owned: Owned) -> int | None:
        """The offset before `owned.position` at which to read again, for who was left out there.

        Says it once.
        """

    async def keep(self, owned: Collection[Owned]) -> None:
        """Called after the offsets were committed."""


class Fixed:
    """The members that a host was started with, for as long as it runs. A Roster."""

    def __init__(self, ids: Sequence[str], panel: Any, revision: int = 1) -> None:
        self.ids = list(ids)
        self._panel = panel
        self._crew = Crew(tuple(ids), revision, panel.vote)

    async def open(self, declared: Suite) -> Suite:
        """Load them."""
        if self.ids:
            await self._panel.load()
        return declared

    async def run(self) -> None:
        """Nothing changes."""

    async def close(self) -> None:
        """Nothing is open."""

    def at(self, partition: int, offset: int) -> tuple[Crew, int | None] | None:
        return self._crew, None

    async def look_up(self, owned: Owned) -> None:
        """Nothing to do."""

    def enter(self, owned: Owned) -> None:
        """Nothing to do."""

    def news(self, owned: Owned) -> bool:
        return False

    def back(self, owned: Owned) -> int | None:
        return None

    async def keep(self, owned: Collection[Owned]) -> None:
        """Nothing to keep."""


def share_out(
    roster: Roster, partition: int, records: list[Any], start: int
) -> Iterator[tuple[Crew, list[Any], int, int]]:
    """Positions from `start` to the last record, cut where another crew begins: (crew, records, start, stop).

    Ends early where the roster has nobody yet.
    """
    end = records[-1].offset + 1
    while start < end and (found := roster.at(partition, start)) is not None:
        crew, until = found
        stop = end if until is None else min(until, end)
        part = records if stop == end else [each for each in records if each.offset < stop]
        records = records[len(part) :]
        yield crew, part, start, stop
        start = stop


async def arrange(
    roster: Roster, consumer: Any, tp: TopicPartition, owned: Owned, batches: Collection[asyncio.Task[None]]
) -> None:
    """Read a partition again where the roster has missed somebody, and pause it where it has nobody yet."""
    if roster.news(owned):
        while owned.under_way and batches and not owned.lost:
            await asyncio.wait(list(batches), return_when=asyncio.FIRST_COMPLETED)
        if owned.lost:
            return
        if (back := roster.back(owned)) is not None:
            owned.position = owned.done = back
            consumer.seek(tp, back)
    waits, paused = roster.at(owned.partition, owned.position) is None, tp in consumer.paused()
    if waits and not paused:
        consumer.pause(tp)
    elif paused and not waits:
        consumer.resume(tp)
