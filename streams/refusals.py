"""What a broker refuses, in words: who may not do what, what is gone, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from streams.settings import Kafka

_LOGIN = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
_REPLICAS = (NotEnoughReplicasError, NotEnoughReplicasAfterAppendError)


def explain(error: BaseException, needs: str = "", kafka: Kafka | None = None) -> str | None:
    """One sentence with the fix for an error that is a refusal; None for every other one.

    needs: the operation that was under way, as an ACL names it (Read, Write). kafka: which broker, as whom.
    """
    if not isinstance(error, KafkaError):
        return None
    user = kafka.sasl_username if kafka is not None else None
    place = f"the broker at {kafka.bootstrap_servers}" if kafka is not None else "the broker"
    if isinstance(error, _LOGIN):
        return (
            f"{place} does not accept the login {user or '(none)'} ({error}): check "
            "CHORUS_KAFKA__SASL_USERNAME, CHORUS_KAFKA__SASL_PASSWORD and CHORUS_KAFKA__SASL_MECHANISM"
        )
    if missing := _permission(error, needs):
        return (
            f"{user or 'this client'} lacks the permission {missing}: add an ACL on {place} that allows it, "
            "or leave this to somebody who has it"
        )
    if isinstance(error, _REPLICAS):
        return (
            f"{place} has too few replicas in sync to take a record: bring its other brokers back, or set "
            "min.insync.replicas to no more than the topic's replication factor"
        )
    return _gone(error) if isinstance(error, OffsetOutOfRangeError) else None


def _permission(error: KafkaError, needs: str) -> str:
    """Which one is missing, as an ACL names it; empty where none is."""
    what = error.args[0] if error.args else ""
    name = ", ".join(sorted(map(str, what))) if isinstance(what, set | frozenset | list | tuple) else what
    if isinstance(error, TopicAuthorizationFailedError):
        return f"{needs or 'Describe'} on topic {name}".strip()
    if isinstance(error, GroupAuthorizationFailedError):
        return f"Read on consumer group {name}".strip()
    if isinstance(error, TransactionalIdAuthorizationFailed):
        return f"Write on transactional id {name}".strip()
    if isinstance(error, ClusterAuthorizationFailedError):
        return f"{needs or 'ClusterAction'} on the cluster"
    return ""


def _gone(error: OffsetOutOfRangeError) -> str | None:
    """The registry's log is read from its beginning: where that is gone, nobody knows who is live."""
    places = error.args[0] if error.args and isinstance(error.args[0], Mapping) else {}
    for tp, offset in places.items():
        if tp.topic.endswith(".members"):
            return (
                f"the registry's log is cut: topic {tp.topic} lacks its offset {offset}, and has to keep all "
                "(cleanup.policy=delete, retention.ms=-1, retention.bytes=-1): restore it from a copy, or "
                "begin anew as docs/registry.md says"
            )
    told = [f"offset {at} of topic {tp.topic}, partition {tp.partition}" for tp, at in places.items()]
    return f"the broker does not have {', '.join(told)} any more" if told else None
