"""Producers of any kind may write to the topics: nothing depends on which partition a record lands in."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer

from streams.connect import make_consumer, make_producer
from streams.settings import Kafka
from streams.suite import parse_suite
from streams.topics import Topics, create_topics


@pytest.mark.parametrize("partitioner", ["murmur2", "consistent_random", "fnv1a", "aiokafka"])
def test_producers_of_any_kind(broker, partitioner):
    """librdkafka with each of its partitioners, and aiokafka: every record arrives, wherever it lands."""
    topics = Topics(f"producers-{uuid.uuid4().hex[:8]}")
    suite = parse_suite(f'name = "{topics.suite}"\n')
    kafka = Kafka(bootstrap_servers=broker.bootstrap_servers, fetch_max_wait=20)
    ids = {f"r{i}" for i in range(100)}

    async def scenario() -> None:
        await create_topics(suite, kafka)
        if partitioner == "aiokafka":
            async with make_producer(kafka) as producer:
                for name in ids:
                    await producer.send(
                        topics.requests, json.dumps({"request_id": name}).encode(), name.encode()
                    )
        else:
            await asyncio.to_thread(send_with_librdkafka)
        async with make_consumer(kafka) as consumer:
            parts = [TopicPartition(topics.requests, p) for p in range(kafka.partitions)]
            consumer.assign(parts)
            for part in parts:
                consumer.seek(part, 0)
            seen: list[tuple[str, int]] = []
            async with asyncio.timeout(30):
                while len(seen) < len(ids):
                    for part, records in (await consumer.getmany(timeout_ms=200)).items():
                        seen += [
                            (json.loads(record.value)["request_id"], part.partition) for record in records
                        ]
        assert sorted(name for name, _ in seen) == sorted(ids)
        assert len({partition for _, partition in seen}) > 1

    def send_with_librdkafka() -> None:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": partitioner})
        for name in ids:
            producer.produce(topics.requests, json.dumps({"request_id": name}), key=name)
        assert producer.flush(30) == 0

    asyncio.run(scenario())
