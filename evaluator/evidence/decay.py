"""Decay of a member against its own past: a change detector, and why its unique precision fell.

The Shiryaev–Roberts e-detector (Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for online
changepoint detection", 2024) adds up, over all possible times of change, the e-values against "the precision
is still at least p_ref". As long as that is true the mean number of buckets to a false alarm is at least
`run_length`, by construction. That needs labels that are independent (divide counts by their `dispersion`)
and a p_ref that is not too high: see `reference`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluator.evidence.confidence import lower
from evaluator.whatif import Histogram

Floats = NDArray[np.float64]

_RATES = np.array([0.25, 0.5, 1.0, 2.0])
_ALLOWANCE = 0.05
_NOTHING = 0.05  # change of log odds that is none


def reference(s: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> Floats:
    """The p_ref to hold a member against, from s positives of n labels of its past: float64, their shape.

    The lower confidence bound, and at least 0.05 below the estimate: it differs from day to day. Never
    the bare estimate, which is too high in half of all cases: it alarms without cause.
    """
    s, n = np.asarray(s, dtype=np.float64), np.asarray(n, dtype=np.float64)
    estimate = np.divide(s, n, out=np.zeros(np.broadcast_shapes(s.shape, n.shape)), where=n > 0)
    return np.asarray(np.clip(np.minimum(lower(s, n, alpha), estimate - _ALLOWANCE), 0.0, 1.0))


def detect(negatives: ArrayLike, labels: ArrayLike, p_ref: ArrayLike) -> Floats:
    """log of the detector after each bucket: float64[..., B]; alarm where it is ≥ ln(run_length).

    negatives, labels: counts [..., B] of matured buckets after the reference period, oldest first;
    p_ref: [...], in [0, 1].
    """
    f, n = np.broadcast_arrays(np.asarray(negatives, dtype=np.float64), np.asarray(labels, dtype=np.float64))
    cost = np.log1p((1 - np.asarray(p_ref, dtype=np.float64)[..., None]) * np.expm1(_RATES))  # [..., 4]
    shape = np.broadcast_shapes(f.shape[:-1], cost.shape[:-1])
    log_r = np.full((*shape, len(_RATES)), -np.inf)
    out = np.empty((*shape, f.shape[-1]))
    for b in range(f.shape[-1]):
        log_r = np.logaddexp(0.0, log_r) + _RATES * f[..., b, None] - n[..., b, None] * cost
        out[..., b] = np.logaddexp.reduce(log_r, axis=-1)
    return out - math.log(len(_RATES))


def alarm(log_r: Floats, run_length: float = 1000.0) -> NDArray[np.int64]:
    """int64[...]: index of the first bucket after which `detect`'s output alarms, −1 where none does."""
    there = log_r >= math.log(run_length)
    if not there.shape[-1]:
        return np.full(there.shape[:-1], -1, dtype=np.int64)
    return np.where(there.any(-1), there.argmax(-1), -1)


@dataclass(frozen=True, slots=True)
class Period:
    """One live member's counts over one period.

    flagged: its requests; positive, negative: labelled ones among them; unique_*: those that no other live
    member flagged. shared: per other live member the (positives, negatives) that both flagged.
    """

    flagged: float
    positive: float
    negative: float
    unique_positive: float
    unique_negative: float
    shared: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, h: Histogram, member: str, members: Sequence[str]) -> Period:
        """The counts of `member` in the suite `members`. Raises KeyError for a member `h` does not have."""
        others = [name for name in members if name != member]
        mine = h.yes[:, h.columns([member])[0]]
        theirs = h.yes[mine][:, h.columns(others)]
        labels = np.stack([h.positive[mine].sum(axis=1), h.negative[mine].sum(axis=1)])
        unique = labels[:, ~theirs.any(axis=1)].sum(axis=1)
        shared = {name: (float(s), float(f)) for name, s, f in zip(others, *(labels @ theirs), strict=True)}
        flagged, total = float(h.n[mine].sum()), labels.sum(axis=1)
        return cls(flagged, float(total[0]), float(total[1]), float(unique[0]), float(unique[1]), shared)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a member's unique precision fell. Negative parts pull it down; they sum to its change in log odds.

    own: the change of the log odds of its own precision. overlap: the rest: others now catch more of its
    positives than of its negatives. coverage: the share of its requests that is labelled, (before, after).
    by: whom it lost its good catches to.
    """

    kind: Literal["own_decline", "cannibalised", "labels_late", "none"]
    by: str | None
    own: float
    overlap: float
    coverage: tuple[float, float]


def reason(before: Period, after: Period, late: float = 0.8) -> Reason:
    """Which of the three it was: the labels first, since without them nothing else can be told.

    labels_late: coverage fell below `late` times what it was, by more than chance. Otherwise the larger of
    the two parts of

        Δ logit(unique precision) = Δ logit(own precision) + Δ ln(unique share of positives / of negatives)

    Half a label is added to each count. `none`: it did not fall, by a twentieth of its odds at least.
    """
    own = _log_odds(after.positive, after.negative) - _log_odds(before.positive, before.negative)
    unique = _log_odds(after.unique_positive, after.unique_negative)
    unique -= _log_odds(before.unique_positive, before.unique_negative)
    overlap = unique - own
    coverage = (_coverage(before), _coverage(after))
    if _fewer(before, after) and coverage[1] < late * coverage[0]:
        return Reason("labels_late", None, own, overlap, coverage)
    if unique > -_NOTHING:
        return Reason("none", None, own, overlap, coverage)
    if own <= overlap:
        return Reason("own_decline", None, own, overlap, coverage)
    return Reason("cannibalised", _taker(before, after), own, overlap, coverage)


def _taker(before: Period, after: Period) -> str | None:
    """Who took over more of the member's positives, over and above its negatives, than anybody else."""
    gains = {name: _grip(after, name) - _grip(before, name) for name in after.shared}
    best = max(gains, key=lambda name: gains[name], default=None)
    return best if best is not None and gains[best] > 0 else None


def _grip(period: Period, other: str) -> float:
    s, f = period.shared.get(other, (0.0, 0.0))
    return s / max(period.positive, 1.0) - f / max(period.negative, 1.0)


def _log_odds(s: float, f: float) -> float:
    return math.log((s + 0.5) / (f + 0.5))


def _coverage(period: Period) -> float:
    return (period.positive + period.negative) / period.flagged if period.flagged else 0.0


def _fewer(before: Period, after: Period) -> bool:
    """The share of labelled requests fell by more than two standard errors."""
    pooled = (before.positive + before.negative + after.positive + after.negative) / max(
        before.flagged + after.flagged, 1.0
    )
    error = math.sqrt(pooled * (1 - pooled) * (1 / max(before.flagged, 1.0) + 1 / max(after.flagged, 1.0)))
    return _coverage(before) - _coverage(after) > 2 * error
