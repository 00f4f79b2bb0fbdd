"""The store: one Redis, many shards, each a fold of the log. The rules stand in lua/apply.lua."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any

import msgpack
from redis.exceptions import NoScriptError, RedisError

from evaluator.announce import Announced
from evaluator.fold import Layout, ShardState, Update
from evaluator.keys import meta_key, shard_prefix
from streams.connect import RedisClient
from streams.errors import StoreError, Unavailable
from streams.suite import Suite
from streams.times import format_duration

SCHEMA = 1


class Script:
    """A Lua script called by its hash, sent whole where the server does not know it yet."""

    def __init__(self, name: str) -> None:
        self.text = files("evaluator").joinpath("lua", name).read_text(encoding="utf-8")
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: RedisClient, key: str | tuple[str, ...], *args: object) -> Any:
        """Raises Unavailable where Redis does not answer; then it may have run or not."""
        keys = (key,) if isinstance(key, str) else key
        try:
            try:
                return await client.evalsha(self.sha, len(keys), *keys, *args)
            except NoScriptError:
                return await client.eval(self.text, len(keys), *keys, *args)
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis did not answer: {error}") from error


APPLY, LOAD, READ = Script("apply.lua"), Script("load.lua"), Script("read.lua")
EXPIRE, WIPE = Script("expire.lua"), Script("wipe.lua")


@dataclass(frozen=True, slots=True)
class Refused:
    """The shard stands elsewhere: go on from `applied`. `slots`: only the slots were out of date."""

    applied: int
    slots: bool = False


def pairs(flat: list[bytes]) -> dict[str, bytes]:
    """A hash as a script returns it: field, value, field, value, …"""
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


class Store:
    """The shards of one suite. Open it with `open_store`."""

    def __init__(self, client: RedisClient, suite: str, layout: Layout) -> None:
        self.client, self.suite, self.layout = client, suite, layout

    @property
    def shards(self) -> range:
        return range(self.layout.shards)

    def prefix(self, shard: int) -> str:
        return shard_prefix(self.suite, shard)

    async def load(self, shard: int, log: str) -> ShardState:
        """What a shard holds as far as folding one log partition (``votes:0``) needs it."""
        prefix = self.prefix(shard)
        applied, slots, coverage, labels, letters, watermarks = await LOAD(
            self.client, prefix + "applied", prefix, log
        )
        number = log.partition(":")[2]
        unpack = msgpack.unpackb
        return ShardState(
            int(applied),
            {name: int(slot) for name, slot in pairs(slots).items()},
            {k: unpack(v) for k, v in pairs(coverage).items() if k.startswith(number + "|")},
            {k: (t[0], t[1]) for k, v in pairs(labels).items() if (t := unpack(v)) and k == number},
            {k: unpack(v) for k, v in pairs(letters).items() if k.startswith(number + "|")},
            {k: unpack(v) for k, v in pairs(watermarks).items()},
        )

    async def apply(self, shard: int, update: Update) -> Refused | None:
        """Apply one update in one atomic step; None when it went in. Raises Unavailable."""
        prefix = self.prefix(shard)
        answer = await APPLY(
            self.client, prefix + "applied", prefix, update.pack(uuid.uuid4().hex[:12].encode())
        )
        if answer[0] == b"OK":
            return None
        return Refused(int(answer[1]), answer[0] == b"SLOTS")

    async def expire(self, shard: int, keep: int) -> int:
        """Drop the generations before `keep`; returns how many there were."""
        prefix = self.prefix(shard)
        return int(await EXPIRE(self.client, prefix + "horizon", prefix, keep, self.layout.generation))

    async def announced(self) -> dict[str, Announced]:
        """What has been announced last, by condition. Raises Unavailable."""
        try:
            found = await self.client.hgetall(self.prefix(0) + "announced")
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis did not answer: {error}") from error
        return {key.decode(): Announced.unpack(value) for key, value in found.items()}

    async def announce(self, key: str, now: Announced) -> None:
        """Note that a condition has been announced. Raises Unavailable."""
        try:
            await self.client.hset(self.prefix(0) + "announced", key, now.pack())
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis did not answer: {error}") from error

    async def wipe(self, *, asked: bool = False) -> None:
        """Forget all that was folded; running evaluators notice, and fold it anew from the log.

        What reviewers were asked is forgotten only with `asked`: it cannot be folded anew.
        """
        for shard in self.shards:
            prefix = self.prefix(shard)
            await WIPE(self.client, prefix + "applied", prefix, int(asked))

    async def read(self, shard: int) -> list[Any]:
        """Everything of one shard but its records and histograms, as read.lua returns it."""
        prefix = self.prefix(shard)
        answer: list[Any] = await READ(self.client, prefix + "applied", prefix)
        return answer


def layout_of(suite: Suite, shards: int) -> Layout:
    """The layout that a suite file and the settings ask for."""
    return Layout(suite.bucket, suite.generation_ms, shards)


async def ensure_meta(client: RedisClient, suite: str, layout: Layout) -> None:
    """Write the layout down where nothing stands yet. Raises StoreError where another one stands."""
    wanted = {
        "schema": SCHEMA,
        "shards": layout.shards,
        "bucket": layout.bucket,
        "generation": layout.generation,
    }
    key = meta_key(suite)
    try:
        for name, value in wanted.items():
            await client.hsetnx(key, name, value)
        stands = {k.decode(): int(v) for k, v in (await client.hgetall(key)).items()}
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
    for name, value in wanted.items():
        if stands.get(name, value) != value:
            raise StoreError(differs(name, stands[name], value))


def differs(name: str, stands: int, wanted: int) -> str:
    """What is said where the store's layout is not the one wanted."""
    show = format_duration if name in ("bucket", "generation") else str
    return (
        f"the store was made with {name} {show(stands)}, not {show(wanted)}: "
        "change it back, or run `chorus rebuild --fresh`"
    )


async def read_meta(client: RedisClient, suite: str) -> Mapping[str, int]:
    """The layout that stands in Redis; empty where the suite has no store yet. Raises Unavailable."""
    try:
        return {k.decode(): int(v) for k, v in (await client.hgetall(meta_key(suite))).items()}
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
