"""Dead letters: what is kept of a record that cannot be used."""

from __future__ import annotations

from base64 import b64decode
from types import SimpleNamespace

import msgspec

from streams.dead_letters import KEPT, dead_letter
from streams.errors import BadRecord
from streams.records import DeadLetter


def letter(**fields: object) -> tuple[bytes, DeadLetter]:
    record = SimpleNamespace(
        **{
            "topic": "t.requests",
            "partition": 3,
            "offset": 7,
            "timestamp": 9,
            "key": b"k",
            "value": b"\xff",
            **fields,
        }
    )
    key, value = dead_letter(record, BadRecord("malformed", "why " * 1000), "host-1")
    return key, msgspec.json.decode(value, type=DeadLetter)


def test_origin_and_content() -> None:
    """The key is the origin, the value holds raw bytes as base64, who, and why."""
    key, got = letter()
    assert key == b"t.requests/3/7"
    assert (got.origin.topic, got.origin.partition, got.origin.offset, got.origin.timestamp) == (
        "t.requests",
        3,
        7,
        9,
    )
    assert b64decode(got.key or "") == b"k"
    assert b64decode(got.value or "") == b"\xff"
    assert (got.reason, got.by, got.size, got.truncated) == ("malformed", "host-1", 1, False)
    assert len(got.detail) == 1000


def test_nothing_to_keep() -> None:
    """A record without key, value or timestamp has a letter too."""
    _, got = letter(key=None, value=None, timestamp=-1)
    assert (got.key, got.value, got.origin.timestamp, got.size) == (None, None, None, 0)


def test_large() -> None:
    """What is larger than 256 KiB is cut, says so, and keeps its size."""
    _, got = letter(value=b"x" * (KEPT + 1))
    assert len(b64decode(got.value or "")) == KEPT
    assert got.truncated
    assert got.size == KEPT + 1
