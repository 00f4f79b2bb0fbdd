"""Cheaper records: aiokafka wraps each one in a frozen dataclass, which costs more than reading it does."""

from __future__ import annotations

from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec
from aiokafka.consumer import fetcher


class LightRecord(msgspec.Struct, gc=False):
    """What aiokafka's ConsumerRecord holds, under the same names, at a tenth of its cost.

    `place` is the partition, `inner` aiokafka's own view of the record in its batch: each value is fetched
    from there when somebody asks.
    """

    place: Any
    inner: Any

    topic = property(attrgetter("place.topic"))
    partition = property(attrgetter("place.partition"))
    offset = property(attrgetter("inner.offset"))
    timestamp = property(attrgetter("inner.timestamp"))
    value = property(attrgetter("inner.value"))
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


_plain: Any = getattr(fetcher, "PartitionRecords", None)
_known = hasattr(_plain, "_consumer_record") and all(
    hasattr(getattr(fetcher, "FetchResult", None), name)
    for name in ("getall", "check_assignment", "has_more", "_update_position")
)


def _partition_records(*args: Any, **kwargs: Any) -> Any:
    """What aiokafka reads the records of one fetch from: light, unless something is to be deserialised."""
    made = _plain(*args, **kwargs)
    if made._key_deserializer is None and made._value_deserializer is None:
        made._consumer_record = LightRecord
    return made


def use_light_records() -> None:
    """Let every aiokafka consumer of this process return LightRecords. Called by worker processes only.

    Where a later aiokafka has another inside, nothing changes: records are then as heavy as it makes them.
    """
    if _known:
        fetcher.PartitionRecords = _partition_records
        fetcher.FetchResult.getall = _getall
