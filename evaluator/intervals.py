"""Sets of offsets as sorted, disjoint, half-open intervals: a flat list [a0, b0, a1, b1, …], a0 < b0 < a1 < …

A scalar "covered up to" would jump over the gaps that a crash leaves and cut a backfill short.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def add(intervals: Sequence[int], start: int, end: int) -> list[int]:
    """The union with [start, end). Touching intervals become one."""
    if start >= end:
        return list(intervals)
    low = bisect_left(intervals, start)
    high = bisect_right(intervals, end)
    left = [start] if low % 2 == 0 else []
    right = [end] if high % 2 == 0 else []
    return [*intervals[:low], *left, *right, *intervals[high:]]


def uncovered(intervals: Sequence[int], start: int, end: int) -> list[int]:
    """The part of [start, end) that lies in none of the intervals, as intervals."""
    out: list[int] = []
    at = start
    low = bisect_right(intervals, start)
    if low % 2:  # start lies inside an interval
        at = intervals[low]
        low += 1
    while at < end:
        stop = intervals[low] if low < len(intervals) else end
        if stop >= end:
            out += [at, end]
            break
        if at < stop:
            out += [at, stop]
        at = intervals[low + 1]
        low += 2
    return out


def size(intervals: Sequence[int]) -> int:
    """How many offsets there are."""
    return sum(intervals[1::2]) - sum(intervals[::2])
