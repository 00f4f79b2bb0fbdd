"""Single requests from the topic `requests`, by partition and offset."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from evaluator.examples.sampling import Hit
from streams.connect import check_topics, make_consumer, unavailable
from streams.settings import Kafka

#: s that one answer is waited for: not every broker tells the truth about where the log ends.
_WAIT = 3.0


class RequestsLog:
    """A consumer without a group: it commits nothing and takes nothing away from the hosts."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._consumer: AIOKafkaConsumer | None = None

    async def close(self) -> None:
        """Leave the broker; `read` comes back to it."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def read(self, hits: Sequence[Hit]) -> dict[Hit, bytes | None]:
        """The values at these places; None where the record is gone. What did not come in time is left out.

        Raises Unavailable.
        """
        out: dict[Hit, bytes | None] = {}
        try:
            consumer = await self._open()
            for number in sorted({hit.partition for hit in hits}):
                some = sorted((hit for hit in hits if hit.partition == number), key=lambda hit: hit.offset)
                await self._read(consumer, TopicPartition(self._topic, number), some, out)
            consumer.unsubscribe()  # else it would go on fetching what nobody asked for
        except KafkaError as error:
            await self.close()
            raise unavailable(self._kafka, error, "Read") from None
        return out

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = make_consumer(self._kafka, max_partition_fetch_bytes=65_536)
            await self._consumer.start()
            await check_topics(self._consumer, [self._topic])
        return self._consumer

    async def _read(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, hits: list[Hit], out: dict[Hit, bytes | None]
    ) -> None:
        consumer.assign([tp])
        try:  # votes may name a partition that there is not
            beginning = (await asyncio.wait_for(consumer.beginning_offsets([tp]), _WAIT))[tp]
        except TimeoutError:
            return
        fetched: dict[int, Any] = {}
        for hit in hits:
            if hit.offset < beginning:
                out[hit] = None
                continue
            if not fetched or hit.offset > max(fetched):
                try:
                    fetched = await self._fetch(consumer, tp, hit.offset)
                except OffsetOutOfRangeError:  # cut in this moment, or the topic was made anew
                    out[hit] = None
                    continue
            if not fetched:
                return
            # Records behind it and none at it: it has been compacted away.
            out[hit] = fetched[hit.offset].value if hit.offset in fetched else None

    async def _fetch(self, consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> dict[int, Any]:
        """The records from an offset on, as far as they come at once; empty where none does in time."""
        consumer.seek(tp, offset)
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline:
            records = (await consumer.getmany(tp, timeout_ms=200, max_records=100)).get(tp, [])
            if found := {record.offset: record for record in records if record.offset >= offset}:
                return found
        return {}
