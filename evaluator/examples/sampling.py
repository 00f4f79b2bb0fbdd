"""Which hits are kept as examples: pure; votes records in, offers to the store out.

Of each generation and member the hits with the least scores are kept (a bottom-k sample). A score follows
from the request id. So the sample does not depend on the order of the log, on repetitions, or on who reads
it; and two members that flagged one request keep the same one, and its features are read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from zlib import crc32

import msgpack
import numpy as np
from numpy.typing import NDArray

from evaluator.fold import Layout
from streams.records import SUITE, Votes
from streams.votes import unpack_masks

U64 = NDArray[np.uint64]
#: (shard, generation, member)
Place = tuple[int, int, str]

#: Generations of which the limits are remembered; to forget one costs some offers that change nothing.
_REMEMBERED = 64


class Hit(NamedTuple):
    """One request that was flagged: event time in epoch ms, and where it is on `requests`."""

    id: str
    time: int
    partition: int
    offset: int

    def pack(self) -> bytes:
        """As it stands in Redis."""
        packed: bytes = msgpack.packb(self)
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Hit:
        """The reverse of `pack`."""
        return cls(*msgpack.unpackb(packed))


def scores(crcs: U64, generations: U64, key: int) -> NDArray[np.float64]:
    """float64[n] in [0, 1): CRC-32 of the ids, mixed with their generation and a key of 32 bits."""
    with np.errstate(over="ignore"):
        seed = _mix(generations * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key))
        return (_mix(crcs ^ seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: U64) -> U64:
    """The finalizer of splitmix64: every bit of the input turns about half of the output over."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def least(hits: Mapping[bytes, float], k: int) -> dict[bytes, float]:
    """The k hits with the least scores; ties are broken as Redis does in its sorted sets, by their bytes."""
    if len(hits) <= k:
        return dict(hits)
    return dict(sorted(hits.items(), key=lambda item: (item[1], item[0]))[:k])


class Sieve:
    """Lets those hits through that may change a sample of `k` per shard, generation and member.

    A score is in [0, 1) where the member may be the only live one that flagged the request, and one more
    otherwise, so that these come last. What the sieve remembers are limits, which only save work: a hit above
    one cannot be among the least k any more.
    """

    def __init__(self, suite: str, layout: Layout, k: int) -> None:
        self.k, self._layout, self._key = k, layout, crc32(suite.encode())
        self._limits: dict[int, dict[str, NDArray[np.float64]]] = {}
        self._none = np.full(layout.shards, np.inf)

    def forget(self) -> None:
        """The store may have lost what the limits came from."""
        self._limits.clear()

    def learn(self, place: Place, limit: float) -> None:
        """The k-th least score of a sample is `limit` now."""
        shard, generation, member = place
        row = self._of(generation).setdefault(member, self._none.copy())
        row[shard] = min(row[shard], limit)

    def offers(self, run: Iterable[Votes]) -> dict[Place, dict[bytes, float]]:
        """Packed hits with their scores, at most k for each sample that they may change."""
        out: dict[Place, dict[bytes, float]] = {}
        for votes in run:
            if votes.hits:
                self._sift(votes, out)
        return {place: least(hits, self.k) for place, hits in out.items()}

    def _sift(self, votes: Votes, out: dict[Place, dict[bytes, float]]) -> None:
        n = len(votes.hits)
        crcs = np.fromiter([crc32(id_.encode()) for id_ in votes.ids], np.uint64, n)
        generations = np.array(votes.times, np.int64) // self._layout.generation
        score = scores(crcs, generations.astype(np.uint64), self._key)
        shards = (crcs % np.uint64(self._layout.shards)).astype(np.int64)
        live = int(votes.members[0] == SUITE)
        names = votes.members[live:]
        true = unpack_masks(votes.true, len(votes.members))[:, live:]
        if live:  # a shadow's record does not say what the live members voted: each hit may be its own
            score += true.sum(axis=1) > 1
        for generation in {int(generations.min()), int(generations.max()), *_between(generations)}:
            known = self._of(generation)
            limits = np.array([known.get(name, self._none) for name in names])  # [members, shards]
            low = score <= limits.max(axis=0, initial=-1.0)[shards]
            some = np.flatnonzero(low & (generations == generation))
            through = true[some] & (score[some, None] <= limits[:, shards[some]].T)
            rows, columns = np.nonzero(through)
            packed: dict[int, bytes] = {}
            for i, member in zip(some[rows].tolist(), columns.tolist(), strict=True):
                if i not in packed:
                    offset = votes.start + votes.hits[i]
                    packed[i] = Hit(votes.ids[i], votes.times[i], votes.partition, offset).pack()
                place = (int(shards[i]), generation, names[member])
                self._put(place, packed[i], float(score[i]), out)

    def _put(self, place: Place, hit: bytes, score: float, out: dict[Place, dict[bytes, float]]) -> None:
        hits = out.setdefault(place, {})
        hits[hit] = min(score, hits.get(hit, score))
        if len(hits) >= 4 * self.k:  # k better ones in this very run are as good as k in the store
            hits = out[place] = least(hits, self.k)
            self.learn(place, max(hits.values()))

    def _of(self, generation: int) -> dict[str, NDArray[np.float64]]:
        if generation not in self._limits and len(self._limits) >= _REMEMBERED:
            del self._limits[next(iter(self._limits))]
        return self._limits.setdefault(generation, {})


def _between(generations: NDArray[np.int64]) -> list[int]:
    first, last = generations.min(), generations.max()
    found: list[int] = np.unique(generations).tolist() if last - first > 1 else []
    return found
