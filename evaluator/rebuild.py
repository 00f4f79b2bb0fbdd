"""Redis is a view: forget it, and fold it anew from Kafka to the same numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from evaluator.keys import meta_key, registry_key
from evaluator.service import EvaluatorService
from evaluator.store import Store, ensure_meta, layout_of, read_meta
from members.registry.log import RegistryLog
from streams.connect import ping_broker, ping_redis, redis_client
from streams.errors import StoreError
from streams.settings import Settings
from streams.suite import Suite

Progress = Callable[[Mapping[str, int]], None]


async def rebuild(
    suite: Suite, settings: Settings, *, progress: Progress | None = None, fresh: bool = False
) -> None:
    """Wipe the suite's store and fold the log anew; running evaluators notice, and help.

    `progress` is told the offset reached per log partition. `fresh` lays the store out anew (another bucket,
    another number of shards): no evaluator may run meanwhile. Raises Unavailable without a broker or Redis
    (then nothing has been wiped), StoreError where the layout differs and `fresh` was not asked for.
    """
    client = redis_client(settings.redis)
    try:
        await ping_redis(client, settings.redis)
        await ping_broker(settings.kafka)
        wanted = layout_of(suite, settings.redis.shards)
        stands = await read_meta(client, suite.name)
        if fresh and stands:
            old = layout_of(suite, stands["shards"])
            await Store(client, suite.name, old).wipe(asked=True)
            await client.unlink(meta_key(suite.name))
        await ensure_meta(client, suite.name, wanted)
        await Store(client, suite.name, wanted).wipe()
        await client.unlink(registry_key(suite.name))
    finally:
        await client.aclose()
    log = RegistryLog(settings.kafka, suite.name, quiet=True)
    service = EvaluatorService(suite, settings, name="rebuild", group=False, registry=log)
    async with service:
        while not service.at_rest:
            if service.crashed:
                raise StoreError(f"the rebuild stopped: {service.crash_reason}")
            if progress:
                progress(service.positions)
            await asyncio.sleep(0.2)
        if progress:
            progress(service.positions)
