"""Labels: from Kafka records to checked values."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from streams.errors import BadRecord
from streams.records import Label
from streams.requests import MAX_ID
from streams.settings import Limits
from streams.times import parse_time

#: Codes of a label, as the store and the statistics know them.
POSITIVE, NEGATIVE, WITHDRAWN = 1, 2, 3

_CODES = {True: POSITIVE, False: NEGATIVE, None: WITHDRAWN}
_INT53 = 2**53
_decode = msgspec.json.Decoder(Label).decode


class PlacedLabel(msgspec.Struct, frozen=True, gc=False):
    """One usable label: instants in epoch ms, `label` POSITIVE, NEGATIVE or WITHDRAWN."""

    request_id: str
    label: int
    labelled_at: int
    source: str
    revision: int
    requested_at: int | None


def decode_labels(
    records: Iterable[Any], limits: Limits, *, now: int | None = None
) -> tuple[list[tuple[int, PlacedLabel]], list[tuple[Any, BadRecord]]]:
    """The usable labels of aiokafka records as (offset, label), and the bad ones with why."""
    now = time.time_ns() // 1_000_000 if now is None else now
    good, bad = [], []
    for record in records:
        try:
            good.append((record.offset, _one(record, limits, now)))
        except BadRecord as error:
            bad.append((record, error))
    return good, bad


def _one(record: Any, limits: Limits, now: int) -> PlacedLabel:
    value = record.value
    if not value:
        raise BadRecord("empty", "the record has no value")
    if len(value) > limits.max_record:
        raise BadRecord("oversized", f"{len(value)} bytes, more than {limits.max_record}")
    try:
        label = _decode(value)
    except msgspec.ValidationError as error:
        text = str(error)
        reason = "missing_field" if "missing required field" in text else "wrong_type"
        raise BadRecord(reason, text) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("malformed", str(error)) from None
    if not label.request_id:
        raise BadRecord("missing_field", "request_id is empty")
    if _too_long(label.request_id) or _too_long(label.source):
        raise BadRecord("oversized", f"request_id or source is longer than {MAX_ID} bytes")
    if not -_INT53 < label.revision < _INT53:
        raise BadRecord("wrong_type", "revision does not fit 53 bits")
    produced = min(record.timestamp, now) if record.timestamp and record.timestamp > 0 else now
    latest = produced + limits.max_future
    labelled_at = _instant("labelled_at", label.labelled_at, latest)
    asked = label.requested_at
    requested_at = None if asked is None else _instant("requested_at", asked, latest)
    return PlacedLabel(
        label.request_id, _CODES[label.label], labelled_at, label.source, label.revision, requested_at
    )


def _too_long(text: str) -> bool:
    return len(text) > MAX_ID // 4 and len(text.encode()) > MAX_ID


def _instant(name: str, value: int | float | str, latest: int) -> int:
    if type(value) is int and 0 <= value <= latest:
        return value
    try:
        at = parse_time(value)
    except (ValueError, OverflowError) as error:
        raise BadRecord("bad_time", f"{name}: {str(error)[:200]}") from None
    if at > latest:
        raise BadRecord("future_dated", f"{name} lies ahead of the moment at which the record was produced")
    return at
