"""Taking over a partition: what an earlier host has already answered is repeated, never asked again.

The votes topic is the live host's write-ahead log. The record of a batch is there before its decisions go
out, and the offset of `requests` is committed after them. A host that takes a partition over says hello on
the votes topic and reads until it hears itself: all that its predecessor wrote lies before that, whatever
the broker believes about its high watermark. Positions that were recorded but not committed are decided as
recorded, so that a member which answers at random cannot drift away from the decisions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from members.sending import Abandoned
from streams.errors import BadRecord
from streams.records import SUITE, Votes
from streams.votes import decode

log = logging.getLogger("chorus")

#: Seconds without a record after which a hello that was acknowledged is no longer waited for, and said again.
_SILENT = 10.0


class Replay:
    """Recorded votes over the positions of one partition from `start` on; the first record wins."""

    def __init__(self, start: int = 0) -> None:
        self._start = start
        self._pieces: list[tuple[int, int, Votes]] = []  # disjoint, ascending

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, votes: Votes) -> None:
        """Take in the next record of the log, for the positions that no earlier one covers."""
        at, end = max(votes.start, self._start), votes.end
        new = []
        for start, stop, _ in self._pieces:
            if at < min(start, end):
                new.append((at, min(start, end), votes))
            at = max(at, stop)
        if at < end:
            new.append((at, end, votes))
        self._pieces = sorted(self._pieces + new, key=lambda piece: piece[0])

    def split(self, start: int, end: int) -> list[tuple[int, int, Votes | None]]:
        """[start, end) as stretches in order, each with the record that covers it, or None."""
        out: list[tuple[int, int, Votes | None]] = []
        at = start
        for first, stop, votes in self._pieces:
            if stop <= at or first >= end:
                continue
            if first > at:
                out.append((at, first, None))
            out.append((max(at, first), min(stop, end), votes))
            at = min(stop, end)
        if at < end:
            out.append((at, end, None))
        return out

    def forget(self, position: int) -> None:
        """Drop what ends at or before `position`."""
        self._pieces = [piece for piece in self._pieces if piece[1] > position]


@dataclass(slots=True)
class Found:
    """What the log says about one partition of `requests`."""

    hello: str
    replay: Replay
    watermark: int | None = None
    heard: bool = False


@dataclass(slots=True)
class Tail:
    """The reader of the votes topic; `consumer` is assigned all of its partitions and paused."""

    consumer: Any
    topic: str
    _committed: dict[int, int] = field(default_factory=dict)

    async def read(self, partition: int, found: Mapping[int, Found], wanted: Callable[[], bool]) -> None:
        """Read votes partition `partition` until every hello in `found` (by requests partition) is heard.

        Raises Abandoned once `wanted` says no, and KafkaError: also where the broker does not show for a long
        time what it acknowledged.
        """
        tp = TopicPartition(self.topic, partition)
        start = await self.consumer.committed(tp)
        if start is None:
            start = await self._beginning(tp)
        self.consumer.seek(tp, start)
        self.consumer.resume(tp)
        last = time.monotonic()
        try:
            while not all(each.heard for each in found.values()):
                if not wanted():
                    raise Abandoned
                if time.monotonic() - last > _SILENT:
                    raise KafkaTimeoutError(f"{tp.topic}/{partition} does not show what was written to it")
                try:
                    data = await self.consumer.getmany(tp, timeout_ms=200)
                except OffsetOutOfRangeError:
                    self.consumer.seek(tp, await self._beginning(tp))
                    continue
                for record in data.get(tp, ()):
                    last = time.monotonic()
                    _take(record, found)
        finally:
            self.consumer.pause(tp)

    async def _beginning(self, tp: TopicPartition) -> int:
        offset: int = (await self.consumer.beginning_offsets([tp]))[tp]
        return offset

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Record where the next host begins to read: votes partition → offset."""
        new = {p: offset for p, offset in offsets.items() if self._committed.get(p) != offset}
        if new:
            try:
                await self.consumer.commit({TopicPartition(self.topic, p): at for p, at in new.items()})
            except KafkaError as error:
                log.debug("the tail of the votes was not committed: %s", error)
            else:
                self._committed.update(new)


def _take(record: Any, found: Mapping[int, Found]) -> None:
    try:
        votes = decode(record.value)
    except BadRecord:
        return  # the evaluator sends it to dead letters
    mine = found.get(votes.partition)
    if mine is None or mine.heard or votes.stage != "live":
        return
    if votes.hello:
        mine.heard = votes.hello == mine.hello
        return
    if votes.members[0] == SUITE:
        if votes.watermark is not None:
            mine.watermark = votes.watermark
        mine.replay.add(votes)
