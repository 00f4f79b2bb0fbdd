"""Puts what flows past into the samples of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgpack

from evaluator.examples.sampling import Place, Sieve
from evaluator.store import Script, Store
from streams.errors import Unavailable
from streams.records import Votes

SAMPLE = Script("sample.lua")

#: Hits that one call of the script takes: it blocks the server while it runs.
_AT_ONCE = 1000


def per_sample(per_day: int, shards: int) -> int:
    """How many requests one sample holds, if all shards together are to hold about `per_day`."""
    return -(-per_day // shards)


class Sampler:
    """The samples of one suite, as one log partition fills them.

    A run is offered *before* the shards take it. An evaluator that dies in between leaves a run that is read
    again, and offering it again changes nothing; the other way round its hits would be missing for good.
    """

    def __init__(self, store: Store, per_day: int) -> None:
        self._store = store
        self._sieve = Sieve(store.suite, store.layout, per_sample(per_day, store.layout.shards))

    def forget(self) -> None:
        """The store stands elsewhere than was thought: what was offered to it may be gone."""
        self._sieve.forget()

    async def take(self, run: Iterable[Votes]) -> None:
        """Offer the hits of checked votes records. Raises Unavailable."""
        offers = self._sieve.offers(run)
        try:
            for shard in {shard for shard, _, _ in offers}:
                for part in _parts({at: hits for at, hits in offers.items() if at[0] == shard}):
                    await self._put(shard, part)
        except Unavailable:
            self.forget()
            raise

    async def _put(self, shard: int, part: dict[Place, dict[bytes, float]]) -> None:
        packed: list[Any] = [self._sieve.k]
        for (_, generation, member), hits in part.items():
            packed.append(
                [generation, member, [x for hit, score in hits.items() for x in (repr(score), hit)]]
            )
        prefix = self._store.prefix(shard)
        body = msgpack.packb(packed, use_bin_type=False)
        limits = await SAMPLE(self._store.client, prefix + "sampled", prefix, body)
        for place, limit in zip(part, limits, strict=True):
            if limit:
                self._sieve.learn(place, float(limit))


def _parts(offers: dict[Place, dict[bytes, float]]) -> Iterator[dict[Place, dict[bytes, float]]]:
    part: dict[Place, dict[bytes, float]] = {}
    size = 0
    for place, hits in offers.items():
        items = list(hits.items())
        for at in range(0, len(items), _AT_ONCE):
            some = dict(items[at : at + _AT_ONCE])
            if part and size + len(some) > _AT_ONCE:
                yield part
                part, size = {}, 0
            part[place] = some
            size += len(some)
    if part:
        yield part
