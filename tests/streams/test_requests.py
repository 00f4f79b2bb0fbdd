"""Requests: what is read from one, and what makes it bad."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streams.requests import RequestDecoder
from streams.settings import Limits
from streams.suite import parse_suite

SUITE = parse_suite("""
name = "t"
segments = ["carrier", "region"]
[features]
wind = "float"
count = "int"
wet = "bool"
carrier = "category"
"odd name" = "text"
""")
NOW = 1_700_000_000_000
GOOD: dict[str, Any] = {"request_id": "r", "timestamp": NOW, "features": {"wind": 1.5}}


def record(value: Any, offset: int = 0, timestamp: int | None = NOW) -> Any:
    if isinstance(value, dict):
        value = json.dumps(value).encode()
    return SimpleNamespace(
        topic="t.requests", partition=0, offset=offset, timestamp=timestamp, key=None, value=value
    )


def decode(*values: Any, suite: Any = SUITE, **limits: Any) -> Any:
    records = [value if hasattr(value, "offset") else record(value, i) for i, value in enumerate(values)]
    return RequestDecoder(suite, Limits(**limits)).decode(records, now=NOW)


def test_columns() -> None:
    """Features become columns of their types; absent and null are missing, unknown ones are ignored."""
    features = {"wind": 2, "count": 3, "wet": True, "carrier": "UA", "odd name": "x", "more": [1]}
    got = decode(
        {**GOOD, "features": features}, {**GOOD, "features": {"wind": None, "wet": False}, "other": {"a": 1}}
    )
    batch = got.batch
    assert len(got) == 2
    assert got.ids == ["r", "r"]
    assert got.offsets.tolist() == [0, 1]
    assert batch["wind"].dtype == np.float64
    assert batch["wind"][0] == 2.0
    assert np.isnan(batch["wind"][1])
    assert batch.missing("wind").tolist() == [False, True]
    assert batch["count"].dtype == np.int64
    assert batch["count"].tolist() == [3, 0]
    assert batch["wet"].dtype == np.bool_
    assert batch["wet"].tolist() == [True, False]
    assert not batch.missing("wet").any()
    assert batch["carrier"].tolist() == ["UA", None]
    assert batch["odd name"].tolist() == ["x", None]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (NOW, NOW),
        (float(NOW), NOW),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        (0, 0),
    ],
)
def test_times(timestamp: Any, expected: int) -> None:
    """Timestamps are epoch milliseconds or ISO 8601, UTC where no zone is named."""
    assert decode({**GOOD, "timestamp": timestamp}).times.tolist() == [expected]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"junk", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"request_id": "r"', "malformed"),
        (b'{"request_id": "\\ud800", "timestamp": 1, "features": {}}', "malformed"),
        (b'{"request_id": "\xed\xa0\x80", "timestamp": 1, "features": {}}', "malformed"),
        (b'{"request_id": "r", "timestamp": 1, "features": {"wet": NaN}}', "malformed"),
        (b'{"request_id": "r", "timestamp": 1, "features": {"wind": Infinity}}', "malformed"),
        (b'{"request_id": "r", "timestamp": 1, "features": {"x": ' + b"[" * 50_000, "malformed"),
        (b"[]", "wrong_type"),
        (b"1", "wrong_type"),
        ({**GOOD, "features": {"wind": True}}, "wrong_type"),
        ({**GOOD, "features": {"wind": "1"}}, "wrong_type"),
        ({**GOOD, "features": {"wet": 1}}, "wrong_type"),
        ({**GOOD, "features": {"count": 1.5}}, "wrong_type"),
        ({**GOOD, "features": {"count": 2**63}}, "wrong_type"),
        ({**GOOD, "features": {"carrier": 7}}, "wrong_type"),
        ({**GOOD, "features": []}, "wrong_type"),
        ({**GOOD, "request_id": 7}, "wrong_type"),
        ({**GOOD, "timestamp": True}, "wrong_type"),
        ({**GOOD, "timestamp": None}, "wrong_type"),
        ({**GOOD, "region": {"a": 1}}, "wrong_type"),
        ({**GOOD, "embeddings": {"text": ["a"]}}, "wrong_type"),
        ({**GOOD, "request_id": ""}, "missing_field"),
        ({"timestamp": NOW, "features": {}}, "missing_field"),
        ({"request_id": "r", "features": {}}, "missing_field"),
        ({"request_id": "r", "timestamp": NOW}, "missing_field"),
        ({**GOOD, "timestamp": "yesterday"}, "bad_time"),
        ({**GOOD, "timestamp": ""}, "bad_time"),
        ({**GOOD, "timestamp": -1}, "bad_time"),
        ({**GOOD, "timestamp": 1.5}, "bad_time"),
        ({**GOOD, "timestamp": 10**30}, "bad_time"),
        ({**GOOD, "timestamp": "0001-01-01T00:00:00+23:00"}, "bad_time"),
        ({**GOOD, "timestamp": NOW + 3_600_001}, "future_dated"),
        ({**GOOD, "request_id": "é" * 257}, "oversized"),
        ({**GOOD, "region": "x" * 513}, "oversized"),
        ({**GOOD, "pad": "x" * 1_000_000}, "oversized"),
    ],
)
def test_bad_records(value: Any, reason: str) -> None:
    """A bad record is set aside with its reason; its neighbours are read as if it were not there."""
    got = decode({**GOOD, "request_id": "a"}, value, {**GOOD, "request_id": "b"})
    assert [error.reason for _, error in got.bad] == [reason]
    assert got.bad[0][0].offset == 1
    assert got.ids == ["a", "b"]
    assert got.offsets.tolist() == [0, 2]
    assert len(got.batch) == 2


def test_future_is_measured_from_production() -> None:
    """A record produced long ago may not lie ahead of that moment; without a stamp the clock counts."""
    old = record({**GOOD, "timestamp": NOW}, timestamp=NOW - 3_600_001)
    unknown = [record(GOOD, timestamp=stamp) for stamp in (None, -1, 0)]
    ahead = record({**GOOD, "timestamp": NOW + 7_200_000}, timestamp=NOW + 7_200_000)
    assert [e.reason for _, e in decode(old).bad] == ["future_dated"]
    assert not any(decode(each).bad for each in unknown)
    assert [e.reason for _, e in decode(ahead).bad] == ["future_dated"]


def test_segments() -> None:
    """A segment value comes from segments, else features, else the top level; as text, "" when absent."""
    got = decode(
        {**GOOD, "features": {"carrier": "UA"}, "region": 7},
        {
            **GOOD,
            "features": {"carrier": "UA", "region": True},
            "segments": {"carrier": "DL", "region": None},
        },
        {**GOOD, "segments": {"unknown": "x"}},
        {**GOOD, "features": {"carrier": "UA"}, "region": "7"},
    )
    rows = [got.segments[i] for i in got.segment.tolist()]
    assert rows == [("UA", "7"), ("DL", "true"), ("", ""), ("UA", "7")]
    assert len(got.segments) == 3


def test_no_segments_no_features() -> None:
    """A suite without either reads requests without either."""
    got = decode({"request_id": "r", "timestamp": NOW}, suite=parse_suite('name = "t"'))
    assert got.segments == [()]
    assert got.segment.tolist() == [0]
    assert got.batch.features == []


def test_embeddings() -> None:
    """Embeddings of another dimension than the commonest, or absent ones, are rows of NaN."""
    given = [[1, 2], [3, 4], [1, 2, 3], None]
    got = decode(*({**GOOD, "embeddings": {"text": vector} if vector else {}} for vector in given))
    matrix = got.batch.embeddings["text"]
    assert matrix.dtype == np.float32
    assert matrix[:2].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(matrix[2:]).all()
    assert decode(GOOD).batch.embeddings == {}


def test_nothing() -> None:
    """No records, or only bad ones, are an empty batch."""
    for got in (decode(), decode(b"junk")):
        assert len(got) == len(got.batch) == 0
        assert got.batch["wind"].shape == (0,)
