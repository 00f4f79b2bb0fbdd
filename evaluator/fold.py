"""From log records to one update of one shard: pure functions, no Redis, no clock.

A shard is a fold of the log. What it must know to fold the next run of one log partition is in `ShardState`;
because a run is applied if and only if it begins where the last one ended, that state is a function of the
offset, and a copy of it here is right exactly when the script accepts the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import numpy as np

from evaluator.intervals import add, uncovered
from evaluator.keys import shard_of
from streams.labels import PlacedLabel
from streams.records import ABSTAINED, FAILED, SUITE, Origin, Votes


@dataclass(slots=True)
class ShardState:
    """What one shard is known to hold, as far as one log partition needs it."""

    applied: int = 0
    slots: dict[str, int] = field(default_factory=dict)
    coverage: dict[str, list[int]] = field(default_factory=dict)
    labels: dict[str, tuple[list[int], bool]] = field(default_factory=dict)
    letters: dict[str, list[int]] = field(default_factory=dict)
    watermarks: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """How time and ids are cut: durations in ms."""

    bucket: int
    generation: int
    shards: int = 1


@dataclass(slots=True)
class Update:
    """One run [start, end) of one log partition for one shard: the second argument of apply.lua."""

    log: str
    start: int
    end: int
    layout: Layout
    declare_gap: bool = False
    slots: dict[str, int] = field(default_factory=dict)
    sets: list[object] = field(default_factory=list)
    counts: dict[int, dict[bytes, int]] = field(default_factory=dict)
    hits: tuple[list[int], list[bytes], list[int], list[int], list[list[object]]] | None = None
    labels: tuple[list[bytes], list[int | bool], list[int], list[int], list[int], list[bytes]] | None = None

    def pack(self, nonce: bytes) -> bytes:
        """msgpack for the script."""
        counts: list[object] = []
        for bucket, fields in self.counts.items():
            counts += [bucket, [item for pair in fields.items() for item in pair]]
        slots = [item for pair in self.slots.items() for item in pair]
        packed: bytes = msgpack.packb(
            [
                self.log,
                self.start,
                self.end,
                self.declare_gap,
                nonce,
                self.layout.bucket,
                self.layout.generation,
                slots,
                self.sets,
                counts,
                self.hits or False,
                self.labels or False,
            ],
            use_bin_type=False,
        )
        return packed


def fold_votes(
    state: ShardState,
    shard: int,
    log: str,
    run: Sequence[tuple[int, Votes]],
    start: int,
    end: int,
    layout: Layout,
) -> tuple[Update, ShardState]:
    """The update that the votes records of [start, end) make, and the shard's state after it.

    Only what no earlier record of the log covers counts: the first record that covers (member, offset) wins,
    its Falses included. Records are (log offset, checked Votes), in order.
    """
    update = Update(log, start, end, layout)
    slots = dict(state.slots)
    coverage = dict(state.coverage)
    patterns = _Patterns(slots)
    generations: list[int] = []
    ids: list[bytes] = []
    times: list[int] = []
    which: list[int] = []
    counts: dict[int, dict[bytes, int]] = defaultdict(lambda: defaultdict(int))
    watermarks = dict(state.watermarks)
    votes_partition = log.partition(":")[2]
    for _, votes in run:
        for name in votes.members:
            if name != SUITE and name not in slots:
                slots[name] = len(slots)
            key = f"{votes.partition}|{name}"
            watermarks[key] = _later(watermarks.get(key), votes)
        size = votes.end - votes.start
        if size == 0:
            continue
        new = []
        for name in votes.members:
            key = f"{votes_partition}|{votes.partition}|{name}"
            old = coverage.get(key, [])
            fresh = uncovered(old, votes.start, votes.end)
            coverage[key] = add(old, votes.start, votes.end)
            new.append(_mask(fresh, votes.start, size))
        if votes.partition % layout.shards == shard:
            _count_positions(votes, new, layout.bucket, counts)
        for request_id, time, pattern in _hits(votes, new, patterns):
            if shard_of(request_id, layout.shards) == shard:
                generations.append(time // layout.generation)
                ids.append(request_id.encode())
                times.append(time)
                which.append(pattern)
    names = {name for _, votes in run for name in votes.members if name != SUITE}
    update.slots = {name: slots[name] for name in sorted(names, key=slots.__getitem__)}
    for key, intervals in coverage.items():
        if intervals is not state.coverage.get(key):
            update.sets += ["coverage", key, msgpack.packb(intervals)]
    for key, value in watermarks.items():
        if value != state.watermarks.get(key):
            update.sets += ["watermarks", key, msgpack.packb(value)]
    update.counts = {bucket: dict(fields) for bucket, fields in counts.items()}
    if ids:
        update.hits = (generations, ids, times, which, patterns.table)
    return update, replace(state, applied=end, slots=slots, coverage=coverage, watermarks=watermarks)


def _later(old: list[Any] | None, votes: Votes) -> list[Any]:
    """How far a member is in a partition: [end offset, watermark, idle, partitions, revision].

    The record that reaches furthest says so; one that scores an older part again does not take it back.
    """
    if old is not None and votes.end < old[0]:
        return old
    watermark = votes.watermark if votes.watermark is not None or old is None else old[1]
    return [votes.end, watermark, votes.idle, votes.partitions, votes.revision]


class _Patterns:
    """Distinct (true mask, abstain mask, segment, revision, answered, live, held out), in slot space."""

    def __init__(self, slots: dict[str, int]) -> None:
        self.slots = slots
        self.table: list[list[object]] = []
        self._index: dict[tuple[object, ...], int] = {}

    def index(self, votes: Votes, true: int, abstain: int, segment: int, held: bool) -> int:
        live = votes.stage == "live"
        answered = bool(true & 1) and votes.members[0] == SUITE
        yes, no = self._mask(votes.members, true), self._mask(votes.members, abstain)
        parts = votes.segments[segment] if segment < len(votes.segments) else []
        key = (yes, no, "\x1f".join(parts), votes.revision, answered, live, held)
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self.table)
            self.table.append([yes, no, key[2].encode(), votes.revision, answered, live, held])
        return found

    def _mask(self, members: Sequence[str], bits: int) -> bytes:
        """Bits over the record's own members → a byte string over slots, without trailing zeros."""
        out = 0
        for i, name in enumerate(members):
            if bits >> i & 1 and name != SUITE:
                out |= 1 << self.slots[name]
        return out.to_bytes((out.bit_length() + 7) // 8, "little")


def _mask(fresh: Sequence[int], start: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | bool:
    """True: all positions are new; False: none is; else bool[size]."""
    if not fresh:
        return False
    if fresh[0] == start and fresh[1] == start + size:
        return True
    mask = np.zeros(size, dtype=np.bool_)
    for low, high in zip(fresh[::2], fresh[1::2], strict=True):
        mask[low - start : high - start] = True
    return mask


def _count_positions(
    votes: Votes,
    new: Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]] | bool],
    bucket_ms: int,
    counts: dict[int, dict[bytes, int]],
) -> None:
    """Adds volume, scored, abstained and failed of the new positions, per bucket."""
    whole: dict[int, int] = defaultdict(int)
    for n, time in zip(votes.runs[::3], votes.runs[1::3], strict=True):
        if time >= 0:
            whole[time - time % bucket_ms] += n
    spread: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
    for member, mask, states in zip(votes.members, new, votes.states, strict=True):
        if mask is False:
            continue
        scored = b"v" if member == SUITE else b"s" + member.encode()
        if mask is True and not states:
            for bucket, n in whole.items():
                counts[bucket][scored] += n
            continue
        if spread is None:
            spread = np.repeat(
                np.array([t - t % bucket_ms if t >= 0 else -1 for t in votes.runs[1::3]], dtype=np.int64),
                votes.runs[::3],
            )
        fresh = spread >= 0 if mask is True else mask & (spread >= 0)
        _tally(counts, scored, spread[fresh])
        if states:
            code = np.repeat(np.array(states[1::2]), states[::2])
            _tally(counts, b"a" + member.encode(), spread[fresh & (code >= ABSTAINED)])
            _tally(counts, b"e" + member.encode(), spread[fresh & (code == FAILED)])


