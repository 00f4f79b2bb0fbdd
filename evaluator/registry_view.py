"""The registry's view in Redis: for readers that have no Kafka, such as `chorus status`."""

from __future__ import annotations

import logging

from pydantic import ValidationError
from redis.exceptions import RedisError

from evaluator.keys import registry_key
from evaluator.store import Script
from members.registry.lifecycle import Registry
from streams.connect import RedisClient
from streams.errors import Unavailable

log = logging.getLogger("chorus.registry")

WRITE = Script("registry.lua")


async def write_view(client: RedisClient, suite: str, registry: Registry) -> None:
    """Put the registry there, unless one that has read further stands there. Raises Unavailable."""
    await WRITE(client, registry_key(suite), registry.applied, registry.model_dump_json())


async def read_view(client: RedisClient, suite: str, known: Registry | None = None) -> Registry | None:
    """The registry as an evaluator last wrote it; `known` where it is that one still; None without one.

    Raises Unavailable.
    """
    key = registry_key(suite)
    try:
        applied = await client.hget(key, "applied")
        if applied is None:
            return None
        if known is not None and int(applied) == known.applied:
            return known
        document = await client.hget(key, "document")
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
    try:
        return Registry.model_validate_json(document or b"")
    except ValidationError:  # of another version of Chorus; its evaluators will replace it
        log.warning(
            "the registry's view in Redis cannot be read; going by the suite file until it is renewed"
        )
        return None
