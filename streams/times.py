"""Times and durations. Instants are int epoch milliseconds (UTC), durations int milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_EPOCH = datetime.fromtimestamp(0, UTC)
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d|w)")

#: The last millisecond of the year 9999; later instants are not representable as ISO 8601.
MAX_TIME = 253_402_300_799_999


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as ``"5m"``, ``"24h"`` or ``"1h30m"``.

    Raises ValueError where it is not one, or is zero.
    """
    total, at = 0, 0
    for match in _DURATION.finditer(text):
        if match.start() != at:
            break
        total, at = total + int(match[1]) * _UNITS[match[2]], match.end()
    if at != len(text) or total == 0:
        raise ValueError(f"{text!r} is not a duration: write it like 5m, 24h, 7d or 1h30m")
    return total


def format_duration(ms: int) -> str:
    """The shortest text that `parse_duration` reads as `ms`, e.g. ``"1h30m"``."""
    out = []
    for unit in ("d", "h", "m", "s", "ms"):
        n, ms = divmod(ms, _UNITS[unit])
        if n:
            out.append(f"{n}{unit}")
    return "".join(out) or "0s"


def parse_time(value: int | float | str) -> int:
    """Epoch milliseconds of an instant: epoch milliseconds, or ISO 8601 (UTC where it names no zone).

    Raises ValueError where it is neither, or lies outside the years 1970 to 9999.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value[:64]!r} is not an ISO 8601 time") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        ms = round(moment.timestamp() * 1000)
    elif isinstance(value, bool) or value != int(value):
        raise ValueError(f"{value!r} is not epoch milliseconds")
    else:
        ms = int(value)
    if not 0 <= ms <= MAX_TIME:
        raise ValueError(f"{value!r} lies outside the years 1970 to 9999")
    return ms


def format_time(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds only where there are any."""
    moment = _EPOCH + timedelta(milliseconds=ms)  # from a float, isoformat would cut the last digit off
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")
