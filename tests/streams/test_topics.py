"""Topics are made once, with their retention; producers of any kind may write to them."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer

from streams.connect import make_consumer, make_producer
from streams.errors import Unavailable
from streams.settings import Kafka
from streams.suite import DAY, parse_suite
from streams.topics import Topics, create_topics, topic_specs


def fresh(name: str = "") -> str:
    return name or f"topics-{uuid.uuid4().hex[:8]}"


def test_the_log_outlives_its_view():
    """Requests, labels and votes are kept for longer than the store; the registry for ever."""
    suite = parse_suite('name = "s"\nretention = "60d"\n')
    kept = {spec.name: int(spec.config["retention.ms"]) for spec in topic_specs(suite, Kafka())}
    assert all(kept[f"s.{name}"] == 67 * DAY for name in ("requests", "labels", "votes"))
    assert kept["s.decisions"] >= suite.retention_ms
    assert kept["s.members"] == -1


def test_votes_have_as_many_partitions_as_requests():
    """The votes of one partition have one order; what must be in one order has one partition."""
    specs = {
        spec.name: spec.partitions for spec in topic_specs(parse_suite('name = "s"\n'), Kafka(partitions=7))
    }
    assert specs["s.votes"] == specs["s.requests"] == 7
    assert specs["s.members"] == specs["s.dead-letters"] == 1


def test_topics_are_made_once(broker):
    """A second time finds them there, and says so."""
    suite = parse_suite(f'name = "{fresh()}"\n')
    kafka = Kafka(bootstrap_servers=broker.bootstrap_servers)
    first = asyncio.run(create_topics(suite, kafka))
    assert set(first.values()) == {"created"}
    assert len(first) == 8
    second = asyncio.run(create_topics(suite, kafka))
    assert second == dict.fromkeys(first, "exists")


def test_no_broker():
    """One sentence that names the address and the way out."""
    suite = parse_suite('name = "s"\n')
    with pytest.raises(Unavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1: start it"):
        asyncio.run(create_topics(suite, Kafka(bootstrap_servers="127.0.0.1:1")))


@pytest.mark.parametrize("partitioner", ["murmur2", "consistent_random", "fnv1a", "aiokafka"])
def test_producers_of_any_kind(broker, partitioner):
    """librdkafka with each of its partitioners, and aiokafka: every record arrives, wherever it lands."""
    topics = Topics(fresh())
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
