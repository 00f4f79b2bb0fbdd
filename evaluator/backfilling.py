"""What the store knows that a backfill has to: how far time is, and what a member has covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgpack
from redis.exceptions import RedisError

from evaluator.history import History
from evaluator.intervals import add, uncovered
from evaluator.keys import shard_prefix
from evaluator.store import read_meta
from streams.connect import RedisClient
from streams.errors import Unavailable
from streams.records import SUITE
from streams.suite import Suite


class Coverage:
    """The positions of `requests` that `member` has covered, as the store has folded them."""

    def __init__(self, client: RedisClient, suite: str, member: str) -> None:
        self._client, self._suite, self._member = client, suite, member

    async def shards(self) -> list[dict[int, list[int]]]:
        """For each shard: partition → intervals. Empty where there is no store yet. Raises Unavailable."""
        meta = await read_meta(self._client, self._suite)
        out = []
        for shard in range(meta.get("shards", 0)):
            try:
                found = await self._client.hgetall(shard_prefix(self._suite, shard) + "coverage")
            except (RedisError, OSError) as error:
                raise Unavailable(f"Redis did not answer: {error}") from error
            out.append(_of(found, self._member))
        return out

    async def read(self) -> dict[int, list[int]]:
        """What is covered in any shard: the log has it, and the others will come to it."""
        out: dict[int, list[int]] = {}
        for shard in await self.shards():
            for partition, intervals in shard.items():
                out[partition] = _union(out.get(partition, []), intervals)
        return out

    async def missing(self, written: Mapping[int, Sequence[int]]) -> int:
        """How many positions of `written` (partition → intervals) some shard has not folded yet."""
        shards = await self.shards()
        if not shards:
            return sum(sum(each[1::2]) - sum(each[::2]) for each in written.values())
        return max(
            sum(
                sum(rest[1::2]) - sum(rest[::2])
                for partition, intervals in written.items()
                for start, end in zip(intervals[::2], intervals[1::2], strict=True)
                for rest in [uncovered(shard.get(partition, []), start, end)]
            )
            for shard in shards
        )


def _of(found: Mapping[bytes, bytes], member: str) -> dict[int, list[int]]:
    out: dict[int, list[int]] = {}
    for key, packed in found.items():
        # A partition of requests has votes in two partitions where their number was changed.
        _, partition, name = key.decode().split("|", 2)
        if name == member:
            out[int(partition)] = _union(out.get(int(partition), []), msgpack.unpackb(packed))
    return out


def _union(one: Sequence[int], other: Sequence[int]) -> list[int]:
    out = list(one)
    for start, end in zip(other[::2], other[1::2], strict=True):
        out = add(out, start, end)
    return out


async def suite_watermark(client: RedisClient, suite: Suite) -> int | None:
    """Event time (ms) at which the suite stands; None where the store does not know. Raises Unavailable."""
    history = History(client, suite.name)
    if not await history.refresh(buckets=False):
        return None
    marks = [history.watermark(name) for name in suite.live] or [history.watermark(SUITE)]
    return None if None in marks else min(mark for mark in marks if mark is not None)
