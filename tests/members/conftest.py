"""Brokers for hosts: without transactions (embedded), and with them (Apache Kafka)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.streams.brokers import embedded_broker


@dataclass(frozen=True)
class Place:
    """A broker that answers at `servers`."""

    servers: str
    transactions: bool


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Either broker, one after the other; `auto` finds out for itself which one has transactions."""
    if request.param == "kafka":
        yield Place(request.getfixturevalue("kafka").bootstrap_servers, transactions=True)
    else:
        with embedded_broker() as running:
            yield Place(running.servers, transactions=False)
