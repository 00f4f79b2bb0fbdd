"""Verdicts as events: each change is announced once on `alerts`, with the counts that it was reached on.

What was announced stands in Redis, so that one of several evaluators announces it and a restart does not do
so again. The id of an event follows from what it says: should it be sent twice (Redis was rebuilt, two
evaluators met), a reader that goes by ids sees it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streams.events import cloud_event

#: Verdict → type of the event. Other states are announced only as the end of one of these.
TYPES = {
    "PROMOTE": "chorus.candidate.promotion_recommended",
    "REJECT": "chorus.candidate.rejected",
    "FLAG": "chorus.member.flagged",
}
DECLINING = "chorus.member.decaying"


@dataclass(frozen=True, slots=True)
class Announced:
    """What was last said of a member: the condition, since when (event time, ms), at which watermark."""

    condition: str
    since: int | None
    at: int

    def pack(self) -> str:
        """JSON, for Redis."""
        return json.dumps([self.condition, self.since, self.at])

    @classmethod
    def unpack(cls, text: str | bytes) -> Announced:
        """The reverse of `pack`."""
        return cls(*json.loads(text))


def changes(
    suite: str,
    watermark: int,
    verdicts: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Announced],
    cooldown: int,
    counts: Mapping[str, Any],
) -> Iterator[tuple[str, Announced, dict[str, Any]]]:
    """(key, what is announced, the CloudEvent) for every condition that began or ended.

    verdicts: documents by member id; before: by key; cooldown: ms of event time within which a condition of
    one member does not change again; counts: by member, what an event freezes. Pure.
    """
    for member, verdict in verdicts.items():
        state = verdict["state"] if verdict["state"] in TYPES else "none"
        decay = verdict.get("decay")
        conditions = {
            f"{member}|verdict": (state, TYPES.get(state), verdict["since"]),
            f"{member}|decay": (
                "declining" if decay else "none",
                DECLINING if decay else None,
                decay["since"] if decay else None,
            ),
        }
        for key, (condition, kind, since) in conditions.items():
            old = before.get(key)
            if old is None and condition == "none":
                continue
            if old is not None and (old.condition == condition or watermark - old.at < cooldown):
                continue
            now = Announced(condition, since, watermark)
            data = {"verdict": dict(verdict), "counts": counts.get(member)}
            if old is not None and old.condition != "none":
                # One that another takes the place of ends too; what stands is noted with the other only.
                name = f"{TYPES.get(old.condition, DECLINING)}|resolved|{watermark}"
                yield key, now if kind is None else old, _event(suite, member, name, watermark, data)
            if kind is not None:
                # Since when, and after what: one that comes again is another event.
                name = f"{kind}|firing|{since}" + (f"|{old.at}" if old is not None else "")
                yield key, now, _event(suite, member, name, watermark, data)


def _event(suite: str, member: str, name: str, watermark: int, data: dict[str, Any]) -> dict[str, Any]:
    """`name` begins with the type and the status, and tells the event from all others of the member."""
    kind, status, *_ = name.split("|")
    data, name = {"status": status, **data}, f"{suite}|{member}|{name}"
    return cloud_event(suite, kind, member, name=name, time=watermark, data=data)
