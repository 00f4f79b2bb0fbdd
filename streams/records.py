"""The records of the data plane, as msgspec structs. Their JSON is documented in docs/records.md."""

from __future__ import annotations

import msgspec

#: The pseudo-member that stands for the suite's own answer: covered by the live host, it carries the volume.
SUITE = "*"

#: States of one member at one position of `requests`, as `Votes.states` codes them.
VOTED, ABSTAINED, FAILED = 0, 1, 2


class Label(msgspec.Struct, frozen=True, gc=False):
    """Delayed ground truth for one request. `label` None is a withdrawal. Instants: ISO 8601 or epoch ms."""

    request_id: str
    label: bool | None
    labelled_at: int | float | str
    source: str = ""
    revision: int = 0
    requested_at: int | float | str | None = None


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What the suite answered to one request, written by the live host.

    `time` is the request's event time (epoch ms), `partition` and `offset` where it stands on `requests`.
    `held_out`: members fired, but the suite let the request through on purpose. `probability`: the chance
    that a request on which members fired had of that; 0 where none did.
    """

    request_id: str
    judgement: bool
    fired: list[str]
    revision: int
    time: int
    partition: int
    offset: int
    held_out: bool = False
    probability: float = 0.0


class Origin(msgspec.Struct, frozen=True):
    """Where a record stood. `timestamp` is the broker's (epoch ms, None where it has none)."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be used: base64 of what came (cut at 256 KiB), where it stood, and why."""

    reason: str
    detail: str
    origin: Origin
    by: str
    size: int
    key: str | None = None
    value: str | None = None
    truncated: bool = False


class Votes(msgspec.Struct, array_like=True):
    """One batch of one host over `requests`: all its positions [start, end), and only the True votes.

    `members` lists the bits of the masks, in order. A record of the live host lists SUITE first, whose bit
    says that the OR was really answered True. A request that was held out is a hit of the members that fired,
    without that bit.

    runs:    flat triples (positions, event-time bucket start in ms or -1 where the position holds no
             request, index into `segments`), covering [start, end) in order.
    states:  per member a flat run-length code (positions, VOTED | ABSTAINED | FAILED); [] is all VOTED.
    hits:    positions (offset - start, ascending) at which at least one member voted True;
    ids, times: their request ids and event times (ms);
    true, abstain: their masks, ceil(len(members) / 8) bytes each, bit i of byte i // 8 for member i.

    `watermark` is the event time (ms) up to which the partition has been scored, None before the first
    request; `idle` says that the partition had nothing more to read. `hello` marks a host that takes the
    partition over: the record then covers nothing.

    held:    positions (offset - start, ascending) of the hits that were held out; `holdout` is the share of
             hits that the suite holds out.
    """

    schema: int
    stage: str
    host: str
    partition: int
    partitions: int
    start: int
    end: int
    revision: int
    bucket: int
    members: list[str]
    segments: list[list[str]]
    runs: list[int]
    states: list[list[int]]
    hits: list[int]
    ids: list[str]
    times: list[int]
    true: bytes
    abstain: bytes
    watermark: int | None = None
    idle: bool = False
    hello: str = ""
    held: list[int] = []
    holdout: float = 0.0
