"""What a broker refuses is told as what it is, and not as an outage."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    NotEnoughReplicasError,
    OffsetOutOfRangeError,
    TransactionalIdAuthorizationFailed,
    UnknownError,
)
from aiokafka.structs import TopicPartition

from streams.connect import no_broker, ping_broker, unavailable
from streams.errors import ChorusError, Unavailable
from streams.refusals import explain
from streams.settings import Kafka
from streams.suite import Suite
from streams.topics import create_topics
from tests.conftest import Broker, clerk


def test_what_is_no_refusal_is_not_explained() -> None:
    """Whatever an error of the broker carries."""
    for error in (KafkaConnectionError(OSError()), UnknownError(7), UnknownError(None), OSError("no")):
        assert explain(error) is None


def test_a_wrong_password(kafka: Broker) -> None:
    """The login is what is wrong, and not the address."""
    with pytest.raises(Unavailable, match=r"does not accept the login clerk .*CHORUS_KAFKA__SASL_PASSWORD"):
        asyncio.run(ping_broker(clerk(kafka, "pen")))
    with pytest.raises(Unavailable, match="does not accept the login clerk"):
        asyncio.run(create_topics(Suite(name="none"), clerk(kafka, "pen")))


def test_who_may_make_topics(kafka: Broker) -> None:
    """Nobody is told to start the broker, which answers."""
    with pytest.raises(ChorusError, match="clerk lacks the permission Create on topic mine"):
        asyncio.run(create_topics(Suite(name="mine"), clerk(kafka)))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NotEnoughReplicasError(), "the broker at b:1 has too few replicas in sync .* min.insync.replicas"),
        (GroupAuthorizationFailedError("s.live"), "^this client lacks .* Read on consumer group s"),
        (TransactionalIdAuthorizationFailed("s.1"), "lacks the permission Write on transactional id s.1"),
        (ClusterAuthorizationFailedError(), "lacks the permission ClusterAction on the cluster"),
        (OffsetOutOfRangeError({TopicPartition("s.votes", 2): 5}), "offset 5 of topic s.votes, partition 2"),
    ],
)  # fmt: skip
def test_other_refusals(error: Exception, sentence: str) -> None:
    """Each has a sentence of its own, and none is an outage."""
    told = explain(error, kafka=Kafka(bootstrap_servers="b:1")) or ""
    assert re.search(sentence, told)


def test_everything_else_is_an_outage() -> None:
    """Whatever is not known by name is told as before."""
    kafka = Kafka(bootstrap_servers="b:1")
    assert explain(KafkaConnectionError("gone"), "Read", kafka) is None
    assert explain(ValueError("other")) is None
    assert str(unavailable(kafka, KafkaConnectionError("gone"))) == no_broker(kafka)
