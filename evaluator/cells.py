"""The histogram as columns: what every figure is computed from. Pure; its size is the number of patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

#: Parts of a cell's state: the label's code (0 none, 1 positive, 2 negative), and three bits. ANSWERED: the
#: suite acted on it; HELD: it would have, but let the request through on purpose.
LABEL, ANCHORED, ANSWERED, HELD = 3, 4, 8, 16
STATES = 32


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of one shard. Counts are of requests for cells, of positions for the rest."""

    start: int
    patterns: list[tuple[int, int, str, int]]  # true bits, abstain bits (over slots), segment, revision
    state: NDArray[np.int64]
    count: NDArray[np.int64]
    volume: int
    scored: dict[str, int]
    abstained: dict[str, int]
    failed: dict[str, int]


def parse_bucket(start: int, content: Mapping[bytes, bytes]) -> Bucket:
    """A bucket's hash, as apply.lua writes it."""
    patterns, states, counts = [], [], []
    positions: dict[bytes, dict[str, int]] = {b"s": {}, b"a": {}, b"e": {}}
    volume = 0
    for name, value in content.items():
        kind = name[:1]
        if kind == b"h":
            unpacker = msgpack.Unpacker(raw=True)
            unpacker.feed(name[1:])
            yes, no, segment, revision, state = unpacker
            patterns.append(
                (int.from_bytes(yes, "little"), int.from_bytes(no, "little"), segment.decode(), revision)
            )
            states.append(state)
            counts.append(int(value))
        elif kind == b"v":
            volume = int(value)
        else:
            positions[kind][name[1:].decode()] = int(value)
    return Bucket(
        start,
        patterns,
        np.array(states, dtype=np.int64),
        np.array(counts, dtype=np.int64),
        volume,
        positions[b"s"],
        positions[b"a"],
        positions[b"e"],
    )


@dataclass(frozen=True, slots=True)
class Cells:
    """Columns over c cells, B buckets, P patterns and the M members of `ids` (their order is the columns').

    bucket: int64[c] index into `starts`; pattern: int64[c] row of `yes`; state, count: int64[c];
    yes, no: bool[P, M], which members voted True and which abstained; segment: str per pattern;
    revision: int64[P]; starts: int64[B] ms, ascending; volume: int64[B];
    scored, abstained, failed: int64[B, M] positions.
    """

    ids: list[str]
    bucket: NDArray[np.int64]
    pattern: NDArray[np.int64]
    state: NDArray[np.int64]
    count: NDArray[np.int64]
    yes: NDArray[np.bool_]
    no: NDArray[np.bool_]
    segment: list[str]
    revision: NDArray[np.int64]
    starts: NDArray[np.int64]
    volume: NDArray[np.int64]
    scored: NDArray[np.int64]
    abstained: NDArray[np.int64]
    failed: NDArray[np.int64]


def join(shards: Sequence[tuple[Mapping[str, int], Sequence[Bucket]]], ids: Sequence[str]) -> Cells:
    """The buckets of all shards (each with its own slots) as one table over the members `ids`."""
    starts = sorted({bucket.start for _, buckets in shards for bucket in buckets})
    row = {start: i for i, start in enumerate(starts)}
    column = {name: i for i, name in enumerate(ids)}
    volume = np.zeros(len(starts), dtype=np.int64)
    positions = np.zeros((3, len(starts), len(ids)), dtype=np.int64)
    table: dict[tuple[Any, ...], int] = {}
    bucket_of: list[NDArray[np.int64]] = []
    pattern_of: list[int] = []
    states: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.int64]] = []
    for shard, (_, buckets) in enumerate(shards):
        for bucket in buckets:
            i = row[bucket.start]
            volume[i] += bucket.volume
            for kind, numbers in enumerate((bucket.scored, bucket.abstained, bucket.failed)):
                for name, n in numbers.items():
                    if name in column:
                        positions[kind, i, column[name]] += n
            bucket_of.append(np.full(len(bucket.patterns), i, dtype=np.int64))
            pattern_of += [table.setdefault((shard, *key), len(table)) for key in bucket.patterns]
            states.append(bucket.state)
            counts.append(bucket.count)
    slots = [[(slot, column[name]) for name, slot in names.items() if name in column] for names, _ in shards]
    yes = np.zeros((len(table), len(ids)), dtype=np.bool_)
    no = np.zeros((len(table), len(ids)), dtype=np.bool_)
    for key, p in table.items():
        for slot, m in slots[key[0]]:
            yes[p, m] = key[1] >> slot & 1
            no[p, m] = key[2] >> slot & 1
    return Cells(
        list(ids),
        _concatenate(bucket_of),
        np.array(pattern_of, dtype=np.int64),
        _concatenate(states),
        _concatenate(counts),
        yes,
        no,
        [key[3] for key in table],
        np.array([key[4] for key in table], dtype=np.int64),
        np.array(starts, dtype=np.int64),
        volume,
        *positions,
    )


def _concatenate(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
