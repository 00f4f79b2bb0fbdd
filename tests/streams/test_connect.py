"""Clients from settings, and waiting for servers that are not there yet."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import SecretStr

from streams.connect import kafka_options, no_redis, ping_broker, ping_redis, redis_client, until_available
from streams.errors import ConfigError, Unavailable
from streams.settings import Kafka, Redis


def test_sasl_and_tls():
    """Credentials reach the client as they are; without them there is an error that names the settings."""
    options = kafka_options(
        Kafka(security_protocol="SASL_SSL", sasl_username="u", sasl_password=SecretStr("p"))
    )
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
    assert options["ssl_context"].check_hostname
    with pytest.raises(ConfigError, match="CHORUS_KAFKA__SASL_USERNAME"):
        kafka_options(Kafka(security_protocol="SASL_PLAINTEXT"))
    with pytest.raises(ConfigError, match="CHORUS_KAFKA__SSL_CAFILE"):
        kafka_options(Kafka(security_protocol="SSL", ssl_cafile="/nowhere.pem"))


def test_servers_that_answer(broker, valkey):
    """ping says nothing when there is an answer."""

    async def scenario() -> None:
        await ping_broker(Kafka(bootstrap_servers=broker.bootstrap_servers))
        settings = Redis(url=SecretStr(valkey.url))
        client = redis_client(settings)
        await ping_redis(client, settings)
        await client.aclose()

    asyncio.run(scenario())


def test_a_redis_cluster(valkey_cluster):
    """With cluster on, the client knows all nodes from the address of one."""

    async def scenario() -> None:
        settings = Redis(url=SecretStr(valkey_cluster.url), cluster=True)
        client = redis_client(settings)
        await ping_redis(client, settings)
        assert len(client.get_nodes()) == 3
        await client.aclose()

    asyncio.run(scenario())


def test_servers_that_do_not_answer():
    """One sentence that names the address, and no password."""

    async def scenario() -> None:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1:"):
            await ping_broker(Kafka(bootstrap_servers="127.0.0.1:1"))
        settings = Redis(url=SecretStr("redis://:hush@127.0.0.1:1/0"))
        client = redis_client(settings)
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/0") as caught:
            await ping_redis(client, settings)
        assert "hush" not in str(caught.value)
        await client.aclose()

    asyncio.run(scenario())


def test_a_url_that_cannot_be_used():
    """Not a Redis URL: a ConfigError, at once."""
    with pytest.raises(ConfigError, match="the Redis URL cannot be used"):
        redis_client(Redis(url=SecretStr("http://localhost")))


def test_the_sentence_for_redis_hides_the_password():
    """What stands before the @ is left out."""
    assert "secret" not in no_redis(Redis(url=SecretStr("redis://user:secret@host:1/0")))


def test_waiting_is_told_once(caplog):
    """The same reason is logged once, however often it is tried; then the answer comes through."""
    tries = []

    async def attempt() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise Unavailable("no broker")
        return "there"

    with caplog.at_level(logging.WARNING, logger="chorus"):
        assert asyncio.run(until_available(attempt, longest=0.01)) == "there"
    assert [record.getMessage() for record in caplog.records] == ["no broker; trying again"]
