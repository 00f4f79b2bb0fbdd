"""Records in Python are what the script packed."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
import redis.asyncio as aioredis

from evaluator.fold import Layout, fold_labels
from evaluator.record import decode_record
from evaluator.store import Store
from streams.labels import PlacedLabel
from tests.evaluator.reference import BUCKET, GENERATION
from tests.evaluator.test_store import Reader, make_label, make_votes, observe


async def decoded(store: Store) -> Counter:
    """The histogram of the records, by the words of the recount."""
    cells: Counter = Counter()
    for shard in store.shards:
        prefix = store.prefix(shard)
        slots = {int(v): k.decode() for k, v in (await store.client.hgetall(prefix + "slots")).items()}
        for generation in await store.client.smembers(prefix + "generations"):
            for packed in (await store.client.hgetall(prefix + "r:" + generation.decode())).values():
                one = decode_record(packed, int(generation) * GENERATION)
                if not one.labelled and not one.yes:
                    continue
                yes, no = (
                    frozenset(name for slot, name in slots.items() if mask >> slot & 1)
                    for mask in (one.yes, one.no)
                )
                label = one.label if one.labelled else 0
                states = (bool(label) and one.anchored, one.answered, one.held)
                key = (yes, no, one.segment, one.revision, label, *states)
                cells[one.time - one.time % BUCKET, key] += 1
    return cells


@pytest.mark.parametrize("seed", range(10))
def test_the_records_decoded_sum_to_the_histogram(valkey, seed):
    """Random votes and labels of 3 and of 70 members: what Python reads is what the script counted."""

    async def check():
        rng = Random(seed)
        ids = [f"n{i}" for i in range(8)]
        names = [f"m{i}@1" for i in range((3, 70)[seed % 2])]
        votes = {"votes:0": [make_votes(rng, ids, names, 0, 12, live=i % 2 == 0) for i in range(6)]}
        labels = {"labels:0": [make_label(rng, ids) for _ in range(12)]}
        client = aioredis.Redis.from_url(valkey.url)
        await client.flushall()
        store = Store(client, "s", Layout(BUCKET, GENERATION, 1))
        reader = Reader(store, votes, labels)
        for log in (*votes, *labels):
            while await reader.step(0, log, 4):
                pass
        found, wanted = await decoded(store), (await observe(store))["cells"]
        await client.aclose()
        assert found == wanted
        assert sum(found.values()) > 0

    asyncio.run(check())


def test_a_label_keeps_its_version(valkey):
    """Revision, instant and source come back, the source by its number or by its name."""

    async def check():
        client = aioredis.Redis.from_url(valkey.url)
        await client.flushall()
        store = Store(client, "s", Layout(BUCKET, GENERATION, 1))
        label = PlacedLabel("a", 2, 3 * GENERATION + 5, "review", 4, GENERATION + 70_000)
        state, log = await store.load(0, "labels:0"), "labels:0"
        update, _ = fold_labels(state, 0, log, [(0, label)], 0, 1, store.layout, drained=True, keep=4)
        assert await store.apply(0, update) is None
        packed = await client.hget(store.prefix(0) + "r:1", "a")
        await client.aclose()
        one = decode_record(packed, GENERATION)
        assert (one.time, one.label, one.labelled, one.timed) == (GENERATION + 70_000, 2, True, False)
        assert (one.label_revision, one.labelled_at, one.source) == (4, 3 * GENERATION + 5, 1)
        assert decode_record(packed, GENERATION, {1: "review"}).source == "review"

    asyncio.run(check())
