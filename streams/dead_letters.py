"""Dead letters: a record that cannot be used, kept with where it stood and why."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec

from streams.errors import BadRecord
from streams.records import DeadLetter, Origin

#: Bytes of the raw key and of the raw value that a dead letter keeps.
KEPT = 256 * 1024

_encode = msgspec.json.Encoder().encode


def dead_letter(record: Any, error: BadRecord, by: str) -> tuple[bytes, bytes]:
    """Key and JSON value of the dead letter for one aiokafka record; `by` names who could not use it.

    The key is the origin, ``topic/partition/offset``: writing it again is harmless, readers count by it.
    """
    timestamp = record.timestamp if record.timestamp is not None and record.timestamp >= 0 else None
    letter = DeadLetter(
        reason=error.reason,
        detail=error.detail[:1000],
        origin=Origin(record.topic, record.partition, record.offset, timestamp),
        by=by,
        size=len(record.value or b""),
        key=None if record.key is None else b64encode(record.key[:KEPT]).decode(),
        value=None if record.value is None else b64encode(record.value[:KEPT]).decode(),
        truncated=len(record.key or b"") > KEPT or len(record.value or b"") > KEPT,
    )
    return f"{record.topic}/{record.partition}/{record.offset}".encode(), _encode(letter)
