"""Events for tests, as evaluators put them on `alerts`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from evaluator.alerting.alert import Alert, decode_alert
from streams.events import cloud_event

FLAGGED, COMPLETED = "chorus.member.flagged", "chorus.deployment.completed"
VERDICT = {
    "state": "FLAG", "reasons": ["worse_than_the_rest"], "since": 1, "twin": None, "decay": None,
    "unique_precision": 0.289, "interval": [0.25, 0.33], "reference_precision": 0.61,
    "label_coverage": 0.96, "blocks": 24, "log_e": 3.2, "threshold": 3.0,
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What aiokafka would hand out."""

    value: bytes | None
    timestamp: int | None = 1_772_582_400_000


def event(
    kind: str = FLAGGED, subject: str = "a@1", status: str | None = "firing", at: int = 0, **data: Any
) -> dict[str, Any]:
    """A CloudEvent whose id follows from all of this."""
    name = json.dumps([kind, subject, status, at, data])
    told = {**({} if status is None else {"status": status}), **data}
    return cloud_event("storms", kind, subject, name=name, time=1_772_366_400_000 + at * 1000, data=told)


def alert(*args: Any, **more: Any) -> Alert:
    """The same, as it is read."""
    return decode_alert(Record(json.dumps(event(*args, **more)).encode()), "storms")
