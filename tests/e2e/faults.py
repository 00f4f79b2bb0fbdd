"""What goes wrong while the traffic runs: processes die, Redis forgets, Redis falls back to an old copy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import redis

from tests.e2e.drive import Up

_SNAPSHOT = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  out[#out + 1] = key
  out[#out + 1] = redis.call('DUMP', key)
end
return out
"""


class Store:
    """The Redis under test, as an operator (or a failover) sees it."""

    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._copy: list[bytes] = []

    def snapshot(self) -> None:
        """Keep a copy of everything, as it was at one instant."""
        self._copy = self._client.eval(_SNAPSHOT, 0)

    def flush(self) -> None:
        """Lose everything."""
        self._client.flushall()

    def restore(self) -> None:
        """Fall back, at one instant, to the copy: what was acknowledged since is lost."""
        assert self._copy, "there is no copy yet"
        with self._client.pipeline(transaction=True) as pipe:
            pipe.flushall()
            for key, value in zip(self._copy[::2], self._copy[1::2], strict=True):
                pipe.restore(key, 0, value)
            pipe.execute()

    def empty(self) -> bool:
        return not self._client.dbsize()

    def close(self) -> None:
        self._client.close()


class Storm:
    """A plan of faults over the steps of a run; `seed` makes the same plan again."""

    def __init__(self, up: Up, store: Store, steps: int, seed: int) -> None:
        rnd = random.Random(seed)
        self._plan: dict[int, list[Callable[[], None]]] = {}
        kills = [*("live-host",) * 3, *("shadow",) * 3, *("evaluator",) * 5]
        for kind in kills:
            name = rnd.choice(up.names(kind))
            self._at(rnd.randrange(steps), lambda name=name: up.kill(name))
        self._at(steps // 4 + rnd.randrange(5), store.snapshot)
        self._at(steps // 2 + rnd.randrange(5), store.flush)
        self._at(3 * steps // 4 + rnd.randrange(5), store.restore)

    def _at(self, step: int, fault: Callable[[], None]) -> None:
        self._plan.setdefault(step, []).append(fault)

    async def strike(self, step: int) -> None:
        """What the plan has for this step."""
        for fault in self._plan.get(step, ()):
            await asyncio.to_thread(fault)
