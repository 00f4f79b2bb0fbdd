"""The topic `alerts`, from here to there: for what was told before, and for people who look."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from evaluator.alerting.alert import Alert, decode_alert
from streams.connect import answering, check_topics, connecting, make_consumer
from streams.errors import BadRecord, Unavailable
from streams.settings import Kafka
from streams.topics import Topics

#: s without anything new after which the broker does not answer; longer than a hole is read again for.
_QUIET = 20.0


async def read_range(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> list[Any]:
    """The records at offsets [begin, end), as far as they are no markers. Moves the consumer's position.

    Raises Unavailable where the broker falls silent before `end`: a part would look like all of it.
    """
    found: list[Any] = []
    if begin >= end:
        return found
    consumer.seek(tp, begin)
    consumer.resume(tp)
    at, last = begin, time.monotonic()
    while at < end:
        records = (await consumer.getmany(tp, timeout_ms=200)).get(tp, [])
        found += [record for record in records if record.offset < end]
        now = await consumer.position(tp)
        if now > at:
            at, last = now, time.monotonic()
        elif time.monotonic() - last > _QUIET:
            raise Unavailable(
                f"{tp.topic} could only be read to offset {at} of {end}, and the broker says nothing more: "
                "check the broker, and try again"
            )
    return found


async def read_alerts(kafka: Kafka, suite: str) -> list[Alert]:
    """Every alert that the topic holds, oldest first; what cannot be read is left out. Raises Unavailable."""
    consumer = make_consumer(kafka)
    tp = TopicPartition(Topics(suite).alerts, 0)
    async with connecting(kafka, consumer.stop, "Read"):
        await consumer.start()
        await check_topics(consumer, [tp.topic])
    try:
        with answering(kafka, "Read"):
            consumer.assign([tp])
            begin = (await consumer.beginning_offsets([tp]))[tp]
            end = (await consumer.end_offsets([tp]))[tp]
            return list(alerts_of(await read_range(consumer, tp, begin, end), suite))
    finally:
        await consumer.stop()


def alerts_of(records: Iterable[Any], suite: str) -> Iterator[Alert]:
    """Those that can be read; receivers put the others into dead letters."""
    for record in records:
        with suppress(BadRecord):
            yield decode_alert(record, suite)
