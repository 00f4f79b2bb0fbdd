"""One batch of one partition: scored, written as votes, answered as decisions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from members.crew import Crew
from members.decisions import decisions, recorded, scored
from members.holdout import held_out
from members.ownership import Owned
from members.panel import BUDGET_FOR
from members.sending import Sender
from streams.batch import Batch
from streams.dead_letters import dead_letter
from streams.errors import BadRecord
from streams.metrics import HostMetrics
from streams.records import SUITE, Votes
from streams.requests import DecodedBatch, RequestDecoder
from streams.settings import Settings
from streams.suite import Suite
from streams.topics import Topics
from streams.votes import MAX_BYTES, SCHEMA, build_votes, encode

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch with its votes: true, abstain are bool[k, n], failed bool[k]; `watermark` (ms) includes it."""

    decoded: DecodedBatch
    true: Bits
    abstain: Bits
    failed: Bits
    watermark: int | None
    crew: Crew


class Scorer:
    """Takes batches from records to the acknowledged votes and decisions.

    `between` is called after the votes record is there and before the decisions are sent: a place for tests
    to crash at.
    """

    def __init__(
        self,
        suite: Suite,
        settings: Settings,
        *,
        stage: str,
        members: Sequence[str],
        name: str,
        panel: Any,
        sender: Sender,
        metrics: HostMetrics,
        partitions: Mapping[str, int],
    ) -> None:
        self._suite, self._stage, self._members, self._name = suite, stage, members, name
        #: who is asked where no other crew is named
        self._crew = Crew(tuple(members), 1, panel.vote)
        self._send, self._metrics = sender, metrics
        self._topics = Topics(suite.name)
        self._partitions = partitions
        self._decoder = RequestDecoder(suite, settings.limits)
        self._holdout = suite.holdout if stage == "live" else 0.0
        self._scoring = asyncio.Lock()
        self._stage_time = {
            name: metrics.stage.labels(name) for name in ("decode", "vote", "encode", "produce")
        }
        #: a few of the requests that were decoded last, for a member that is being prepared
        self.recent: Batch | None = None
        self.between: Callable[[], None] = lambda: None
        #: Whether partitions of `requests` share one of `votes`; then no offset of it speaks for all.
        self.shared_votes = partitions[self._topics.votes] < partitions[self._topics.requests]

    def votes_partition(self, partition: int) -> int:
        """The partition of `votes` that carries the records of partition `partition` of `requests`."""
        return partition % self._partitions[self._topics.votes]

    def _frame(self, owned: Owned, crew: Crew, start: int, end: int, **more: Any) -> Votes:
        names = [SUITE, *crew.ids] if self._stage == "live" else list(crew.ids)
        return Votes(
            schema=SCHEMA,
            stage=self._stage,
            host=self._name,
            partition=owned.partition,
            partitions=self._partitions[self._topics.requests],
            start=start,
            end=end,
            revision=crew.revision,
            bucket=self._suite.bucket,
            members=names,
            segments=[],
            runs=[],
            states=[[] for _ in names],
            hits=[],
            ids=[],
            times=[],
            true=b"",
            abstain=b"",
            holdout=self._holdout,
            **{"watermark": owned.watermark.value, **more},
        )

    def _sender(self, owned: Owned) -> Sender:
        return owned.sender or self._send

    def _together(
        self, owned: Owned, offset: int | None = None, *, join: bool = False
    ) -> AbstractAsyncContextManager[asyncio.Future[None]]:
        """A transaction, where there are any; with `join` the next batch that is ready shares it."""
        more = (lambda: owned.ready > 0) if join else (lambda: False)
        return self._sender(owned).together(lambda: owned.wanted, offset, more)

    async def hello(self, owned: Owned, crew: Crew | None = None) -> str:
        """Write the record that marks the take-over; returns what to listen for."""
        hello = uuid.uuid4().hex
        at = owned.position
        async with self._together(owned):
            await self._write(owned, self._frame(owned, crew or self._crew, at, at, hello=hello))
        return hello

    async def heartbeat(self, owned: Owned, crew: Crew | None = None) -> None:
        """Say that the partition has nothing more to read."""
        async with owned.order, self._together(owned):
            at = owned.done
            owned.tail = await self._write(owned, self._frame(owned, crew or self._crew, at, at, idle=True))

    async def batch(self, owned: Owned, records: list[Any], start: int, end: int, crew: Crew) -> None:
        """Steps 1 to 3 for records of positions [start, end). Raises Abandoned when the partition goes.

        A shadow host without members there only goes on: a votes record needs somebody who votes.
        """
        if not crew.ids and self._stage != "live":
            async with self._scoring:
                pass  # the batches in front of this one come first
            async with owned.order:
                owned.done = end
            return
        if owned.replay:
            async with owned.order:
                for first, stop, votes in owned.replay.split(start, end):
                    part = [record for record in records if first <= record.offset < stop]
                    if votes is None:
                        part_scored = await self._score(owned, self._decode(owned, part), crew)
                        await crew.announced(owned.partition)
                        async with self._together(owned, stop):
                            await self._write_scored(owned, part_scored, first, stop)
                    else:
                        async with self._together(owned, stop):
                            await self._repeat(owned, votes, part)
                    owned.done = stop
                # `tail` stays: until the replay is over, a successor needs what was recorded before.
                owned.replay.forget(end)
            return
        decoded = self._decode(owned, records)
        del records  # what waits for the broker does without them
        batch = await self._score(owned, decoded, crew)
        # The first ones of a crew may have to wait for the registry: what is written does not wait for them.
        joins = crew.revision == owned.revision
        owned.ready += joins
        try:
            await owned.order.acquire()
        finally:
            owned.ready -= joins
        try:
            await crew.announced(owned.partition)
            owned.revision = crew.revision
            async with self._together(owned, end, join=True) as committed:
                tail = await self._write_scored(owned, batch, start, end)
        finally:
            owned.order.release()
        await committed
        if end > owned.done:  # of several that were committed at once the last may be here first
            owned.tail, owned.done = tail, end

    def _decode(self, owned: Owned, records: list[Any]) -> DecodedBatch:
        began = time.perf_counter()
        decoded = self._decoder.decode(records)
        owned.watermark.observe(decoded.times)
        self._stage_time["decode"].observe(time.perf_counter() - began)
        return decoded

    async def _score(self, owned: Owned, decoded: DecodedBatch, crew: Crew | None = None) -> Scored:
        crew = crew or self._crew
        watermark = owned.watermark.value  # now: the next batch may be decoded while this one waits
        n, k = len(decoded), len(crew.ids)
        true, abstain, failed = np.zeros((k, n), bool), np.zeros((k, n), bool), np.zeros(k, bool)
        # Even with nothing to ask: what overtook a batch that is being scored would be committed before it.
        async with self._scoring:
            began = time.perf_counter()
            ballot = await crew.vote(decoded.batch) if n and k else None
            self._stage_time["vote"].observe(time.perf_counter() - began)
        if ballot is not None:
            abstain, failed = ballot.abstain, ballot.failed
            true = ballot.true & ~abstain
            for name, yes, no in zip(crew.ids, true.sum(1), abstain.sum(1), strict=True):
                self._metrics.votes.labels(name).inc(int(yes))
                self._metrics.abstentions.labels(name).inc(int(no))
        if n:
            self.recent = decoded.batch.take(0, min(n, BUDGET_FOR))
        self._metrics.requests.inc(n)
        self._metrics.batch.observe(n)
        return Scored(decoded, true, abstain, failed, watermark, crew)

    async def _write_scored(self, owned: Owned, batch: Scored, start: int, end: int) -> int:
        """Steps 2 and 3; returns the offset of the (last) votes record."""
        crew = batch.crew
        began = time.perf_counter()
        frame = self._frame(owned, crew, start, end, watermark=batch.watermark)
        live = self._stage == "live"
        true, abstain, failed = batch.true, batch.abstain, batch.failed
        rows, held = [], None
        if live:  # the suite's own answer comes first
            flagged: Bits = np.logical_or.reduce(true, axis=0)
            held = held_out(batch.decoded.ids, flagged, self._holdout)
            judgement = flagged & ~held
            fired = scored(crew.ids, true)
            rows = decisions(
                batch.decoded, fired, judgement.tolist(), held.tolist(), crew.revision, owned.partition,
                self._holdout,
            )  # fmt: skip
            self._count(judgement)
            true = np.vstack((judgement, true))
            abstain = np.vstack((np.zeros_like(judgement), abstain))
            failed = np.append(False, failed)
        votes = _split(frame, batch.decoded, true, abstain, failed, held)
        self._stage_time["encode"].observe(time.perf_counter() - began)
        began = time.perf_counter()
        for each in votes:
            place = await self._write_bytes(owned, each)
        if live:
            self.between()
            await self._answer(owned, rows, batch.decoded.bad)
        self._stage_time["produce"].observe(time.perf_counter() - began)
        return place

    async def _repeat(self, owned: Owned, votes: Votes, records: list[Any]) -> None:
        """Decide as recorded: no member is asked, no votes are written."""
        decoded = self._decode(owned, records)
        answered, fired, judgement, held = recorded(votes, decoded)
        rows = decisions(
            decoded.pick(answered), fired, judgement, held, votes.revision, owned.partition, votes.holdout
        )
        self._count(np.array(judgement, bool))
        self._metrics.replayed.inc(len(rows))
        await self._answer(owned, rows, decoded.bad)

    async def _answer(
        self, owned: Owned, rows: list[tuple[bytes, bytes]], bad: list[tuple[Any, BadRecord]]
    ) -> None:
        topic = self._topics.decisions
        letters = [dead_letter(record, error, self._name) for record, error in bad]
        send = self._sender(owned)
        await asyncio.gather(
            send.many(topic, owned.partition % self._partitions[topic], rows, lambda: owned.wanted),
            send.many(
                self._topics.dead_letters,
                owned.partition % self._partitions[self._topics.dead_letters],
                letters,
                lambda: owned.wanted,
            ),
        )
        for _, error in bad:
            self._metrics.dead_letters.labels(error.reason).inc()

    def _count(self, judgement: Bits) -> None:
        flagged = int(judgement.sum())
        self._metrics.decisions.labels("true").inc(flagged)
        self._metrics.decisions.labels("false").inc(len(judgement) - flagged)

    async def _write(self, owned: Owned, votes: Votes) -> int:
        return await self._write_bytes(owned, encode(votes))

    async def _write_bytes(self, owned: Owned, value: bytes) -> int:
        return await self._sender(owned).one(
            self._topics.votes,
            self.votes_partition(owned.partition),
            str(owned.partition).encode(),
            value,
            lambda: owned.wanted,
        )

    def show_watermarks(self, partitions: Iterable[Owned], members: Iterable[str] | None = None) -> None:
        """Bring the gauges up to date: a host stands at the least of the partitions that move.

        Where all are idle the furthest counts, as it does for evaluators (evaluator/watermarks.py).
        """
        known = [(value, o.idle_told) for o in partitions if (value := o.watermark.value) is not None]
        if known:
            moving = [value for value, idle in known if not idle]
            stands = min(moving) if moving else max(value for value, _ in known)
            for name in self._members if members is None else members:
                self._metrics.watermark.labels(name).set(stands / 1000)
                self._metrics.delay.labels(name).set(max(0.0, time.time() - stands / 1000))


def _split(
    frame: Votes, decoded: DecodedBatch, true: Bits, abstain: Bits, failed: Bits, held: Bits | None = None
) -> list[bytes]:
    """The record of a batch as msgpack, or its halves where that is more than a broker takes."""
    value = encode(build_votes(frame, decoded, true, abstain, failed, held))
    if len(value) <= MAX_BYTES or len(decoded) < 2:
        return [value]
    half = len(decoded) // 2
    middle = int(decoded.offsets[half])
    out = []
    for at, start, end in ((slice(0, half), frame.start, middle), (slice(half, None), middle, frame.end)):
        part = decoded.take(at.start, len(decoded) if at.stop is None else at.stop)
        piece = msgspec.structs.replace(frame, start=start, end=end)
        out += _split(piece, part, true[:, at], abstain[:, at], failed, None if held is None else held[at])
    return out
