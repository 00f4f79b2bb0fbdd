"""The topics of one suite: their names, their retention, and how they are made."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from streams.connect import admin_client
from streams.errors import ChorusError, Unavailable
from streams.refusals import explain
from streams.settings import Kafka
from streams.suite import DAY, Suite

_TOPIC_ALREADY_EXISTS = 36


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of a suite's topics: its name, a dot, and what is in them."""

    suite: str

    @property
    def requests(self) -> str:
        return f"{self.suite}.requests"

    @property
    def labels(self) -> str:
        return f"{self.suite}.labels"

    @property
    def decisions(self) -> str:
        return f"{self.suite}.decisions"

    @property
    def votes(self) -> str:
        return f"{self.suite}.votes"

    @property
    def members(self) -> str:
        return f"{self.suite}.members"

    @property
    def alerts(self) -> str:
        return f"{self.suite}.alerts"

    @property
    def reviews(self) -> str:
        return f"{self.suite}.reviews"

    @property
    def dead_letters(self) -> str:
        return f"{self.suite}.dead-letters"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it should be made. `config` is Kafka's topic configuration."""

    name: str
    partitions: int
    config: dict[str, str]


def topic_specs(suite: Suite, kafka: Kafka) -> list[TopicSpec]:
    """The topics of a suite with their retention.

    The log is the truth and Redis its view: what the view is rebuilt from (requests, labels, votes) is kept
    for longer than the view itself, or a rebuild would give other numbers. The registry is kept for ever.
    Votes have as many partitions as requests, so that the records of one partition have one order.
    """
    names = Topics(suite.name)
    log = str(suite.retention_ms + 7 * DAY)
    month = str(max(30 * DAY, suite.retention_ms))
    common = {"cleanup.policy": "delete"}
    return [
        TopicSpec(names.requests, kafka.partitions, {**common, "retention.ms": log}),
        TopicSpec(names.labels, kafka.partitions, {**common, "retention.ms": log}),
        TopicSpec(names.votes, kafka.partitions, {**common, "retention.ms": log}),
        TopicSpec(names.decisions, kafka.partitions, {**common, "retention.ms": month}),
        TopicSpec(names.members, 1, {**common, "retention.ms": "-1", "retention.bytes": "-1"}),
        TopicSpec(names.alerts, 1, {**common, "retention.ms": month}),
        TopicSpec(names.reviews, 1, {**common, "retention.ms": month}),
        TopicSpec(names.dead_letters, 1, {**common, "retention.ms": month}),
    ]


async def create_topics(suite: Suite, kafka: Kafka) -> dict[str, str]:
    """Make the topics that are missing; what is there is left as it is.

    Returns topic name → ``"created"`` or ``"exists"``. Raises Unavailable without a broker, ChorusError when
    the broker refuses a topic.
    """
    specs = topic_specs(suite, kafka)
    client: AIOKafkaAdminClient = await admin_client(kafka)
    try:
        answer = await client.create_topics(
            [
                NewTopic(spec.name, spec.partitions, kafka.replication_factor, topic_configs=spec.config)
                for spec in specs
            ]
        )
    except KafkaError as error:
        place = kafka.bootstrap_servers
        raise Unavailable(f"the broker at {place} did not make the topics: {error}") from None
    finally:
        await client.close()
    result = {}
    for name, code, message in ((row[0], row[1], row[2]) for row in answer.topic_errors):
        if code not in (0, _TOPIC_ALREADY_EXISTS):
            why = explain(for_code(code)(name), "Create", kafka) or message or f"error {code}"
            raise ChorusError(f"the broker refused topic {name}: {why}")
        result[name] = "exists" if code else "created"
    return result
