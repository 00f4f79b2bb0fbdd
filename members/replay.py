"""What a backfill has to read: the places in the log, and how far it is. Pure but for the tasks it holds."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.structs import TopicPartition

from members.ownership import Owned


def stretch(covered: Sequence[int], at: int) -> tuple[int, int | None]:
    """The first stretch [start, end) from `at` on that the intervals leave open; end None: without end.

    covered: sorted, disjoint, half-open intervals as a flat list [a0, b0, a1, b1, …].
    """
    place = bisect_right(covered, at)
    if place % 2:
        at, place = covered[place], place + 1
    return at, covered[place] if place < len(covered) else None


def missing(covered: Sequence[int], start: int, end: int) -> int:
    """How many positions of [start, end) the intervals leave open."""
    n, at = 0, start
    while at < end:
        at, stop = stretch(covered, at)
        stop = end if stop is None else min(stop, end)
        n, at = n + max(0, stop - at), max(at, stop)
    return n


@dataclass(slots=True, eq=False)
class Place:
    """One partition of `requests` in a backfill. Positions are offsets."""

    tp: TopicPartition
    #: `position` is where the next batch begins, `done` up to where all is written or covered
    owned: Owned
    begin: int
    #: where the log ended, as the broker had it, when the backfill began
    target: int
    #: the end of the stretch that is being read; None: it is open
    until: int | None = None
    finished: bool = False
    #: whether it ended where live hosts that do not run have come, with more to do
    early: bool = False
    fresh: bool = True
    requests: int = 0
    last: asyncio.Task[None] | None = None
    heard: float = field(default_factory=time.monotonic)
    #: whether retention has cut the log where reading began
    cut: bool = False
    #: event time (ms) of the first request that was read
    first: int | None = None
    #: event time (ms) that the votes which are written have reached
    reached: int | None = None
    #: what has been written: [a0, b0, a1, b1, …]
    written: list[int] = field(default_factory=list)

    @property
    def before(self) -> asyncio.Task[None] | None:
        """The last batch, where it is not over or has failed: nothing is done beyond one that has."""
        last = self.last
        well = last is None or (last.done() and not last.cancelled() and last.exception() is None)
        return None if well else last

    def wrote(self, start: int, end: int) -> None:
        """Note that the votes on [start, end) are there. Comes in order."""
        if self.written and self.written[-1] == start:
            self.written[-1] = end
        else:
            self.written += [start, end]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is: positions of the log (done, total), requests scored, event time reached (ms)."""

    done: int
    total: int
    requests: int
    event_time: int | None
    seconds: float
    throttled: bool
    live_lag: int | None

    @property
    def rate(self) -> float:
        """Requests scored in a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go at this pace; None before anything is done."""
        return (self.total - self.done) * self.seconds / self.done if self.done else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backfill has done: since when (event time, ms), on how many requests, and where.

    finished is False where it was stopped before the end. cut: event time (ms) of the first request that
    there still is, where retention has taken earlier ones that were asked for.
    """

    finished: bool
    requests: int
    seconds: float
    since: int
    places: Mapping[int, Place]
    cut: int | None

    @property
    def early(self) -> list[int]:
        """The partitions that ended before their end, because live hosts do not run there."""
        return sorted(p for p, place in self.places.items() if place.early)

    def partitions(self) -> dict[str, dict[str, Any]]:
        """For people and programs: partition → from, to, requests."""
        return {
            str(p): {"from": place.begin, "to": place.owned.done, "requests": place.requests}
            for p, place in sorted(self.places.items())
        }


def left(places: Mapping[int, Place], covered: Mapping[int, Sequence[int]]) -> int:
    """How many positions are still to be done."""
    return sum(
        missing(covered.get(p, ()), place.owned.done, place.target)
        for p, place in places.items()
        if not (place.finished and place.owned.done == place.owned.position)
    )


def outcome(places: Mapping[int, Place], since: int, bucket: int, seconds: float) -> Outcome:
    """What has been done, of a suite whose buckets are so long (ms)."""
    cuts = [place.first for place in places.values() if place.cut and place.first is not None]
    cut = min(cuts, default=None)
    return Outcome(
        finished=all(place.finished for place in places.values()),
        requests=sum(place.requests for place in places.values()),
        seconds=seconds,
        since=since,
        places=places,
        cut=cut if cut is not None and cut >= since + bucket else None,
    )


async def after(place: Place, end: int, before: asyncio.Task[None] | None) -> None:
    """Note that all up to `end` is done, once the batch before it is."""
    if before is not None:
        await asyncio.wait({before})
        if before.cancelled() or before.exception() is not None:
            raise asyncio.CancelledError
    place.owned.done = end
