"""Samples in Redis: bounded, the least of all, forgotten with their generation; features follow them."""

from __future__ import annotations

import asyncio
import json
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from evaluator.examples.keeper import Keeper
from evaluator.examples.sampler import Sampler, per_sample
from evaluator.examples.sampling import Hit
from evaluator.fold import Layout
from evaluator.partition import VOTES, LogPartition
from evaluator.store import Store
from streams.connect import redis_client
from streams.metrics import Metrics
from streams.settings import Examples, Redis, Settings
from streams.suite import parse_suite
from streams.votes import encode
from tests.evaluator.examples.test_sampling import BUCKET, DAY, everything, log, record

SUITE = parse_suite('name = "s"\n')  # as in the definition: the name is in the scores


class World:
    """A store of the suite, wiped first."""

    def __init__(self, redis: Redis) -> None:
        self.client = redis_client(redis)
        self.store = Store(self.client, SUITE.name, Layout(BUCKET, DAY, redis.shards))

    async def __aenter__(self) -> World:
        await self.store.wipe()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def samples(self) -> dict[Any, dict[bytes, float]]:
        out = {}
        for shard in self.store.shards:
            prefix = self.store.prefix(shard)
            for generation in await self.client.hkeys(prefix + "sampled"):
                for member in await self.client.smembers(f"{prefix}s:{generation.decode()}"):
                    key = f"{prefix}s:{generation.decode()}:{member.decode()}"
                    held = await self.client.zrange(key, 0, -1, withscores=True)
                    out[shard, int(generation), member.decode()] = dict(held)
        return out

    async def keys(self) -> set[str]:
        """The kinds of keys of samples that there are, with their generations."""
        found = set()
        for shard in self.store.shards:
            async for key in self.client.scan_iter(f"{self.store.prefix(shard)}*", count=1000):
                kind = key.decode().rpartition("}:")[2]
                if kind[:2] in ("s:", "f:") or kind == "sampled":
                    found.add(":".join(kind.split(":")[:2]))
        return found


def on(server: Any, shards: int, *, cluster: bool = False) -> Redis:
    return Redis(url=SecretStr(server.url), shards=shards, cluster=cluster)


async def offer(world: World, run: list[Any], per_day: int, seed: int = 0) -> None:
    """The run in pieces, by two evaluators that do not know of each other, parts of it twice."""
    rng = Random(seed)
    samplers = [Sampler(world.store, per_day) for _ in range(2)]
    for at in range(0, len(run), 3):
        for _ in range(rng.randint(1, 2)):
            await rng.choice(samplers).take(run[at : at + 3])


@pytest.mark.parametrize(("shards", "cluster"), [(1, False), (3, False), (3, True)])
def test_redis_holds_the_least_of_all_and_no_more(valkey, valkey_cluster, shards, cluster):
    """Two evaluators, runs taken twice, any order: the sample by definition, never larger than asked for."""

    async def scenario() -> None:
        async with World(on(valkey_cluster if cluster else valkey, shards, cluster=cluster)) as world:
            run, k = log(5, 30), per_sample(20, shards)
            want = everything(run, k, shards)
            await offer(world, run, 20, 1)
            assert await world.samples() == want
            await offer(world, run[::-1], 20, 2)
            assert await world.samples() == want
            assert max(map(len, want.values())) == k

    asyncio.run(scenario())


def test_samples_die_with_their_generation(valkey):
    """Expiry drops those that event time has passed; what comes too late is not sampled; wiping drops all."""

    async def scenario() -> None:
        async with World(on(valkey, 2)) as world:
            run = [record("shadow", ["c@1"], 0, {f"r{i}": (i % 4 * DAY + i, 1) for i in range(80)})]
            await offer(world, run, 20)
            keeper = keeper_of(world, 20)
            assert await keeper.round(frozenset({0}), 1, 1000) == sum(
                map(len, (await world.samples()).values())
            )
            assert await world.keys() == {"sampled", *(f"{kind}:{g}" for kind in "sf" for g in range(4))}
            for shard in world.store.shards:
                await world.store.expire(shard, 2)
            assert await world.keys() == {"sampled", "s:2", "s:3", "f:2", "f:3"}
            await offer(world, run, 20)
            assert await world.keys() == {"sampled", "s:2", "s:3", "f:2", "f:3"}
            await world.store.wipe()
            assert await world.keys() == set()

    asyncio.run(scenario())


class StubLog:
    """Requests without a broker; `lost` are those that do not come."""

    def __init__(self) -> None:
        self.asked: list[Hit] = []
        self.lost: set[str] = set()

    async def read(self, hits: list[Hit]) -> dict[Hit, bytes | None]:
        self.asked += hits
        return {
            hit: json.dumps({"request_id": hit.id, "features": {"x": hit.offset}}).encode()
            for hit in hits
            if hit.id not in self.lost
        }


