"""The Lua script against a recount in plain Python: any interleaving, repetition, overlap, loss."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import msgpack
import pytest
import redis.asyncio as aioredis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluator.fold import Layout, Update, fold_labels, fold_votes
from evaluator.store import Refused, Store, ensure_meta
from streams.errors import StoreError
from streams.labels import PlacedLabel
from streams.records import SUITE, Votes
from tests.evaluator.reference import BUCKET, ERA, GENERATION, recount


def make_votes(
    rng: Random, ids: list[str], members: list[str], partition: int, end: int, *, live: bool
) -> Votes:
    """One record of a host over some run of offsets before `end`, its members answering at random."""
    start = rng.randrange(end)
    stop = rng.randint(start + 1, end)
    names = ([SUITE] if live else []) + rng.sample(members, rng.randint(1, len(members)))
    runs, states, hits, times, seen, true, abstain = [], [[] for _ in names], [], [], [], b"", b""
    held = []
    segments = [[""], ["UA"], ["AA"]]
    width = (len(names) + 7) // 8
    for position in range(stop - start):
        # What stands at an offset is the same whoever reads it; how members answer is not.
        place = Random(partition * 1_000 + start + position)
        request = place.choice(ids)
        time = era_of(request) * ERA + place.randint(-3, 3) * 7_000_000
        segment = place.randrange(3)
        if place.random() < 0.1:
            runs += [1, -1, 0]
            for flat in states:
                flat += [1, 0]
            continue
        runs += [1, time - time % BUCKET, segment]
        yes = no = 0
        for m, flat in enumerate(states):
            state = rng.choice([0, 0, 0, 1, 2]) if names[m] != SUITE else 0
            flat += [1, state]
            if state:
                no |= 1 << m
            elif rng.random() < 0.3:
                yes |= 1 << m
        if live:
            yes = yes & ~1
            if yes and rng.random() < 0.3:
                held.append(position)
            elif yes:
                yes |= 1
        if yes:
            hits.append(position)
            seen.append(request)
            times.append(time)
            true += yes.to_bytes(width, "little")
            abstain += no.to_bytes(width, "little")
    return Votes(
        1, "live" if live else "shadow", "host", partition, 2, start, stop, rng.randint(1, 3), BUCKET,
        names, segments, runs, states, hits, seen, times, true, abstain, rng.randint(0, 9), False, "", held,
    )  # fmt: skip


def era_of(request: str) -> int:
    return 1 + int(request[1:]) % 2


def make_label(rng: Random, ids: list[str]) -> PlacedLabel:
    request = rng.choice([*ids, "n8", "n9"])
    time = era_of(request) * ERA + rng.randint(-3, 3) * 7_000_000
    return PlacedLabel(
        request, rng.choice([1, 2, 3]), time + rng.randint(0, 2) * GENERATION,
        rng.choice(["", "a", "é", "zz"]), rng.randint(0, 2), time if rng.random() < 0.6 else None,
    )  # fmt: skip


async def observe(store: Store) -> dict:
    """What a reader finds, in the words of the recount."""
    cells: Counter = Counter()
    positions: Counter = Counter()
    delays: Counter = Counter()
    pending = 0
    for shard in store.shards:
        answer = await store.read(shard)
        slots = {int(answer[1][i + 1]): answer[1][i].decode() for i in range(0, len(answer[1]), 2)}
        pending += answer[8]
        for i in range(0, len(answer[6]), 2):
            bucket = int(answer[6][i])
            content = await store.client.hgetall(f"{store.prefix(shard)}b:{bucket}")
            for name, count in content.items():
                assert int(count) != 0
                if not name.startswith(b"h"):
                    positions[bucket, name.decode()] += int(count)
                    continue
                unpacker = msgpack.Unpacker(raw=True)
                unpacker.feed(name[1:])
                yes, no, segment, revision, state = unpacker
                key = (_names(yes, slots), _names(no, slots), segment.decode(), revision, state % 4)
                cells[bucket, (*key, bool(state & 4), bool(state & 8), bool(state & 16))] += int(count)
        for i in range(0, len(answer[9]), 2):
            delays[tuple(map(int, answer[9][i].split(b"|")))] += int(answer[9][i + 1])
    return {"cells": cells, "positions": positions, "pending": pending, "delays": delays}


def _names(mask: bytes, slots: dict[int, str]) -> frozenset[str]:
    bits = int.from_bytes(mask, "little")
    return frozenset(name for slot, name in slots.items() if bits >> slot & 1)


class Reader:
    """An evaluator reduced to its rule: go on from where each shard says that it stands."""

    def __init__(self, store: Store, votes: dict, labels: dict) -> None:
        self.store, self.votes, self.labels = store, votes, labels
        self.memory: dict = {}  # what it believes of each shard; may be wrong after a loss

    async def step(self, shard: int, log: str, length: int) -> bool:
        """Fold up to `length` records more; False at the end of the log."""
        key = (shard, log)
        if key not in self.memory:
            self.memory[key] = await self.store.load(shard, log)
        state = self.memory[key]
        records = (self.votes if log.startswith("votes") else self.labels)[log]
        start, end = state.applied, min(state.applied + length, len(records))
        run = [(offset, records[offset]) for offset in range(start, end)]
        if log.startswith("votes"):
            update, after = fold_votes(state, shard, log, run, start, end, self.store.layout)
        else:
            drained = end == len(records)
            update, after = fold_labels(
                state, shard, log, run, start, end, self.store.layout, drained=drained, keep=4
            )
        if await self.store.apply(shard, update) is None:
            self.memory[key] = after
            return end < len(records)
        self.memory[key] = await self.store.load(shard, log)
        return True


SNAPSHOT = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  out[#out + 1] = key
  out[#out + 1] = redis.call('DUMP', key)
end
return out
"""


