"""The deployment slot: one holder, tokens that only grow, on one node and on a cluster."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
from pydantic import SecretStr

from evaluator.promotion.slot import hold, release
from streams.connect import redis_client
from streams.errors import Unavailable
from streams.settings import Redis


@pytest.fixture(params=["node", "cluster"])
def server(request):
    """Settings of a Redis that all tests share."""
    clustered = request.param == "cluster"
    found = request.getfixturevalue("valkey_cluster" if clustered else "valkey")
    return Redis(url=SecretStr(found.url), cluster=clustered)


def run(settings, scenario):
    """Run `scenario(client, suite)` for a suite of its own."""

    async def main():
        client = redis_client(settings)
        try:
            await scenario(client, f"slot-{uuid.uuid4().hex[:8]}")
        finally:
            await client.aclose()

    asyncio.run(main())


async def until_free(client, suite, holder, seen):
    deadline = time.monotonic() + 10
    while (token := await hold(client, suite, holder, seen)) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    return token


def test_there_is_one_holder_and_it_keeps_its_token(server):
    """Renewal gives the same token; others get none, and may not give it up for the holder."""

    async def scenario(client, suite):
        assert await hold(client, suite, "p", 0) == 1
        assert await hold(client, suite, "q", 0) is None
        await release(client, suite, "q")
        assert [await hold(client, suite, who, 1) for who in "pqp"] == [1, None, 1]
        found = await asyncio.gather(*(hold(client, f"{suite}-2", f"h{i}", 0) for i in range(20)))
        assert [token for token in found if token] == [1]

    run(server, scenario)


def test_who_comes_after_has_a_higher_token(server):
    """After the lease has run out, and after the holder has given it up; the old holder gets a new one."""

    async def scenario(client, suite):
        assert await hold(client, suite, "p", 0, lease=20) == 1
        assert await until_free(client, suite, "q", 1) == 2
        await release(client, suite, "q")
        assert await hold(client, suite, "p", 2) == 3

    run(server, scenario)


def test_a_token_is_higher_than_what_the_registry_has_seen(server):
    """Also for the holder itself, when a later one has written meanwhile."""

    async def scenario(client, suite):
        assert await hold(client, suite, "p", 41) == 42
        assert await hold(client, suite, "p", 42) == 42
        assert await hold(client, suite, "p", 50) == 51

    run(server, scenario)


def test_the_loss_of_redis_costs_no_token(redis_server):
    """After FLUSHALL the next one is above all that the registry knows; without Redis there is no holder."""

    async def scenario(client, suite):
        assert await hold(client, suite, "p", 0) == 1
        await release(client, suite, "p")
        assert await hold(client, suite, "q", 1) == 2
        await client.flushall()
        assert await hold(client, suite, "r", 2) == 3
        assert await hold(client, suite, "q", 2) is None
        redis_server.stop()
        with pytest.raises(Unavailable):
            await hold(client, suite, "r", 3)

    run(Redis(url=SecretStr(redis_server.url)), scenario)
