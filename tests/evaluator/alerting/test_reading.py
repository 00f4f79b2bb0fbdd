"""Reading `alerts` from here to there: all of it, or none with a reason."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from evaluator.alerting import reading
from evaluator.alerting.reading import read_range
from streams.connect import make_consumer, make_producer
from streams.errors import Unavailable
from streams.settings import Kafka
from streams.suite import parse_suite
from streams.topics import Topics, create_topics

TP = TopicPartition("s.alerts", 0)


class Consumer:
    """One that is given so many records, and hears no more after that; then it stands at `position`."""

    def __init__(self, records: int, at: int | None = None) -> None:
        self.left = [
            ConsumerRecord(*TP, offset, 0, 0, None, b"{}", None, 0, 2, ()) for offset in range(records)
        ]
        self.at = records if at is None else at

    def seek(self, tp: TopicPartition, offset: int) -> None:
        pass

    def resume(self, tp: TopicPartition) -> None:
        pass

    async def position(self, tp: TopicPartition) -> int:
        return self.left[0].offset if self.left else self.at

    async def getmany(
        self, tp: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0.01)
        some, self.left = self.left[:2], self.left[2:]
        return {tp: some} if some else {}


def test_a_broker_that_falls_silent_is_not_the_end(monkeypatch):
    """Half of what fires would look like all of it."""
    monkeypatch.setattr(reading, "_QUIET", 0.2)
    with pytest.raises(Unavailable, match=r"s\.alerts .* offset 4 of 9"):
        asyncio.run(read_range(Consumer(4), TP, 0, 9))
    assert len(asyncio.run(read_range(Consumer(9), TP, 0, 9))) == 9
    assert len(asyncio.run(read_range(Consumer(4, at=9), TP, 0, 9))) == 4


@pytest.mark.kafka
def test_a_log_that_ends_in_markers_is_read_to_its_end(kafka):
    """What was aborted is not there, and nobody waits for it."""

    async def scenario() -> list[bytes]:
        settings = Kafka(bootstrap_servers=kafka.bootstrap_servers, partitions=1)
        suite = parse_suite(f'name = "m{uuid.uuid4().hex[:8]}"\n')
        await create_topics(suite, settings)
        tp = TopicPartition(Topics(suite.name).alerts, 0)
        producer = make_producer(settings, transactional_id=uuid.uuid4().hex)
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(tp.topic, b"1")
        await producer.begin_transaction()
        await producer.send_and_wait(tp.topic, b"2")
        await producer.abort_transaction()
        await producer.stop()
        consumer = make_consumer(settings)
        await consumer.start()
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        assert end == 4
        records = await read_range(consumer, tp, 0, end)
        await consumer.stop()
        return [record.value for record in records]

    assert asyncio.run(scenario()) == [b"1"]
