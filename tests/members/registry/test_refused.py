"""Who may change the suite is a matter of ACLs on the registry's topic: on Apache Kafka, with a login."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

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


async def describe(kafka: Kafka, suite: Suite) -> int:
    async with RegistryLog(kafka, suite.name) as log:
        spec = suite.member[0].model_copy(update={"owner": "ben"})
        event = draft(log.registry, "described", "a@1", who="ben", why="due", at=1, spec=spec)
        return (await log.append(event)).revision


def outcome(attempt: Any) -> str:
    try:
        return f"revision {asyncio.run(attempt)}"
    except Unavailable as error:
        return str(error)


def until_told(attempt: Callable[[], Any], pattern: str) -> None:
    """An ACL takes a moment to hold."""
    deadline = time.monotonic() + 30
    while not re.search(pattern, told := outcome(attempt())):
        assert time.monotonic() < deadline, told


def test_who_may_read_the_registry_and_who_may_write_it(kafka: Broker, suite: Suite) -> None:
    """Each refusal names the topic and the operation that an ACL has to allow; with it, it goes."""
    mine, topic = clerk(kafka), Topics(suite.name).members
    asyncio.run(found(Kafka(bootstrap_servers=kafka.bootstrap_servers), suite))
    until_told(lambda: read(mine, suite), f"{topic}.*ACLs")
    allow(kafka, topic, admin.AclOperation.DESCRIBE)
    until_told(lambda: read(mine, suite), f"^clerk lacks the permission Read on topic {topic}: .*ACL")
    allow(kafka, topic, admin.AclOperation.READ)
    until_told(lambda: read(mine, suite), "^revision 1$")
    until_told(lambda: describe(mine, suite), f"^clerk lacks the permission Write on topic {topic}: .*ACL")
    allow(kafka, topic, admin.AclOperation.WRITE)
    until_told(lambda: describe(mine, suite), "^revision 1$")


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
    with pytest.raises(Unavailable, match=rf"is cut: topic {topic} lacks its offset 0.*retention.ms=-1"):
        asyncio.run(read(mine, suite))
