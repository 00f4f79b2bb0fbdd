"""Records that cannot be used, and the reason under which each must turn up in dead letters."""

from __future__ import annotations

import json
from typing import Any

import msgpack

_AT = "2025-03-04T12:00:00Z"


def _request(**changes: Any) -> bytes:
    whole = {"request_id": "bad", "timestamp": _AT, "features": {"x": 0.5, "y": 0.5, "z": 0.5}}
    return json.dumps({k: v for k, v in {**whole, **changes}.items() if v is not ...}).encode()


def _label(**changes: Any) -> bytes:
    whole = {"request_id": "bad", "label": True, "labelled_at": _AT}
    return json.dumps({k: v for k, v in {**whole, **changes}.items() if v is not ...}).encode()


def _votes(*, members: list[str] | None = None, idle: Any = False, runs: Any = None) -> bytes:
    """A shadow's record over the first position of partition 0, in which it voted True."""
    members = members or ["twin@2"]
    bucket = 1_741_089_600_000
    runs = runs or [1, bucket, 0]
    head = [1, "shadow", "tester", 0, 4, 0, 1, 1, 300_000, members, [["north"]], runs, [[] for _ in members]]
    return msgpack.packb([*head, [0], ["bad"], [bucket + 1], b"\x01", b"\x00", bucket, idle, ""])


#: (topic, value, key, reason)
BAD: list[tuple[str, bytes | None, bytes | None, str]] = [
    ("requests", None, b"tombstone", "empty"),
    ("requests", b"", None, "empty"),
    ("requests", b"{this is no JSON", None, "malformed"),
    ("requests", b"\xff\xfe\x00{", None, "malformed"),
    ("requests", b'{"a":' * 50_000, None, "malformed"),
    ("requests", _request(features={"x": float("nan"), "y": 0.1}), b"bad", "malformed"),
    ("requests", b"[1, 2, 3]", None, "wrong_type"),
    ("requests", _request(request_id=17), None, "wrong_type"),
    ("requests", _request(features={"x": "high", "y": 0.1}), None, "wrong_type"),
    ("requests", _request(features={"x": True, "y": 0.1}), None, "wrong_type"),
    ("requests", _request(features=[0.1, 0.2]), None, "wrong_type"),
    ("requests", _request(timestamp=...), None, "missing_field"),
    ("requests", _request(request_id=...), None, "missing_field"),
    ("requests", _request(request_id=""), None, "missing_field"),
    ("requests", _request(timestamp="yesterday"), None, "bad_time"),
    ("requests", _request(timestamp=-5), None, "bad_time"),
    ("requests", _request(timestamp=1e300), None, "bad_time"),
    ("requests", _request(timestamp="2199-01-01T00:00:00Z"), None, "future_dated"),
    ("requests", _request(request_id="i" * 600), None, "oversized"),
    ("requests", _request(padding="p" * 1_000_000), None, "oversized"),
    ("labels", None, b"tombstone", "empty"),
    ("labels", b"", None, "empty"),
    ("labels", b"probably true", None, "malformed"),
    ("labels", _label(label=float("nan")), None, "malformed"),
    ("labels", b"\x80abc", None, "malformed"),
    ("labels", _label(label="yes"), None, "wrong_type"),
    ("labels", _label(label=1), None, "wrong_type"),
    ("labels", _label(revision="2"), None, "wrong_type"),
    ("labels", _label(label=...), None, "missing_field"),
    ("labels", _label(labelled_at=...), None, "missing_field"),
    ("labels", _label(labelled_at="some day"), None, "bad_time"),
    ("labels", _label(requested_at="some day"), None, "bad_time"),
    ("labels", _label(labelled_at="2199-01-01T00:00:00Z"), None, "future_dated"),
    ("labels", _label(source="s" * 1_000_000), None, "oversized"),
    ("votes", None, b"0", "empty"),
    ("votes", b"\xc1\xc1", b"0", "malformed"),
    ("votes", msgpack.packb([1, 2, 3]), b"0", "bad_votes"),
    ("votes", _votes(idle=float("nan")), b"0", "bad_votes"),
    ("votes", _votes(runs=[2, 1_741_089_600_000, 0]), b"0", "bad_votes"),
    ("votes", _votes(members=["ghost@9"]), b"0", "unknown_member"),
]
