"""Cheaper records: aiokafka wraps each one in a frozen dataclass, which costs more than reading it does."""

from __future__ import annotations

from typing import Any

import msgspec
from aiokafka.consumer import fetcher


class LightRecord(msgspec.Struct, gc=False):
    """What aiokafka's ConsumerRecord holds, under the same names, at a fifth of its cost."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    timestamp_type: int | None
    key: bytes | None
    value: bytes | None
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: Any


def _light(self: Any, tp: Any, record: Any) -> Any:
    key, value = record.key, record.value
    if self._key_deserializer or self._value_deserializer:
        return _heavy(self, tp, record)
    return LightRecord(
        tp[0],
        tp[1],
        record.offset,
        record.timestamp,
        record.timestamp_type,
        key,
        value,
        record.checksum,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        record.headers,
    )


_heavy: Any = getattr(getattr(fetcher, "PartitionRecords", None), "_consumer_record", None)


def use_light_records() -> None:
    """Let every aiokafka consumer of this process return LightRecords. Called by worker processes only.

    Where a later aiokafka has another inside, nothing changes: records are then as heavy as it makes them.
    """
    if _heavy is not None:
        fetcher.PartitionRecords._consumer_record = _light
