"""What the demo has shown, in sentences made from the figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluator.render import FEW, hint, percent, pick_window
from streams.errors import ChorusError
from streams.times import format_time

Doc = Mapping[str, Any]

#: The rolling window that is watched for decay.
ROLLING = "28d"
_DAYS = "28 days"
#: A live member decays when its rolling unique precision falls to less than this share of its best.
FALLEN = 0.6


@dataclass(frozen=True, slots=True)
class Point:
    """A member's unique precision over the rolling window that ended at `end` (epoch ms)."""

    end: int
    precision: float
    suite: float


@dataclass
class Trend:
    """The rolling unique precision of each member, collected while the demo runs.

    Windows that begin before `since` (epoch ms), the first request, are not full and are left out.
    """

    since: int = 0
    points: dict[str, list[Point]] = field(default_factory=dict)

    def add(self, doc: Doc) -> None:
        """Note what `doc` says of the rolling window, where it has enough labels to say something."""
        try:
            window = pick_window(doc, ROLLING)
        except ChorusError:
            return
        bar = window["suite"]["flagged"]["precision"]
        if bar is None or window["start"] is None or window["start"] < self.since:
            return
        for member in window["members"]:
            unique, points = member["unique"], self.points.setdefault(member["id"], [])
            enough = unique["n"] is not None and unique["n"] - unique["unlabelled"] >= 3 * FEW
            if enough and (not points or points[-1].end != window["end"]):
                points.append(Point(window["end"], unique["precision"], bar))

    def decay(self, member: str) -> tuple[Point, Point] | None:
        """(best, worst after it) where the worst is less than `FALLEN` of the best and below the suite."""
        best, found = None, None
        for point in self.points.get(member, []):
            if best is None or point.precision > best.precision:
                best = point
            low = point.precision < min(FALLEN * best.precision, point.suite)
            if low and (
                found is None or point.precision / best.precision < found[1].precision / found[0].precision
            ):
                found = (best, point)
        return found


def story(doc: Doc, trend: Trend) -> list[str]:
    """One sentence on the suite and one or two on each member, of the longest window."""
    window = pick_window(doc)
    flagged = window["suite"]["flagged"]
    if flagged["precision"] is None:
        return ["Nothing has been labelled yet."]
    out = [
        f"The suite flags {flagged['n']:,} of {window['volume']:,} flights and is right about "
        f"{percent(flagged['precision'])} of them."
    ]
    return out + [f"{member['id']} {_sentence(member, window, trend)}" for member in window["members"]]


def _sentence(member: Doc, window: Doc, trend: Trend) -> str:
    told, unique, live = hint(member, window), member["unique"], member["stage"] == "live"
    alone = ""
    if unique["precision"] is not None:
        alone = f"of the {unique['n']:,} flights that it alone flags {percent(unique['precision'])} are late"
    text = {
        "adds": f"{'earns its place' if live else 'would make the suite better'}: {alone}.",
        "costs": f"{'is not worth its place' if live else 'would make the suite worse'}: {alone}.",
        "nothing": f"is redundant: {told.detail or 'it flags nothing that others do not'}.",
        "failing": f"is failing: {told.detail}. A suspended member only abstains.",
        "unknown": f"cannot be judged yet{': ' + told.text if told.text else ''}.",
    }[told.kind]
    fallen = trend.decay(member["id"]) if live else None
    if fallen:
        best, worst = fallen
        text += (
            f" It decays: {percent(best.precision)} in the {_DAYS} to {format_time(best.end)[:10]},"
            f" {percent(worst.precision)} in those to {format_time(worst.end)[:10]}."
        )
    return text
