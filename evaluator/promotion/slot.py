"""The deployment slot: a lease in Redis that says which evaluator acts, with a token that fences the others.

The lease only keeps evaluators out of each other's way. What makes it safe is the token: the registry ignores
whatever bears a lower one than it has seen, so a holder that was frozen and thawed cannot act any more. It
survives the loss of Redis, as the next token is higher than any that the registry has seen.
"""

from __future__ import annotations

from evaluator.keys import slot_keys
from evaluator.store import Script
from streams.connect import RedisClient

SLOT = Script("slot.lua")
RELEASE = Script("release.lua")
#: ms without a sign of life after which another evaluator may act.
LEASE = 6_000


async def hold(client: RedisClient, suite: str, holder: str, seen: int, lease: int = LEASE) -> int | None:
    """Take the slot for `lease` ms, or keep it; its token, or None where somebody else has it.

    seen: the highest token that the registry knows of. Raises Unavailable.
    """
    token = int(await SLOT(client, slot_keys(suite), holder, lease, seen))
    return token or None


async def release(client: RedisClient, suite: str, holder: str) -> None:
    """Give the slot up, where it is this holder's. Raises Unavailable."""
    await RELEASE(client, slot_keys(suite), holder)
