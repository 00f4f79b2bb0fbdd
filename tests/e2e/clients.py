"""The producers (aiokafka and librdkafka, whose partitioners differ), and a reader of whole topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Producer

from tests.e2e.generate import Event
from tests.e2e.logs import Raw
from tests.e2e.suites import SuiteFile


class Senders:
    """Sends events with the client that each names, and remembers where every record came to stand."""

    def __init__(self, suite: SuiteFile, bootstrap: str) -> None:
        self._suite, self._bootstrap = suite, bootstrap
        self.places: dict[str, set[tuple[int, int]]] = {"requests": set(), "labels": set(), "votes": set()}
        self.bad: dict[tuple[str, int, int], str] = {}

    async def __aenter__(self) -> Senders:
        self._rdkafka = Producer(
            {"bootstrap.servers": self._bootstrap, "message.max.bytes": 2_000_000, "log_level": 0}
        )
        self._aiokafka = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, max_request_size=2_000_000, acks="all", linger_ms=5
        )
        await self._aiokafka.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._aiokafka.stop()

    async def send(self, events: Iterable[Event]) -> None:
        """Send these and wait until the broker has them all."""
        waiting: list[tuple[Event, Any]] = []
        failed: list[str] = []
        for event in events:
            topic = self._suite.topic(event.topic)
            if event.client == "aiokafka":
                sent = await self._aiokafka.send(topic, event.value, event.key, partition=event.partition)
                waiting.append((event, sent))
            else:
                self._rdkafka.produce(topic, event.value, event.key, on_delivery=self._report(event, failed))
        for event, sent in waiting:
            there = await sent
            self._note(event, there.partition, there.offset)
        left = await asyncio.to_thread(self._rdkafka.flush, 60)
        assert (left, failed) == (0, []), "librdkafka could not send everything"

    def _report(self, event: Event, failed: list[str]) -> Callable[[Any, Any], None]:
        def report(error: Any, message: Any) -> None:
            if error is None:
                self._note(event, message.partition(), message.offset())
            else:
                failed.append(str(error))

        return report

    def _note(self, event: Event, partition: int, offset: int) -> None:
        self.places[event.topic].add((partition, offset))
        if event.bad:
            self.bad[self._suite.topic(event.topic), partition, offset] = event.bad


async def read_topic(
    bootstrap: str, topic: str, missing: Callable[[list[Raw]], Any], *, seconds: float = 120.0
) -> list[Raw]:
    """Read a topic from its beginning until nothing is `missing` in what has come, and return that."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4_000_000,
        fetch_max_wait_ms=50,
        isolation_level="read_committed",
    )
    await consumer.start()
    found: dict[tuple[int, int], Raw] = {}
    deadline = time.monotonic() + seconds
    try:
        while lacking := missing(list(found.values())):
            told = f"after {len(found)} records {topic} lacks {str(lacking)[:2000]}"
            assert time.monotonic() < deadline, told
            fetched = await consumer.getmany(timeout_ms=500)
            for records in fetched.values():
                for record in records:
                    place = (record.partition, record.offset)
                    found[place] = Raw(*place, record.value, record.timestamp)
            if not fetched:  # the embedded broker may show a batch before the one that stands in front of it
                for partition in consumer.assignment():
                    consumer.seek(partition, 0)
        return list(found.values())
    finally:
        await consumer.stop()
