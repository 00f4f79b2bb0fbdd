"""A Redis Cluster of three gives the same numbers as one node, whatever the number of shards."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from pydantic import SecretStr

from evaluator.fold import fold_labels, fold_letters, fold_votes
from evaluator.history import History
from evaluator.status import status_of
from evaluator.store import Store, ensure_meta, layout_of
from streams.connect import redis_client
from streams.records import Origin
from streams.settings import Redis
from streams.suite import Suite, parse_suite
from tests.evaluator.reference import BUCKET, ERA, GENERATION
from tests.evaluator.test_store import make_label, make_votes

IDS = [f"n{i}" for i in range(200)]
MEMBERS = [f"m{i}@1" for i in range(5)]


def make_suite() -> Suite:
    stages = ["live", "live", "shadow", "shadow", "shadow"]
    members = "".join(
        f'[[member]]\nname = "m{i}"\nversion = "1"\nstage = "{stage}"\nowner = "a"\nloader = "a:B"\n'
        for i, stage in enumerate(stages)
    )
    text = f'name = "c"\nbucket = "{BUCKET}ms"\nwindows = ["40d"]\nretention = "80d"\n{members}'
    return parse_suite(text)


async def fold_all(redis: Redis, suite: Suite, logs: dict[str, list]) -> dict:
    """Fold whole logs and return the status document."""
    client = redis_client(redis)
    store = Store(client, suite.name, layout_of(suite, redis.shards))
    await store.wipe()
    await client.delete("chorus:{c}:meta")
    await ensure_meta(client, suite.name, store.layout)
    for log, records in logs.items():
        for shard in store.shards:
            state, end = await store.load(shard, log), len(records)
            run = list(enumerate(records))
            if log.startswith("votes"):
                update, _ = fold_votes(state, shard, log, run, 0, end, store.layout)
            elif log.startswith("labels"):
                update, _ = fold_labels(state, shard, log, run, 0, end, store.layout, drained=True, keep=4)
            else:
                update, _ = fold_letters(state, log, run, 0, end, store.layout)
            assert await store.apply(shard, update) is None
    history = History(client, suite.name)
    await history.refresh()
    document = status_of(suite, history, leap=10 * ERA)
    await client.aclose()
    return document


@pytest.fixture(scope="module")
def logs() -> dict[str, list]:
    rng = Random(7)
    votes = {
        f"votes:{p}": [make_votes(rng, IDS, MEMBERS, p, 300, live=i % 2 == 0) for i in range(12)]
        for p in range(2)
    }
    for records in votes.values():
        for record in records:
            record.watermark = 2 * ERA + 2 * GENERATION
            if record.stage == "live":
                assert record.members[0] == "*"
    labels = {f"labels:{p}": [make_label(rng, IDS) for _ in range(300)] for p in range(2)}
    letters = {"dead-letters:0": [Origin("t", 0, i // 2) for i in range(9)]}
    return {**votes, **labels, **letters}


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_a_cluster_gives_the_same_numbers_as_one_node(valkey, valkey_cluster, logs, shards):
    """Every number of the status document, for one shard on one node and any number on three."""
    suite = make_suite()
    one = asyncio.run(fold_all(Redis(url=SecretStr(valkey.url)), suite, logs))
    settings = Redis(url=SecretStr(valkey_cluster.url), cluster=True, shards=shards)
    many = asyncio.run(fold_all(settings, suite, logs))
    assert one["windows"][0]["volume"] > 100
    assert one["windows"][0]["suite"]["flagged"]["n"] > 50
    assert one["counters"]["dead_letters"] == 5
    assert many == one
