"""Clients of the broker and of Redis, made from settings, and waiting for a server that is not there yet."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis.asyncio as aioredis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from redis.asyncio.cluster import RedisCluster
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from streams.errors import ConfigError, Refused, Unavailable
from streams.patient import PatientConsumer
from streams.refusals import explain
from streams.settings import Kafka, Redis

log = logging.getLogger("chorus")
T = TypeVar("T")
RedisClient = Any  # Redis or RedisCluster: redis-py gives them no common type


def kafka_options(kafka: Kafka) -> dict[str, Any]:
    """The keyword arguments that every aiokafka client needs to reach the broker."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        try:
            options["ssl_context"] = ssl.create_default_context(cafile=kafka.ssl_cafile)
        except OSError as error:
            what = f"CHORUS_KAFKA__SSL_CAFILE {kafka.ssl_cafile}"
            raise ConfigError(f"{what} cannot be read: {error}") from None
    if kafka.security_protocol.startswith("SASL"):
        if kafka.sasl_username is None or kafka.sasl_password is None:
            raise ConfigError("SASL needs CHORUS_KAFKA__SASL_USERNAME and CHORUS_KAFKA__SASL_PASSWORD")
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return options


def make_consumer(kafka: Kafka, *, group: str | None = None, **more: Any) -> AIOKafkaConsumer:
    """A consumer that never commits or resets by itself: positions are this product's own business."""
    options = {
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "fetch_max_wait_ms": kafka.fetch_max_wait,
        "session_timeout_ms": kafka.session_timeout,
        "heartbeat_interval_ms": max(100, kafka.session_timeout // 4),
        "isolation_level": "read_committed",
        **kafka_options(kafka),
        **more,
    }
    if kafka.patience:
        return PatientConsumer(group_id=group, patience=kafka.patience / 1000, **options)
    return AIOKafkaConsumer(group_id=group, **options)


def make_producer(kafka: Kafka, **more: Any) -> AIOKafkaProducer:
    """A producer that waits for all replicas."""
    return AIOKafkaProducer(**{"acks": "all", "max_request_size": 8_000_000, **kafka_options(kafka), **more})


async def admin_client(kafka: Kafka) -> AIOKafkaAdminClient:
    """A started admin client. Raises Unavailable."""
    client = AIOKafkaAdminClient(**kafka_options(kafka))
    async with connecting(kafka, client.close):
        await client.start()
    return client


def no_broker(kafka: Kafka) -> str:
    """The sentence for a broker that does not answer."""
    return (
        f"no Kafka broker answers at {kafka.bootstrap_servers}: start it, or set CHORUS_BOOTSTRAP_SERVERS "
        "(`chorus up` brings its own)"
    )


def unavailable(kafka: Kafka, error: KafkaError, needs: str = "") -> Unavailable:
    """What to raise for an error of the broker: what it refuses and why, or that it does not answer.

    needs: the operation that was under way, as an ACL names it (Read, Write).
    """
    refused = explain(error, needs, kafka)
    return Refused(refused) if refused else Unavailable(no_broker(kafka))


@contextmanager
def answering(kafka: Kafka, needs: str = "") -> Iterator[None]:
    """Around a call to the broker that needs the operation `needs`.

    Raises Unavailable, with the sentence for people, where the broker refuses it or does not answer.
    """
    try:
        yield
    except KafkaError as error:
        raise unavailable(kafka, error, needs) from None


@asynccontextmanager
async def connecting(
    kafka: Kafka, close: Callable[[], Awaitable[Any]], needs: str = ""
) -> AsyncIterator[None]:
    """Around the start of clients: whatever goes wrong inside, `close` lets go of what had been opened.

    Raises Unavailable where the broker does not answer or refuses, and what else was raised.
    """
    with answering(kafka, needs):
        try:
            yield
        except BaseException as error:
            await close()
            if isinstance(error, KafkaConnectionError) and (refused := await _refused(kafka)) is not None:
                raise refused from None
            raise


async def _refused(kafka: Kafka) -> KafkaError | None:
    """Why none of the brokers let us in; None where none answers. aiokafka itself only logs it."""
    if not kafka.security_protocol.startswith("SASL"):
        return None
    options = kafka_options(kafka)
    for server in options.pop("bootstrap_servers").split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            connection = await create_conn(host, int(port), request_timeout_ms=5000, **options)
        except KafkaConnectionError:
            continue
        except KafkaError as error:
            return error
        except (OSError, ValueError):
            continue
        connection.close()
    return None


def redis_client(settings: Redis) -> RedisClient:
    """A Redis or Redis Cluster client that returns bytes. It connects on first use."""
    url = settings.url.get_secret_value()
    try:
        if settings.cluster:
            return RedisCluster.from_url(url, decode_responses=False)
        # The callers know what may be sent again; the client's own silent retries would only hide an outage.
        return aioredis.Redis.from_url(
            url, decode_responses=False, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise ConfigError(f"the Redis URL cannot be used: {error}") from None


def no_redis(settings: Redis) -> str:
    """The sentence for a Redis that does not answer; the password in the URL, if any, is left out."""
    place = settings.url.get_secret_value().rsplit("@", 1)[-1].removeprefix("redis://")
    return f"no Redis answers at {place}: start it, or set CHORUS_REDIS_URL (`chorus up` brings its own)"


async def ping_redis(client: RedisClient, settings: Redis) -> None:
    """Raises Unavailable when Redis does not answer, or is still loading its data."""
    try:
        await client.ping()
    except (RedisError, OSError):
        raise Unavailable(no_redis(settings)) from None


async def ping_broker(kafka: Kafka) -> None:
    """Raises Unavailable when no broker answers."""
    await (await admin_client(kafka)).close()


async def check_topics(consumer: AIOKafkaConsumer, wanted: Iterable[str]) -> None:
    """Raises Unavailable where the broker lacks one of these topics."""
    there = await consumer.topics()
    if missing := [topic for topic in wanted if topic not in there]:
        raise Unavailable(
            f"topics are missing ({', '.join(missing)}): make them with `chorus topics create`, or check the "
            "name in the suite file; where they are there, the broker's ACLs let this client not see them"
        )


async def until_available(attempt: Callable[[], Awaitable[T]], *, longest: float = 10.0) -> T:
    """Await `attempt` until it stops raising Unavailable; say why once, then wait longer each time (s)."""
    delay, said = 0.25, ""
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if str(error) != said:
                log.warning("%s; trying again", error)
                said = str(error)
        await asyncio.sleep(delay)
        delay = min(longest, delay * 1.6)
