"""The envelope of what evaluators and hosts send to people and programs: a CloudEvent in JSON."""

from __future__ import annotations

import hashlib
from typing import Any

from streams.times import format_time


def cloud_event(
    suite: str, kind: str, subject: str, *, name: str, time: int, data: dict[str, Any]
) -> dict[str, Any]:
    """A CloudEvent of type `kind`; `time` in ms. Its id follows from `name`: one name, one event."""
    return {
        "specversion": "1.0",
        "id": hashlib.sha256(name.encode()).hexdigest()[:32],
        "source": f"chorus/{suite}",
        "type": kind,
        "subject": subject,
        "time": format_time(time),
        "datacontenttype": "application/json",
        "data": data,
    }
