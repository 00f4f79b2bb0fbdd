"""What stands in the topics, read by this test's own means: plain Python, json, msgpack."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgpack

YEAR_10000 = 253_402_300_800_000


class Raw(NamedTuple):
    """One record: where it stands, and its value. `produced` is when (ms), as the broker has it."""

    partition: int
    offset: int
    value: bytes | None
    produced: int

    @property
    def place(self) -> tuple[int, int]:
        return self.partition, self.offset


class Unusable(Exception):
    """This record says nothing."""


@dataclass(frozen=True)
class Request:
    """One usable record of `requests`; `time` in ms."""

    place: tuple[int, int]
    id: str
    time: int
    features: dict[str, Any]


@dataclass(frozen=True)
class Label:
    """One usable record of `labels`; instants in ms."""

    partition: int
    id: str
    label: bool | None
    order: tuple[int, int, bytes]  # revision, labelled_at, source: the highest wins
    asked: int | None


@dataclass
class Vote:
    """What one member said at one position: 0 voted, 1 abstained, 2 failed."""

    true: bool
    state: int


@dataclass
class Ballots:
    """The votes that count: of every (member, position) the first record in the log that covers it."""

    of: dict[tuple[str, tuple[int, int]], Vote] = field(default_factory=dict)


def requests_of(records: Collection[Raw]) -> list[Request]:
    return list(_usable(records, _request))


def labels_of(records: Collection[Raw]) -> list[Label]:
    return list(_usable(records, _label))


def _usable(records: Collection[Raw], read: Any) -> Iterator[Any]:
    for record in sorted(records):
        try:
            yield read(record)
        except Unusable:
            continue


def need(condition: object) -> None:
    if not condition:
        raise Unusable


def _object(value: bytes | None) -> dict[str, Any]:
    need(value)
    need(len(value) <= 1_000_000)

    def refuse(_: str) -> None:
        raise Unusable

    try:
        parsed = json.loads(value.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Unusable from None
    need(isinstance(parsed, dict))
    return parsed


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _instant(value: Any, produced: int) -> int:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Unusable from None
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        value = round(value)
    need(number(value) and 0 <= value < YEAR_10000 and value == int(value))
    need(value <= produced + 3_600_000)
    return int(value)


def _id(value: Any) -> str:
    need(isinstance(value, str) and 0 < len(value.encode()) <= 512)
    return value


def _request(record: Raw) -> Request:
    value = _object(record.value)
    features = value.get("features")
    need(isinstance(features, dict))
    for name in ("x", "y", "z"):
        need(features.get(name) is None or number(features[name]))
    need(features.get("region") is None or isinstance(features["region"], str))
    time = _instant(value.get("timestamp"), record.produced)
    return Request(record.place, _id(value.get("request_id")), time, features)


def _label(record: Raw) -> Label:
    value = _object(record.value)
    need("label" in value and (value["label"] is None or isinstance(value["label"], bool)))
    revision, source, asked = value.get("revision", 0), value.get("source", ""), value.get("requested_at")
    need(isinstance(revision, int) and isinstance(source, str))
    at = _instant(value.get("labelled_at"), record.produced)
    order = (revision, at, source.encode())
    asked = None if asked is None else _instant(asked, record.produced)
    return Label(record.partition, _id(value.get("request_id")), value["label"], order, asked)


_VOTES = [
    "schema",
    "stage",
    "host",
    "partition",
    "partitions",
    "start",
    "end",
    "revision",
    "bucket",
    "members",
    "segments",
    "runs",
    "states",
    "hits",
    "ids",
    "times",
    "true",
    "abstain",
    "watermark",
    "idle",
    "hello",
]


def ballots_of(records: Collection[Raw], skip: Collection[tuple[int, int]]) -> Ballots:
    """Read the votes in the order of the log, leaving out the records that stand at `skip`."""
    ballots = Ballots()
    for record in sorted(records):
        if record.place in skip:
            continue
        votes = dict(zip(_VOTES, msgpack.unpackb(record.value), strict=False))
        width = (len(votes["members"]) + 7) // 8
        hits = {position: i for i, position in enumerate(votes["hits"])}
        for m, member in enumerate(votes["members"]):
            states: list[int] = []
            for length, code in _pairs(votes["states"][m]):
                states += [code] * length
            for position in range(votes["end"] - votes["start"]):
                true = False
                if position in hits:
                    at = hits[position] * width
                    true = bool(votes["true"][at + m // 8] >> (m % 8) & 1)
                key = (member, (votes["partition"], votes["start"] + position))
                ballots.of.setdefault(key, Vote(true, states[position] if states else 0))
    return ballots


def _pairs(flat: list[int]) -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)
