"""Light records: the same as aiokafka's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition

from streams import light
from streams.connect import make_consumer, make_producer, ping_broker, until_available
from streams.settings import Kafka
from streams.suite import parse_suite
from streams.topics import create_topics
from tests.streams.brokers import embedded_broker

FIELDS = (
    "topic", "partition", "offset", "timestamp", "key", "value",
    "serialized_key_size", "serialized_value_size",
)  # fmt: skip


async def read(kafka: Kafka, n: int, most: int | None) -> list[tuple[Any, ...]]:
    consumer = make_consumer(kafka)
    await consumer.start()
    await consumer.topics()
    place = TopicPartition("t.requests", 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    out: list[tuple[Any, ...]] = []
    while len(out) < n:
        got = (await consumer.getmany(timeout_ms=100, max_records=most)).get(place, [])
        assert most is None or len(got) <= most
        out += [(*(getattr(record, name) for name in FIELDS), list(record.headers)) for record in got]
    assert await consumer.position(place) == n
    await consumer.stop()
    return out


def test_same_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read at once, light records carry what plain ones do, none missing, none twice."""
    for owner, name in ((fetcher, "PartitionRecords"), (fetcher.FetchResult, "getall")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards

    async def run() -> None:
        with embedded_broker() as broker:
            kafka = Kafka(bootstrap_servers=broker.servers, partitions=1, fetch_max_wait=20)
            await until_available(lambda: ping_broker(kafka))
            await create_topics(parse_suite('name = "t"'), kafka)
            producer = make_producer(kafka)
            await producer.start()
            for i in range(300):
                key = None if i % 3 else f"k{i}".encode()
                value = b"x" * i if i % 5 else None
                await producer.send("t.requests", value, key=key or b"k", headers=[("h", b"v")] * (i % 2))
            await producer.flush()
            await producer.stop()
            plain = await read(kafka, 300, None)
            light.use_light_records()
            assert fetcher.FetchResult.getall is light._getall
            for most in (None, 1000, 100, 7):
                assert await read(kafka, 300, most) == plain

    asyncio.run(run())
