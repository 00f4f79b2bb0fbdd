"""Who may change the suite is a matter of ACLs on the registry's topic: on Apache Kafka, with a login."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from confluent_kafka import admin

from members.registry.lifecycle import draft
from members.registry.log import RegistryLog
from streams.errors import Unavailable
from streams.settings import Kafka
from streams.suite import MemberSpec, Suite
from streams.topics import Topics, create_topics
from tests.conftest import Broker, clerk


@pytest.fixture
def suite(kafka: Broker) -> Suite:
    """With its topics."""
    member = MemberSpec(name="a", version="1", owner="ana", loader="m:C", stage="live")
    declared = Suite(name=f"lock-{uuid.uuid4().hex[:8]}", member=[member])
    asyncio.run(create_topics(declared, Kafka(bootstrap_servers=kafka.bootstrap_servers)))
    return declared


def allow(broker: Broker, topic: str, operation: admin.AclOperation) -> None:
    client = admin.AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    acl = admin.AclBinding(
        admin.ResourceType.TOPIC, topic, admin.ResourcePatternType.LITERAL, "User:clerk", "*", operation,
        admin.AclPermissionType.ALLOW,
    )  # fmt: skip
    for done in client.create_acls([acl]).values():
        done.result(10)


async def read(kafka: Kafka, suite: Suite) -> int:
    async with RegistryLog(kafka, suite.name) as log:
        return log.registry.revision


async def found(kafka: Kafka, suite: Suite) -> int:
    async with RegistryLog(kafka, suite.name) as log:
        return (await log.found(suite, "ana")).revision


def test_who_may_read_the_registry_and_who_may_write_it(kafka: Broker, suite: Suite) -> None:
    """Each refusal names the topic and the operation that an ACL has to allow; with it, it goes."""
    mine, topic = clerk(kafka), Topics(suite.name).members
    with pytest.raises(Unavailable, match=f"{topic}.*ACLs"):
        asyncio.run(read(mine, suite))
    allow(kafka, topic, admin.AclOperation.DESCRIBE)
    asyncio.run(found(Kafka(bootstrap_servers=kafka.bootstrap_servers), suite))
    with pytest.raises(Unavailable, match=f"^clerk lacks the permission Read on topic {topic}: .*ACL"):
        asyncio.run(read(mine, suite))
    allow(kafka, topic, admin.AclOperation.READ)
    assert asyncio.run(read(mine, suite)) == 1

    async def write() -> None:
        async with RegistryLog(mine, suite.name) as log:
            more = {"spec": suite.member[0].model_copy(update={"owner": "ben"})}
            await log.append(draft(log.registry, "described", "a@1", who="ben", why="due", at=1, **more))

    with pytest.raises(Unavailable, match=f"^clerk lacks the permission Write on topic {topic}: .*ACL"):
        asyncio.run(write())
    allow(kafka, topic, admin.AclOperation.WRITE)
    asyncio.run(write())


def test_a_cut_log_of_the_registry(kafka: Broker, suite: Suite) -> None:
    """Retention has taken its beginning: it says so, and what the topic needs."""
    mine = Kafka(bootstrap_servers=kafka.bootstrap_servers)
    topic = Topics(suite.name).members

    async def cut() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await client.start()
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=1)})
        await client.close()

    asyncio.run(found(mine, suite))
    asyncio.run(cut())
    with pytest.raises(
        Unavailable, match=rf"is cut: topic {topic} does not have its offset 0.*retention.ms=-1"
    ):
        asyncio.run(read(mine, suite))