async def storm(url: str, seed: int, members: int, shards: int) -> None:
    rng = Random(seed)
    ids = [f"n{i}" for i in range(rng.randint(1, 8))]
    names = [f"m{i}@1" for i in range(members)]
    votes = {
        f"votes:{p}": [
            make_votes(rng, ids, names, p, 12, live=rng.random() < 0.5) for _ in range(rng.randint(0, 6))
        ]
        for p in range(2)
    }
    labels = {f"labels:{p}": [make_label(rng, ids) for _ in range(rng.randint(0, 12))] for p in range(2)}
    client = aioredis.Redis.from_url(url)
    await client.flushall()
    store = Store(client, "s", Layout(BUCKET, GENERATION, shards))
    logs = [*votes, *labels]
    readers = [Reader(store, votes, labels) for _ in range(2)]  # two evaluators on the same partitions
    copy: list[bytes] = []
    for _ in range(rng.randint(0, 40)):
        action = rng.random()
        if action < 0.9:
            await rng.choice(readers).step(rng.randrange(shards), rng.choice(logs), rng.randint(0, 3))
        elif action < 0.93:
            copy = await client.eval(SNAPSHOT, 0)
        elif action < 0.96 and copy:  # a failover that lost acknowledged writes
            pipe = client.pipeline(transaction=True).flushall()
            for key, value in zip(copy[::2], copy[1::2], strict=True):
                pipe.restore(key, 0, value)
            await pipe.execute()
        elif action < 0.98:
            await store.wipe()
        else:
            rng.choice(readers).memory.clear()
    for shard in range(shards):
        for log in logs:
            reader = rng.choice(readers)
            while await reader.step(shard, log, rng.randint(1, 4)) or await reader.step(shard, log, 99):
                pass
    found, wanted = await observe(store), recount(votes, labels)
    await client.aclose()
    assert found["cells"] == wanted["cells"]
    assert found["positions"] == wanted["positions"]
    assert found["pending"] == wanted["pending"]
    assert found["delays"] == wanted["delays"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), members=st.sampled_from([1, 3, 8, 70]), shards=st.sampled_from([1, 1, 3]))
