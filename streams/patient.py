"""A consumer that does not believe in a hole between two offsets before it has looked again.

The embedded broker hands out offsets before it stores what belongs there: with two producers on one partition
a fetch may show a batch while the one in front of it is missing, for some milliseconds. Whoever read on would
never see it. On Apache Kafka offsets are missing for good reasons only (compaction, the markers of
transactions), so that this is off there.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition


class PatientConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """Reads a hole again for `patience` seconds; one that stays is one of the log's own, and is passed on."""

    def __init__(self, *topics: str, patience: float, **options: Any) -> None:
        super().__init__(*topics, **options)
        self._patience = patience
        self._next: dict[TopicPartition, int] = {}
        self._holes: dict[TopicPartition, tuple[int, float]] = {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        super().seek(partition, offset)
        self._next[partition] = offset

    async def getmany(self, *partitions: TopicPartition, **options: Any) -> dict[TopicPartition, list[Any]]:
        fetched = await super().getmany(*partitions, **options)
        return {tp: whole for tp, records in fetched.items() if (whole := self._whole(tp, records))}

    def _whole(self, tp: TopicPartition, records: list[Any]) -> list[Any]:
        """The records up to a hole that is new; then the position goes back to where it begins."""
        at = self._next.get(tp, records[0].offset)
        if records[-1].offset - at != len(records) - 1:
            for i, record in enumerate(records):
                if record.offset > at and self._doubt(tp, at):
                    self.seek(tp, at)
                    return records[:i]
                at = record.offset + 1
        self._next[tp] = records[-1].offset + 1
        return records

    def _doubt(self, tp: TopicPartition, at: int) -> bool:
        now = time.monotonic()
        where, since = self._holes.get(tp, (-1, now))
        if where != at:
            since = now
        self._holes[tp] = (at, since)
        return now - since < self._patience and tp in self.assignment()
