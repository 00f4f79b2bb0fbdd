"""Reads the features of sampled requests from Kafka and puts them into the store, slowly and on the side."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
from redis.exceptions import RedisError

from evaluator.examples.features import GONE, keep
from evaluator.examples.requests_log import RequestsLog
from evaluator.examples.sampler import per_sample
from evaluator.examples.sampling import Hit
from evaluator.store import Script, Store
from streams.errors import Unavailable
from streams.settings import Settings
from streams.suite import Suite
from streams.topics import Topics

KEEP = Script("keep.lua")

_LATER = 30.0  # s until a request that did not come is asked for again


class Keeper:
    """Keeps the features of what is sampled. Any number may run, each for partitions of its own."""

    def __init__(
        self, suite: Suite, settings: Settings, store: Store, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` in s."""
        self._segments, self._omit = suite.segments, settings.examples.omitted
        self._k = per_sample(settings.examples.per_day, store.layout.shards)
        self._store, self._clock = store, clock
        self._log = RequestsLog(settings.kafka, Topics(suite.name).requests)
        self._done: dict[tuple[int, int], tuple[bytes, frozenset[int]]] = {}
        self._later: dict[Hit, float] = {}

    async def close(self) -> None:
        """Leave the broker."""
        await self._log.close()

    async def round(self, owned: frozenset[int], partitions: int, most: int) -> int:
        """Read at most `most` requests; returns how many were put down, those that are gone too.

        `owned`: those of the `partitions` of votes whose requests are ours. Raises Unavailable.
        """
        put = 0
        for shard in self._store.shards:
            counters = await redis(self._store.client.hgetall(self._store.prefix(shard) + "sampled"))
            known = {(shard, int(generation)) for generation in counters}
            for old in [at for at in self._done if at[0] == shard and at not in known]:
                del self._done[old]
            for generation in sorted(map(int, counters), reverse=True):
                counter = counters[b"%d" % generation]
                if put < most and self._done.get((shard, generation)) != (counter, owned):
                    put += await self._generation(shard, generation, counter, owned, partitions, most - put)
        return put

    async def _generation(
        self, shard: int, generation: int, counter: bytes, owned: frozenset[int], partitions: int, most: int
    ) -> int:
        prefix, client = self._store.prefix(shard), self._store.client
        features = f"{prefix}f:{generation}"
        have = set(await redis(client.hkeys(features)))
        sampled: set[bytes] = set()
        for member in await redis(client.smembers(f"{prefix}s:{generation}")):
            key = f"{prefix}s:{generation}:".encode() + member
            sampled |= set(await redis(client.zrange(key, 0, self._k - 1)))
        missing = [hit for hit in map(Hit.unpack, sampled - have) if hit.partition % partitions in owned]
        now = self._clock()
        self._later = {hit: at for hit, at in self._later.items() if at > now}
        wanted = sorted(hit for hit in missing if hit not in self._later)[:most]
        found = await self._log.read(wanted) if wanted else {}
        self._later |= {hit: now + _LATER for hit in wanted if hit not in found}
        put: list[bytes] = []
        for hit, value in found.items():
            body = GONE if value is None else keep(value, hit.id, self._segments, self._omit)
            put += [hit.pack(), body]
        forget = list(have - sampled)
        whole = True
        if put or forget:
            args: list[Any] = [features, generation, counter, _pack(put), _pack(forget)]
            whole = bool(await KEEP(client, prefix + "sampled", *args))
        if whole and len(found) == len(missing):
            self._done[shard, generation] = (counter, owned)
        return len(found)


def _pack(items: list[bytes]) -> bytes:
    packed: bytes = msgpack.packb(items, use_bin_type=False)
    return packed


async def redis(answer: Awaitable[Any]) -> Any:
    """What Redis answers. Raises Unavailable where it does not."""
    try:
        return await answer
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