def keeper_of(world: World, per_day: int, clock: Any = lambda: 0.0) -> Keeper:
    keeper = Keeper(SUITE, Settings(examples=Examples(per_day=per_day)), world.store, clock=clock)
    keeper._log = StubLog()  # type: ignore[assignment]
    return keeper


async def features(world: World, generation: int = 0) -> set[bytes]:
    return set(await world.client.hkeys(f"{world.store.prefix(0)}f:{generation}"))


def test_features_follow_the_sample(valkey):
    """Each is read once and at the rate allowed; what falls out of the sample is forgotten."""

    async def scenario() -> None:
        async with World(on(valkey, 1)) as world:
            first = record("shadow", ["c@1"], 0, {f"r{i}": (i, 1) for i in range(30)})
            more = record("shadow", ["c@1"], 30, {f"r{i}": (i, 1) for i in range(30, 300)})
            await offer(world, [first], 20)
            keeper = keeper_of(world, 20)
            counts = [await keeper.round(frozenset({0}), 1, 8) for _ in range(4)]
            assert counts == [8, 8, 4, 0]
            assert await features(world) == set((await world.samples())[0, 0, "c@1"])
            await offer(world, [more], 20)
            await keeper.round(frozenset({0}), 1, 100)
            sampled = set((await world.samples())[0, 0, "c@1"])
            assert await features(world) == sampled
            assert len(keeper._log.asked) == len(set(keeper._log.asked))  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_each_evaluator_reads_for_its_own_partitions(valkey):
    """Requests of partitions that are not ours are left to others; taking one over brings its requests."""

    async def scenario() -> None:
        async with World(on(valkey, 1)) as world:
            run = []
            for partition in range(4):
                votes = record("shadow", ["c@1"], 0, {f"{partition}-{i}": (i, 1) for i in range(5)})
                votes.partition, votes.partitions = partition, 4
                run.append(votes)
            await offer(world, run, 20)
            keeper = keeper_of(world, 20)
            assert await keeper.round(frozenset({1}), 2, 100) == 10
            assert {Hit.unpack(hit).partition for hit in await features(world)} == {1, 3}
            assert await keeper.round(frozenset({0, 1}), 2, 100) == 10

    asyncio.run(scenario())


def test_what_does_not_come_is_asked_for_later(valkey):
    """Not again at once, but after a while; and nothing that was wiped meanwhile comes back."""

    async def scenario() -> None:
        async with World(on(valkey, 1)) as world:
            await offer(world, [record("shadow", ["c@1"], 0, {f"r{i}": (i, 1) for i in range(5)})], 20)
            now = [0.0]
            keeper = keeper_of(world, 20, lambda: now[0])
            stub: Any = keeper._log
            stub.lost = {"r3"}
            assert [await keeper.round(frozenset({0}), 1, 100) for _ in range(2)] == [4, 0]
            assert len(stub.asked) == 5
            now[0], stub.lost = 60.0, set()
            assert await keeper.round(frozenset({0}), 1, 100) == 1
            await world.store.wipe()
            assert await keeper.round(frozenset({0}), 1, 100) == 0
            assert await world.keys() == set()

    asyncio.run(scenario())


def test_a_store_that_was_lost_is_sampled_anew(valkey):
    """The limits that an evaluator remembers do not keep anything out of samples that are gone."""

    async def refuse(*_: Any) -> None:
        raise AssertionError("a good record went to dead letters")

    async def known(names: Any) -> set[str]:
        return set(names)

    async def scenario() -> None:
        async with World(on(valkey, 1)) as world:
            run, settings = log(8, 20), Settings(examples=Examples(per_day=10))
            arguments = (world.store, SUITE, settings, Metrics().evaluator, refuse, known)
            partition = LogPartition(VOTES, 0, 1, *arguments)
            records = [SimpleNamespace(offset=i, value=encode(votes)) for i, votes in enumerate(run)]
            await partition.load()
            assert await partition.apply(records, len(run))
            want = await world.samples()
            assert want == everything(run, 10, 1)
            await world.store.wipe()
            assert not await partition.beat(drained=True)
            assert await partition.load() == 0
            assert await partition.apply(records, len(run))
            assert await world.samples() == want
            await world.store.wipe()
            assert not await partition.beat(drained=True)
            await partition.load()
            await partition.skip_to(10)  # retention has cut the rest
            assert await partition.apply(records[10:], len(run))
            assert await world.samples() == everything(run[10:], 10, 1)

    asyncio.run(scenario())
