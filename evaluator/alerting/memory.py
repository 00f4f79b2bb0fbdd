"""What a receiver has been told, in Redis: it outlives the process that told it."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from redis.exceptions import RedisError

from evaluator.alerting.conditions import REMEMBERED, Conditions, Firing
from evaluator.keys import webhook_keys
from evaluator.store import Script
from streams.connect import RedisClient
from streams.errors import Unavailable

SAVE = Script("webhook.lua")


class Memory:
    """Of one receiver. `through`: the offset up to which `alerts` is done with; None at first."""

    def __init__(self, client: RedisClient, suite: str, receiver: str) -> None:
        self._client, self._keys = client, webhook_keys(suite, receiver)
        self._stored = ""

    async def load(self) -> tuple[Conditions, int | None]:
        """What stands there. Raises Unavailable."""
        stored = await _redis(self._client.hgetall(self._keys[0]))
        ids = await _redis(self._client.zrange(self._keys[1], 0, -1))
        firing = {
            key[2:].decode(): Firing(*json.loads(value)) for key, value in stored.items() if key[:2] == b"c:"
        }
        self._stored = stored.get(b"through", b"").decode()
        known = Conditions(firing, dict.fromkeys(each.decode() for each in ids))
        return known, int(self._stored) if self._stored else None

    async def save(self, known: Conditions, through: int | None, ids: list[str], changed: set[str]) -> None:
        """Write down these new ids, the conditions with these fingerprints, and how far it is.

        Everything is written where Redis has not what was last written there. Raises Unavailable; then the
        same can be saved again.
        """
        text = "" if through is None else str(through)
        if not await self._write(self._stored, text, ids, known, changed):
            await self._write("*", text, list(known.ids), known, set(known.firing))
        self._stored = text

    async def _write(
        self, expected: str, through: str, ids: list[str], known: Conditions, changed: set[str]
    ) -> bool:
        args: list[Any] = [expected, through, REMEMBERED, len(ids), *ids]
        for fingerprint in sorted(changed):
            there = known.firing.get(fingerprint)
            args += [fingerprint, json.dumps([there.digest, there.starts_at]) if there else ""]
        return bool(await SAVE(self._client, self._keys, *args))


async def _redis(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