def _tally(
    counts: dict[int, dict[bytes, int]], name: bytes, buckets: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> None:
    for bucket, n in zip(*(a.tolist() for a in np.unique(buckets, return_counts=True)), strict=True):
        counts[bucket][name] += n


def _hits(
    votes: Votes, new: Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]] | bool], patterns: _Patterns
) -> Iterable[tuple[str, int, int]]:
    """(request id, event time, pattern index) of every position where a new vote is True."""
    width = (len(votes.members) + 7) // 8
    segments: list[int] | None = None
    if len(votes.segments) > 1 and votes.hits:
        spread = np.repeat(np.array(votes.runs[2::3]), votes.runs[::3])
        segments = spread[np.array(votes.hits)].tolist()
    everything = all(mask is True for mask in new)
    let_through = frozenset(votes.held)
    memo: dict[tuple[bytes, bytes, int, int, bool], int] = {}
    true, abstain = votes.true, votes.abstain
    for i, position in enumerate(votes.hits):
        keep = -1
        if not everything:
            keep = sum(
                1 << m for m, mask in enumerate(new) if mask is True or (mask is not False and mask[position])
            )
        at = i * width
        held = position in let_through and bool(keep & 1)
        key = (true[at : at + width], abstain[at : at + width], segments[i] if segments else 0, keep, held)
        pattern = memo.get(key)
        if pattern is None:
            bits = int.from_bytes(key[0], "little") & keep
            pattern = -1
            if bits & ~1 if votes.members[0] == SUITE else bits:
                pattern = patterns.index(votes, bits, int.from_bytes(key[1], "little") & keep, key[2], held)
            memo[key] = pattern
        if pattern >= 0:
            yield votes.ids[i], votes.times[i], pattern


