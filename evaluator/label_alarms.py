"""When the labels themselves are the trouble: they have stopped, or come too late to count. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evaluator.announce import Announced
from streams.events import cloud_event
from streams.times import format_duration

STARVED, LATE = "chorus.labels.starved", "chorus.labels.late"
#: Blocks of event time without labels after which they count as starved.
_BLOCKS = 2

Change = tuple[str, Announced, dict[str, Any] | None]


def label_alarms(
    status: Mapping[str, Any], before: Mapping[str, Announced], block: int, first: int | None, *, read: bool
) -> Iterator[Change]:
    """(key, what is announced, the CloudEvent) for what began or ended; without an event what is only noted.

    status: the status document; before: what was announced, by key; block: ms; first: start (ms) of the first
    bucket, for a suite that never had a label; read: every label that there is has been read. Of labels that
    came too late `since` is their count when it last grew, and `at` when that was.
    """
    watermark, through = status["watermark"], status["labels_through"]
    if watermark is None:
        return
    known = through if through is not None else first
    if known is not None and (read or "labels|starved" in before):
        behind = max(0, watermark - known)
        why = f"event time is {format_duration(behind - behind % 60_000)} ahead of the labels"
        yield from _change(
            status, before, "labels|starved", STARVED, behind > _BLOCKS * block, known, watermark,
            {"why": why if behind else "labels come", "watermark": watermark, "labels_through": through},
        )  # fmt: skip
    yield from _late(status, before, watermark, block)


def _late(
    status: Mapping[str, Any], before: Mapping[str, Announced], watermark: int, block: int
) -> Iterator[Change]:
    """Fires when the count grows, and ends when it has not for a block."""
    key, late = "labels|late", status["counters"]["late"]
    old = before.get(key) or Announced("none", 0, watermark)
    known, fires = old.since or 0, old.condition != "none"
    if late < known:  # the store was made anew
        yield key, Announced(old.condition, late, min(old.at, watermark)), None
    elif late > known and fires:
        yield key, Announced(old.condition, late, watermark), None
    elif late > known or (fires and watermark - old.at >= block):
        why = f"{late} votes and labels came after their time had been dropped"
        data = {"why": f"{why}: keep it longer with `retention`", "late": late}
        yield from _change(status, before, key, LATE, not fires, late, watermark, data)


def _change(
    status: Mapping[str, Any],
    before: Mapping[str, Announced],
    key: str,
    kind: str,
    holds: bool,
    since: int,
    watermark: int,
    data: dict[str, Any],
) -> Iterator[Change]:
    old = before.get(key)
    condition = kind.rpartition(".")[2] if holds else "none"
    if old is None and not holds:
        return
    if old is not None and old.condition == condition:
        return
    state, suite = "firing" if holds else "resolved", status["suite"]
    # Since when, and after what: one that comes again is another event.
    after = watermark if not holds else old.at if old else ""
    name = f"{suite}|{kind}|{state}|{since}|{after}"
    event = cloud_event(suite, kind, suite, name=name, time=watermark, data={"status": state, **data})
    yield key, Announced(condition, since, watermark), event
