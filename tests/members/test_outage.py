"""What a host says while the broker does not take what it writes."""

from __future__ import annotations

import logging

from aiokafka.errors import KafkaConnectionError, NotEnoughReplicasError, TopicAuthorizationFailedError

from members.sending import Outage


def test_an_outage_and_a_refusal_are_told_apart(caplog):
    """Each once, in its own words, also where one comes after the other; and once when it is over."""
    outage = Outage("b:1")
    with caplog.at_level(logging.INFO, logger="chorus"):
        outage.tell()
        outage.tell(KafkaConnectionError("gone"))
        for _ in range(2):
            outage.tell(NotEnoughReplicasError())
        outage.tell(TopicAuthorizationFailedError("s.votes"))
        outage.over()
        outage.over()
    silent, replicas, may_not, over = (record.getMessage() for record in caplog.records)
    assert silent.startswith("the broker at b:1 does not answer (no answer)")
    assert "too few replicas in sync" in replicas
    assert "lacks the permission Write on topic s.votes" in may_not
    assert "does not answer" not in replicas + may_not
    assert over == "the broker at b:1 answers again"
