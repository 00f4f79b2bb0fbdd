"""Servers for tests: each starts once, when the first test asks for it.

A test that takes `broker` runs on the embedded broker and on Apache Kafka. Where Java or Maven is missing the
latter is skipped, except in CI (``CI=true``), where it fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from streams.embedded import EmbeddedBroker, EmbeddedCluster, EmbeddedRedis
from streams.embedded.broker import CLIENT_ENV
from streams.settings import Kafka
from tests.kafka_server import KafkaServer, NoKafka


@dataclass(frozen=True)
class Broker:
    """Where a broker answers, which kind it is, and the settings (variables) that its clients need."""

    kind: str
    bootstrap_servers: str
    env: dict[str, str] = field(default_factory=dict)
    #: where it asks for a login, and gives it only what ACLs allow (tests/kafka_server.py)
    locked: str = ""

    @property
    def name(self) -> str:
        return self.kind


def clerk(broker: Broker, password: str = "quill") -> Kafka:
    """The settings of a client that comes with a login."""
    return Kafka(
        bootstrap_servers=broker.locked,
        security_protocol="SASL_PLAINTEXT",
        sasl_username="clerk",
        sasl_password=SecretStr(password),
    )


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[Broker]:
    """The embedded broker."""
    with EmbeddedBroker() as server:
        yield Broker("embedded", server.bootstrap_servers, dict(CLIENT_ENV))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """Apache Kafka."""
    server = KafkaServer()
    try:
        server.start()
    except NoKafka as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    try:
        yield Broker("kafka", server.bootstrap_servers, locked=f"127.0.0.1:{server.locked}")
    finally:
        server.stop()


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Either broker, one after the other."""
    found: Broker = request.getfixturevalue("kafka" if request.param == "kafka" else "embedded_broker")
    return found


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedRedis]:
    """A Valkey that all tests share: what a test needs empty it empties itself."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Valkey of the test's own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[EmbeddedCluster]:
    """Three Valkey nodes as a Redis Cluster, shared by all tests."""
    with EmbeddedCluster() as cluster:
        yield cluster
