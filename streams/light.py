"""Cheaper records: aiokafka wraps each one in a frozen dataclass, which costs more than reading it does."""

from __future__ import annotations

from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec
from aiokafka.consumer import fetcher


class LightRecord(msgspec.Struct, gc=False):
    """What aiokafka's ConsumerRecord holds, under the same names, at a fifth of its cost.

    Everybody looks at the value and the timestamp (epoch ms); the rest is fetched from `inner`, aiokafka's
    own view of the record in its batch, when somebody asks. `place` is the partition.
    """

    value: bytes | None
    timestamp: int | None
    place: Any
    inner: Any

    topic = property(attrgetter("place.topic"))
    partition = property(attrgetter("place.partition"))
    offset = property(attrgetter("inner.offset"))
    key = property(attrgetter("inner.key"))
    headers = property(attrgetter("inner.headers"))

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key, -1 without one."""
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value, -1 without one."""
        return -1 if self.value is None else len(self.value)


def _record(self: Any, tp: Any, record: Any) -> Any:
    if self._key_deserializer or self._value_deserializer:
        return _plain_record(self, tp, record)
    return LightRecord(record.value, record.timestamp, tp, record)


def _getall(self: Any, max_records: int | None = None) -> list[Any]:
    """FetchResult.getall without its two calls per record."""
    if not self.check_assignment(self._topic_partition) or not self.has_more():
        return []
    records = self._partition_records
    out = list(islice(records._records_iterator, max_records))
    self._update_position()
    if max_records is None or len(out) < max_records:
        records._records_iterator = None  # a generator of its own owner
        self._partition_records = None
    return out


_plain_record: Any = getattr(getattr(fetcher, "PartitionRecords", None), "_consumer_record", None)
_known = _plain_record is not None and all(
    hasattr(getattr(fetcher, "FetchResult", None), name)
    for name in ("getall", "check_assignment", "has_more", "_update_position")
)


def use_light_records() -> None:
    """Let every aiokafka consumer of this process return LightRecords. Called by worker processes only.

    Where a later aiokafka has another inside, nothing changes: records are then as heavy as it makes them.
    """
    if _known:
        fetcher.PartitionRecords._consumer_record = _record
        fetcher.FetchResult.getall = _getall