def fold_labels(
    state: ShardState,
    shard: int,
    log: str,
    run: Sequence[tuple[int, PlacedLabel]],
    start: int,
    end: int,
    layout: Layout,
    *,
    drained: bool,
    keep: int,
) -> tuple[Update, ShardState]:
    """The update that the labels of [start, end) make, and the shard's state after it.

    `drained` says that there is nothing more to read at `end`; of the greatest `labelled_at` the first `keep`
    are kept, so that one that leaps ahead can wait until others agree with it.
    """
    update = Update(log, start, end, layout)
    partition = log.partition(":")[2]
    greatest, was_drained = state.labels.get(partition, ([], False))
    mine = [label for _, label in run if shard_of(label.request_id, layout.shards) == shard]
    tops = sorted([*greatest, *(label.labelled_at for _, label in run)], reverse=True)[:keep]
    labels = state.labels
    # What is drained does not follow from the offset: a store that was made anew meanwhile may not know it.
    said = drained == was_drained and partition in state.labels and not (drained and start == end)
    if tops != greatest or not said:
        update.sets = ["labels", partition, msgpack.packb([tops, drained])]
        labels = {**state.labels, partition: (tops, drained)}
    if mine:
        update.labels = (
            [label.request_id.encode() for label in mine],
            [label.requested_at if label.requested_at is not None else False for label in mine],
            [label.label for label in mine],
            [label.revision for label in mine],
            [label.labelled_at for label in mine],
            [label.source.encode() for label in mine],
        )
    return update, replace(state, applied=end, labels=labels)


def fold_letters(
    state: ShardState, log: str, run: Sequence[tuple[int, Origin]], start: int, end: int, layout: Layout
) -> tuple[Update, ShardState]:
    """The update that dead letters make: each origin counts once, however often it was sent."""
    update = Update(log, start, end, layout)
    letters = dict(state.letters)
    partition = log.partition(":")[2]
    for _, origin in run:
        key = f"{partition}|{origin.topic}|{origin.partition}"
        letters[key] = add(letters.get(key, []), origin.offset, origin.offset + 1)
    for key, intervals in letters.items():
        if intervals != state.letters.get(key):
            update.sets += ["letters", key, msgpack.packb(intervals)]
    return update, replace(state, applied=end, letters=letters)
