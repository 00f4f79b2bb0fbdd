"""One log partition on its way into the store: decode, dead letters, fold, apply, and where to go on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec

from evaluator.examples.sampler import Sampler
from evaluator.fold import ShardState, Update, fold_labels, fold_letters, fold_votes
from evaluator.store import Store
from streams import votes as votes_codec
from streams.errors import BadRecord
from streams.labels import decode_labels
from streams.metrics import EvaluatorMetrics
from streams.records import SUITE, DeadLetter, Votes
from streams.settings import Settings
from streams.suite import Suite

log = logging.getLogger("chorus.evaluator")

VOTES, LABELS, LETTERS = "votes", "labels", "dead-letters"
#: Updates that one call of the script takes: it blocks the server while it runs.
_RUN = {VOTES: 2000, LABELS: 1000, LETTERS: 1000}
#: No host writes a batch over more positions than this.
_LONGEST = 10_000_000

SendLetter = Callable[[Any, BadRecord], Awaitable[None]]
#: The members that there are; it may look again where it does not know one of those it is asked about.
Known = Callable[[Collection[str]], Awaitable[set[str]]]
_decode_letter = msgspec.json.Decoder(DeadLetter).decode


class LogPartition:
    """Folds one partition of one topic into every shard.

    `position` is the next log offset to read. Nothing else of it must survive: what is folded stands in the
    shards, and where one of them stands elsewhere than was thought, it is believed.
    """

    def __init__(
        self,
        kind: str,
        number: int,
        partitions: int,
        store: Store,
        suite: Suite,
        settings: Settings,
        metrics: EvaluatorMetrics,
        send_letter: SendLetter,
        known: Known,
    ) -> None:
        self.kind, self.number, self.partitions = kind, number, partitions
        self.log = f"{kind}:{number}"
        self.position = 0
        self.drained = False
        self._store, self._suite, self._settings = store, suite, settings
        self._metrics, self._send_letter, self._known = metrics, send_letter, known
        self._states: list[ShardState] = []
        per_day = settings.examples.per_day if kind == VOTES else 0
        self._sampler = Sampler(store, per_day) if per_day else None

    async def load(self) -> int:
        """Ask every shard where it stands; the position is the least. Raises Unavailable."""
        if self._sampler:
            self._sampler.forget()
        self._states = [await self._store.load(shard, self.log) for shard in self._store.shards]
        self.position = min(state.applied for state in self._states)
        return self.position

    async def apply(self, records: Sequence[Any], end: int) -> bool:
        """Fold the records of [position, end); False where a shard stands before `position`.

        Then the position is where to read on from. Raises Unavailable; `load` before going on after that.
        """
        self.drained = False
        run, bad = await self._decode(records)
        for record, error in bad:  # 1. bad records are safe before the run counts as read
            await self._send_letter(record, error)
        if self._sampler:  # 2. examples, which nothing that dies before 3. can leave out
            await self._sampler.take(votes for _, votes in run)
        start = self.position
        for part, stop in self._cut(run, end):
            for shard in self._store.shards:  # 3. every shard, in pieces that do not hold the server up
                if not await self._apply(shard, part, start, stop):
                    return False
            start = self.position = stop
        self._metrics.applied.labels(self.kind).inc(len(records))
        self._metrics.batch.labels(self.kind).observe(len(records))
        return True

    async def beat(self, *, drained: bool) -> bool:
        """An empty run, so that a store that has lost writes is noticed; False where one has.

        `drained` says that there is nothing more to read.
        """
        self.drained = drained
        for shard in self._store.shards:
            if not await self._apply(shard, [], self.position, self.position):
                return False
        return True

    async def skip_to(self, beginning: int) -> None:
        """Retention has cut the log before `beginning`: declare the gap and go on from there."""
        for shard, state in enumerate(self._states):
            if state.applied < beginning:
                log.error(
                    "%s is cut: the records %d to %d are gone before they were read; "
                    "keep the topic longer, or read it sooner",
                    self.log,
                    state.applied,
                    beginning - 1,
                )
                gap = Update(self.log, beginning, beginning, self._store.layout, declare_gap=True)
                await self._store.apply(shard, gap)
        await self.load()

    async def _apply(self, shard: int, run: Sequence[tuple[int, Any]], start: int, end: int) -> bool:
        state = self._states[shard]
        while True:
            if state.applied < start:
                self.position = state.applied
                return False
            if state.applied > end or (state.applied == end and start < end):
                return True  # another evaluator has been here
            rest = [item for item in run if item[0] >= state.applied] if state.applied > start else run
            update, after = self._fold(state, shard, rest, state.applied, end)
            with self._metrics.apply.time():
                refused = await self._store.apply(shard, update)
            if refused is None:
                self._states[shard] = after
                return True
            self._metrics.refusals.inc()
            if self._sampler:
                self._sampler.forget()
            state = self._states[shard] = await self._store.load(shard, self.log)

    def _fold(
        self, state: ShardState, shard: int, run: Sequence[tuple[int, Any]], start: int, end: int
    ) -> tuple[Update, ShardState]:
        layout = self._store.layout
        if self.kind == VOTES:
            return fold_votes(state, shard, self.log, run, start, end, layout)
        if self.kind == LETTERS:
            return fold_letters(state, self.log, run, start, end, layout)
        keep = self._settings.host.agree + 1
        return fold_labels(state, shard, self.log, run, start, end, layout, drained=self.drained, keep=keep)

    def _cut(self, run: list[tuple[int, Any]], end: int) -> list[tuple[list[tuple[int, Any]], int]]:
        """The run in pieces of bounded work, with the offset at which each ends."""
        pieces: list[tuple[list[tuple[int, Any]], int]] = []
        part: list[tuple[int, Any]] = []
        work = 0
        for offset, item in run:
            size = len(item.hits) if isinstance(item, Votes) else 1
            if part and work + size > _RUN[self.kind]:
                pieces.append((part, offset))
                part, work = [], 0
            part.append((offset, item))
            work += size
        return [*pieces, (part, end)]

    async def _decode(
        self, records: Sequence[Any]
    ) -> tuple[list[tuple[int, Any]], list[tuple[Any, BadRecord]]]:
        if self.kind == LABELS:
            good, wrong = decode_labels(records, self._settings.limits)
            return list(good), wrong
        run: list[tuple[int, Any]] = []
        bad: list[tuple[Any, BadRecord]] = []
        for record in records:
            try:
                if self.kind == LETTERS:
                    run.append((record.offset, _decode_letter(record.value or b"").origin))
                    continue
                votes = self._votes(record.value)
                there = self._states[0].slots.keys() | {SUITE}
                unknown = [name for name in votes.members if name not in there]
                if unknown:
                    known = await self._known(unknown)
                    unknown = [name for name in unknown if name not in known]
                if unknown:
                    detail = f"{', '.join(unknown)}: neither registered nor in the suite file"
                    bad.append((record, BadRecord("unknown_member", detail)))
                    rest = votes_codec.without(votes, unknown)
                    if rest is None:
                        continue
                    votes = rest
                run.append((record.offset, votes))
            except BadRecord as error:
                bad.append((record, error))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                # A dead letter that nobody can read: writing another one about it would never end.
                log.warning("%s %d is not a dead letter; it is left out", record.topic, record.offset)
        return run, bad

    def _votes(self, value: bytes | None) -> Votes:
        votes = votes_codec.decode(value)
        if votes.end - votes.start > _LONGEST:
            raise BadRecord("bad_votes", f"{votes.end - votes.start} positions in one record")
        if self._suite.bucket % votes.bucket:
            raise BadRecord(
                "bad_votes", f"buckets of {votes.bucket} ms; the suite's are {self._suite.bucket}"
            )
        if votes.partition % self.partitions != self.number:
            raise BadRecord("bad_votes", f"requests partition {votes.partition} does not belong here")
        return votes
