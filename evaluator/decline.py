"""Decay: a live member against its own past, and why. Pure; beside the verdict, never instead of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANCHORED, ANSWERED, LABEL, Cells
from evaluator.evidence.confidence import dispersion
from evaluator.evidence.decay import Period, detect, reason, reference
from evaluator.whatif import histogram
from streams.suite import DAY, Suite

#: What a member's past is: the first mature days that it was live and labelled.
PAST = 28 * DAY
ENOUGH = 50  # labels of its unique set that its past must have
RUN_LENGTH = 1000.0  # mean number of buckets between false alarms, at least


@dataclass(frozen=True, slots=True)
class Decline:
    """An alarm: `since` when (start of the bucket, ms), from which reference precision to which, and why.

    kind: own_decline, cannibalised (`by` whom) or labels_late.
    """

    since: int
    reference: float
    before: float | None
    after: float | None
    kind: str
    by: str | None

    def document(self) -> dict[str, object]:
        """As it stands in the status document."""
        return {
            "since": self.since,
            "reference": self.reference,
            "before": self.before,
            "after": self.after,
            "reason": self.kind,
            "by": self.by,
        }


def declines(cells: Cells, suite: Suite, matured: int) -> dict[str, Decline | None]:
    """For each live member the alarm that stands now: its unique precision has fallen; or None.

    Its past is what it did in its first 28 days; the detector is run over the mature buckets after that, with
    labels counted for less where those of one day resemble each other. In a suite that holds out, only labels
    of requests that were let through count.
    """
    if suite.holdout > 0:
        acted = cells.state & ANSWERED > 0
        cells = replace(cells, state=np.where(acted, cells.state & ~(LABEL | ANCHORED), cells.state))
    live, out = suite.live, dict[str, Decline | None]()
    end = matured - matured % suite.bucket
    inside = cells.starts < end
    if not live or not inside.any():
        return dict.fromkeys(live)
    start = int(cells.starts[inside].min())
    whole = histogram(cells, live, start, end, suite.bucket)
    column = [cells.ids.index(name) for name in live]
    covered = inside & (cells.scored[:, column] >= cells.volume[:, None]).all(axis=1)
    starts = cells.starts[covered]
    firing = whole.yes.sum(axis=1)
    past = starts < start + PAST
    for k, name in enumerate(live):
        own = whole.yes[:, k] & (firing == 1)
        positive, negative = whole.positive[own].sum(axis=0), whole.negative[own].sum(axis=0)
        out[name] = None
        if len(starts) == len(positive) and past.any() and not past.all():
            found = _decline(positive, negative, past, starts // suite.policy.block)
            if found is not None:
                index, bar = found
                since = int(starts[~past][index])
                out[name] = _explain(cells, suite, name, (start, start + PAST, since, end), bar)
    return out


def _decline(
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
    past: NDArray[np.bool_],
    block: NDArray[np.int64],
) -> tuple[int, float] | None:
    """(bucket after the past since which the detector alarms until now, the reference precision), or None."""
    s, f = float(positive[past].sum()), float(negative[past].sum())
    if s + f < ENOUGH:
        return None
    days = block[past] - block[0]
    phi = float(
        dispersion(np.bincount(days, positive[past]), np.bincount(days, positive[past] + negative[past]))
    )
    bar = float(reference(s / phi, (s + f) / phi))
    log_r = detect(negative[~past] / phi, (positive[~past] + negative[~past]) / phi, bar)
    calm = np.flatnonzero(log_r < math.log(RUN_LENGTH))
    since = int(calm[-1]) + 1 if len(calm) else 0
    return None if since == len(log_r) else (since, bar)


def _explain(
    cells: Cells, suite: Suite, name: str, times: tuple[int, int, int, int], bar: float
) -> Decline | None:
    """Why: the past against the last 28 days."""
    start, stop, since, end = times
    first = max(stop, end - PAST)
    before = Period.of(histogram(cells, suite.live, start, stop, suite.bucket), name, suite.live)
    after = Period.of(histogram(cells, suite.live, first, end, suite.bucket), name, suite.live)
    why = reason(before, after)
    if why.kind == "none":
        return None
    return Decline(since, bar, _precision(before), _precision(after), why.kind, why.by)


def _precision(period: Period) -> float | None:
    total = period.unique_positive + period.unique_negative
    return float(period.unique_positive / total) if total else None
