"""The topics of a suite, on both brokers."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.errors import ChorusError, Unavailable
from streams.settings import Kafka
from streams.suite import DAY, Suite, parse_suite
from streams.topics import Topics, create_topics, topic_specs


def fresh() -> Suite:
    return parse_suite(f'name = "topics-{uuid.uuid4().hex[:8]}"')


async def partitions(servers: str, prefix: str) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        return {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics(names)}
    finally:
        await admin.close()


def test_topics_are_made_once(broker):
    """The first call makes them all; the second leaves them as they are, and says so."""
    suite, kafka = fresh(), Kafka(bootstrap_servers=broker.bootstrap_servers, partitions=3)
    first = asyncio.run(create_topics(suite, kafka))
    assert set(first.values()) == {"created"}
    assert set(first) == {spec.name for spec in topic_specs(suite, kafka)}
    again = asyncio.run(create_topics(suite, kafka.model_copy(update={"partitions": 5})))
    assert again == dict.fromkeys(first, "exists")
    made = asyncio.run(partitions(kafka.bootstrap_servers, suite.name + "."))
    names = Topics(suite.name)
    many = {names.requests, names.labels, names.votes, names.decisions}
    assert made == {name: 3 if name in many else 1 for name in first}


@pytest.mark.kafka
def test_retention_reaches_the_broker(kafka):
    """What the view is rebuilt from outlives the view; the registry is kept for ever."""
    suite, settings = fresh(), Kafka(bootstrap_servers=kafka.bootstrap_servers)

    async def retention() -> dict[str, str]:
        names = list(await create_topics(suite, settings))
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        await admin.start()
        try:
            async with asyncio.timeout(20):
                while True:  # what the controller has made, the broker may not know yet
                    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
                    rows = [row for answer in await admin.describe_configs(asked) for row in answer.resources]
                    if not any(row[0] for row in rows):
                        return {
                            row[3]: {entry[0]: entry[1] for entry in row[4]}["retention.ms"] for row in rows
                        }
        finally:
            await admin.close()

    kept, names = asyncio.run(retention()), Topics(suite.name)
    assert kept[names.members] == "-1"
    for name in (names.requests, names.labels, names.votes):
        assert int(kept[name]) == suite.retention_ms + 7 * DAY


@pytest.mark.kafka
def test_a_refusal_names_the_topic(kafka):
    """More replicas than there are brokers: the broker's own words, and which topic."""
    settings = Kafka(bootstrap_servers=kafka.bootstrap_servers, replication_factor=3)
    with pytest.raises(ChorusError, match=r"refused topic topics-\w+\.requests: .*[Rr]eplication"):
        asyncio.run(create_topics(fresh(), settings))


def test_without_a_broker():
    """One sentence with the address and the fix."""
    with pytest.raises(Unavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1: start it"):
        asyncio.run(create_topics(fresh(), Kafka(bootstrap_servers="127.0.0.1:1")))