def test_any_history_of_the_store_gives_the_counts_of_a_plain_recount(valkey, seed, members, shards):
    """Interleaving, repetition, overlapping ranges, two evaluators, lost writes, wipes: same counts."""
    asyncio.run(storm(valkey.url, seed, members, shards))


def run_async(coroutine):
    return asyncio.run(coroutine)


@pytest.fixture
def layout():
    return Layout(BUCKET, GENERATION)


def test_a_run_that_leaves_a_gap_is_refused_and_told_where_to_go_on(valkey, layout):
    """The fence names the offset that the shard has applied."""

    async def check():
        client = aioredis.Redis.from_url(valkey.url)
        await client.flushall()
        store = Store(client, "s", layout)
        assert await store.apply(0, Update("labels:0", 0, 5, layout)) is None
        assert await store.apply(0, Update("labels:0", 7, 9, layout)) == Refused(5)
        assert await store.apply(0, Update("labels:0", 0, 5, layout)) == Refused(5)
        assert await store.apply(0, Update("labels:0", 7, 9, layout, declare_gap=True)) is None
        counters = (await store.read(0))[5]
        await client.aclose()
        assert dict(zip(counters[::2], counters[1::2], strict=True)) == {b"gaps": b"1", b"gap_records": b"2"}

    run_async(check())


def test_slots_that_another_evaluator_took_are_refused(valkey, layout):
    """Two evaluators that gave one slot to two members cannot both be right."""

    async def check():
        client = aioredis.Redis.from_url(valkey.url)
        await client.flushall()
        store = Store(client, "s", layout)
        assert await store.apply(0, Update("votes:0", 0, 1, layout, slots={"a@1": 0})) is None
        assert await store.apply(0, Update("votes:1", 0, 1, layout, slots={"b@1": 0})) == Refused(
            0, slots=True
        )
        assert await store.apply(0, Update("votes:1", 0, 1, layout, slots={"b@1": 1})) is None
        await client.aclose()

    run_async(check())


def test_expiry_drops_whole_generations_and_what_comes_later_is_late(valkey, layout):
    """Records, histograms and waiting labels die together; an older update is counted and dropped."""

    async def check():
        client = aioredis.Redis.from_url(valkey.url)
        await client.flushall()
        store = Store(client, "s", layout)
        labels = [PlacedLabel("a", 1, GENERATION, "", 0, 10), PlacedLabel("b", 1, 5, "", 0, None)]
        state = await store.load(0, "labels:0")
        update, state = fold_labels(
            state, 0, "labels:0", list(enumerate(labels)), 0, 2, layout, drained=False, keep=4
        )
        assert await store.apply(0, update) is None
        assert (await observe(store))["pending"] == 1
        assert await store.expire(0, 1) == 1
        nothing: dict = {"cells": Counter(), "positions": Counter(), "pending": 0, "delays": Counter()}
        assert await observe(store) == nothing
        update, state = fold_labels(
            state, 0, "labels:0", [(2, labels[0]), (3, labels[1])], 2, 4, layout, drained=False, keep=4
        )
        assert await store.apply(0, update) is None
        counters = (await store.read(0))[5]
        keys = await client.keys("*:r:*")
        await client.aclose()
        assert dict(zip(counters[::2], counters[1::2], strict=True)) == {
            b"late": b"2",
            b"expired_labels": b"1",
        }
        assert keys == []

    run_async(check())


def test_another_layout_is_refused_with_the_fix(valkey, layout):
    """A store made with one shard cannot be read with two."""

    async def check():
        client = aioredis.Redis.from_url(valkey.url)
        await client.flushall()
        await ensure_meta(client, "s", layout)
        await ensure_meta(client, "s", layout)
        with pytest.raises(StoreError, match="made with shards 1, not 2"):
            await ensure_meta(client, "s", Layout(BUCKET, GENERATION, 2))
        await client.aclose()

    run_async(check())
