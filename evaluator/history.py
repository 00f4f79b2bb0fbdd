"""Reading the store: a picture of it that is refreshed by what has changed since."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack
from redis.exceptions import RedisError

from evaluator.cells import Bucket, Cells, join, parse_bucket
from evaluator.fold import Layout
from evaluator.intervals import size
from evaluator.registry_view import read_view
from evaluator.store import Store, pairs, read_meta
from evaluator.watermarks import Progress, labels_through, member_watermark
from members.registry.lifecycle import Registry
from streams.connect import RedisClient
from streams.errors import Unavailable
from streams.records import SUITE
from streams.suite import Suite

T = TypeVar("T")

_AT_ONCE = 500  # buckets asked for in one pipeline


@dataclass(slots=True)
class Shard:
    """One shard as last read."""

    applied: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    progress: dict[str, list[Progress]] = field(default_factory=dict)
    labels: dict[str, tuple[list[int], bool]] = field(default_factory=dict)
    letters: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    versions: dict[int, bytes] = field(default_factory=dict)
    pending: int = 0
    delays: dict[tuple[int, int, int], int] = field(default_factory=dict)
    buckets: dict[int, Bucket] = field(default_factory=dict)


class History:
    """What the store holds of one suite. `await refresh()` brings it up to date; the rest is arithmetic."""

    def __init__(self, client: RedisClient, suite: str) -> None:
        self.client, self.suite = client, suite
        self.layout: Layout | None = None
        self.shards: list[Shard] = []
        #: as the store has it; None where nobody has registered anything
        self.registry: Registry | None = None
        self._current: tuple[Registry, Suite, Suite] | None = None
        self._remembered: tuple[Hashable, int, Any, float, float] | None = None

    async def refresh(self, *, buckets: bool = True) -> bool:
        """Read what has changed; False where the suite has no store yet. Raises Unavailable."""
        self.registry = await read_view(self.client, self.suite, self.registry)
        meta = await read_meta(self.client, self.suite)
        if not meta:
            self.layout, self.shards = None, []
            return False
        layout = Layout(meta["bucket"], meta["generation"], meta["shards"])
        if layout != self.layout:
            self.layout, self.shards = layout, [Shard() for _ in range(layout.shards)]
        store = Store(self.client, self.suite, layout)
        for number in store.shards:
            await self._refresh(store, number, buckets=buckets)
        return True

    async def _refresh(self, store: Store, number: int, *, buckets: bool) -> None:
        shard = self.shards[number]
        (
            applied,
            slots,
            watermarks,
            labels,
            letters,
            counters,
            versions,
            _,
            pending,
            delays,
        ) = await store.read(number)
        unpack = msgpack.unpackb
        shard.applied = {k: int(v) for k, v in pairs(applied).items()}
        shard.slots = {k: int(v) for k, v in pairs(slots).items()}
        shard.progress = {}
        for key, value in pairs(watermarks).items():
            shard.progress.setdefault(key.partition("|")[2], []).append(Progress(*unpack(value)))
        shard.labels = {k: (v[0], v[1]) for k, packed in pairs(labels).items() if (v := unpack(packed))}
        shard.letters = sum(size(unpack(v)) for v in pairs(letters).values())
        shard.counters = {k: int(v) for k, v in pairs(counters).items()}
        shard.pending = int(pending)
        shard.delays = {
            (int(generation), int(label), int(bin_)): int(n)
            for key, n in pairs(delays).items()
            for generation, label, bin_ in [key.split("|")]
        }
        fresh = {int(k): v for k, v in pairs(versions).items()}
        if not buckets:
            return
        changed = [start for start, token in fresh.items() if shard.versions.get(start) != token]
        prefix = store.prefix(number)
        for at in range(0, len(changed), _AT_ONCE):
            some = changed[at : at + _AT_ONCE]
            try:
                pipe = self.client.pipeline(transaction=False)
                for start in some:
                    pipe.hgetall(f"{prefix}b:{start}")
                contents = await pipe.execute()
            except (RedisError, OSError) as error:
                raise Unavailable(f"Redis did not answer: {error}") from error
            for start, content in zip(some, contents, strict=True):
                shard.buckets[start] = parse_bucket(start, content)
        for start in shard.buckets.keys() - fresh.keys():
            del shard.buckets[start]
        shard.versions = fresh

    def current(self, declared: Suite) -> Suite:
        """The suite file's settings with the members that are registered now, or with its own."""
        if self.registry is None:
            return declared
        if self._current is None or self._current[0] is not self.registry or self._current[1] is not declared:
            self._current = (self.registry, declared, self.registry.suite(declared))
        return self._current[2]

    def remember(self, scope: Hashable, key: int, compute: Callable[[], T]) -> T:
        """`compute()`, or what it gave a moment ago: it has a tenth of the time, a quarter for a new key.

        For what is read again and again, such as a live table; a reader that looks once always computes. What
        was computed for another `scope` is never given.
        """
        now = time.monotonic()
        if self._remembered is not None:
            asked, old, value, done, cost = self._remembered
            if asked == scope and now - done < (9 if old == key else 3) * cost:
                found: T = value
                return found
        value = compute()
        done = time.monotonic()
        self._remembered = (scope, key, value, done, done - now)
        return value

    def cells(self, ids: Sequence[str], first: int = 0) -> Cells:
        """The histogram from the instant `first` (ms) on, over the members `ids`."""
        return join(
            [(s.slots, [b for t, b in s.buckets.items() if t >= first]) for s in self.shards],
            ids,
        )

    def watermark(self, member: str) -> int | None:
        """The member's watermark in ms: the least over the shards, each being a fold of its own."""
        marks = [member_watermark(shard.progress.get(member, [])) for shard in self.shards]
        return None if None in marks else min((m for m in marks if m is not None), default=None)

    def labels_through(self, leap: int) -> int | None:
        """How far label consumption has come, in ms of `labelled_at`."""
        marks = [labels_through(shard.labels, leap) for shard in self.shards]
        return None if None in marks else min((m for m in marks if m is not None), default=None)

    def delays(self) -> dict[tuple[int, int, int], int]:
        """(start of the event day in ms, label, bin of its delay) → labels."""
        assert self.layout is not None
        out: dict[tuple[int, int, int], int] = {}
        for shard in self.shards:
            for (generation, label, bin_), n in shard.delays.items():
                key = (generation * self.layout.generation, label, bin_)
                out[key] = out.get(key, 0) + n
        return out

    @property
    def revision(self) -> int:
        """The suite revision that the live host last stamped; 0 before it did."""
        return max((p.revision for s in self.shards for p in s.progress.get(SUITE, [])), default=0)

    @property
    def known(self) -> set[str]:
        """Every member that the store has a slot for."""
        return {name for shard in self.shards for name in shard.slots}

    def counters(self) -> Mapping[str, int]:
        """dead_letters (by origin), pending_labels, late, gaps, gap_records, expired_labels."""
        # Dead letters and gaps are folded whole into every shard; the furthest one has them all.
        whole = {name: [s.counters.get(name, 0) for s in self.shards] for name in ("gaps", "gap_records")}
        parts = {name: [s.counters.get(name, 0) for s in self.shards] for name in ("late", "expired_labels")}
        return {
            "dead_letters": max((shard.letters for shard in self.shards), default=0),
            "pending_labels": sum(shard.pending for shard in self.shards),
            **{name: sum(counts) for name, counts in parts.items()},
            **{name: max(counts, default=0) for name, counts in whole.items()},
        }
