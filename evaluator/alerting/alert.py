"""An alert: a CloudEvent of the topic `alerts`, as far as telling people of it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from members.alarms import LAGGING, SUSPENDED
from streams.errors import BadRecord
from streams.times import format_time, parse_time

Status = Literal["firing", "resolved"]

#: Types of what a host says for itself: another host may say otherwise of the same subject.
BY_HOST = frozenset({SUSPENDED, LAGGING})


@dataclass(frozen=True, slots=True)
class Alert:
    """`time` is the event's, RFC 3339. `notice`: it has no status, so it is told once and never ends."""

    id: str
    type: str
    suite: str
    subject: str
    time: str
    status: Status
    notice: bool = False
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> dict[str, str]:
        """Of what a host says for itself: its name, `host`, and `instance`, to tell hosts of one name apart.

        Each only where the event has it.
        """
        names = ("host", "instance") if self.type in BY_HOST else ()
        return {name: told for name in names if isinstance(told := self.data.get(name), str) and told}

    @property
    def candidate(self) -> bool:
        """Whether it is about a member that only scores in the shadow."""
        return self.type == SUSPENDED and self.data.get("stage") == "shadow"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, the same for everything that is said of one condition of one subject."""
        name = "|".join([self.type, self.suite, self.subject, *self.place.values()])
        return hashlib.sha256(name.encode()).hexdigest()[:16]


class _CloudEvent(msgspec.Struct):
    """What must be there, and what is read; more is allowed."""

    id: str
    type: str
    source: str = ""
    subject: str | None = None
    time: str | None = None
    data: Any = None


_decode = msgspec.json.Decoder(_CloudEvent).decode


def decode_alert(record: Any, suite: str) -> Alert:
    """The alert of one aiokafka record. Raises BadRecord for what is not a CloudEvent in JSON.

    An event without a usable time has that of its record.
    """
    if not record.value:
        raise BadRecord("empty", "an alert without a value")
    try:
        event = _decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord("malformed", f"no CloudEvent: {error}") from None
    if not event.id or not event.type:
        raise BadRecord("missing_field", "a CloudEvent has an id and a type")
    data = event.data if isinstance(event.data, dict) else {} if event.data is None else {"data": event.data}
    status = data.get("status")
    if status not in ("firing", "resolved", None):
        raise BadRecord("wrong_type", "data.status of an alert is firing, resolved, or not there")
    try:
        time = format_time(parse_time(event.time or ""))
    except ValueError:
        time = format_time(max(0, record.timestamp or 0))
    return Alert(
        event.id, event.type, suite, event.subject or "", time, status or "firing", status is None, data
    )


def wanted(kind: str, globs: Iterable[str]) -> bool:
    """Whether a type matches one of the globs; `chorus.` in front of both may be left out."""
    short = kind.removeprefix("chorus.")
    return any(fnmatchcase(kind, glob) or fnmatchcase(short, glob) for glob in globs)
