"""How far event time has come, from what the hosts and the labels said. Pure; instants in epoch ms.

Time here is never Kafka's high watermark: it is what members have really scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A member in one partition of `requests`: its watermark (None before the first request)."""

    end: int
    watermark: int | None
    idle: bool
    partitions: int
    revision: int = 0


def member_watermark(progress: Sequence[Progress]) -> int | None:
    """Event time up to which a member has scored, over all its partitions.

    The least of the partitions that still move; one that is idle does not hold it back, and where all are
    idle the furthest counts. None while a partition has not been heard of.
    """
    if not progress or len(progress) < max(p.partitions for p in progress):
        return None
    moving = [p.watermark for p in progress if not p.idle]
    if moving:
        return None if None in moving else min(w for w in moving if w is not None)
    return max((p.watermark for p in progress if p.watermark is not None), default=None)


def suite_watermark(members: Iterable[int | None]) -> int | None:
    """The least watermark of the live members; None where one has none, or there are none."""
    watermarks = list(members)
    if not watermarks or None in watermarks:
        return None
    return min(w for w in watermarks if w is not None)


def greatest_agreed(greatest: Sequence[int], leap: int) -> int | None:
    """The latest of the greatest few instants (descending) that does not leap ahead of the last of them.

    One that is more than `leap` ms ahead waits until as many others as are kept here agree with it.
    """
    return next((t for t in greatest if t <= greatest[-1] + leap), None)


def labels_through(partitions: Mapping[str, tuple[Sequence[int], bool]], leap: int) -> int | None:
    """How far label consumption has come in `labelled_at`, over the partitions of `labels`.

    `partitions` gives for each the greatest instants read (descending) and whether there is nothing more to
    read. One that is drained does not hold it back while others move; when all are, the furthest counts, and
    it stands still from there.
    """
    read = [(greatest_agreed(greatest, leap), drained) for greatest, drained in partitions.values()]
    behind = [through for through, drained in read if through is not None and not drained]
    if behind:
        return min(behind)
    return max((through for through, _ in read if through is not None), default=None)
