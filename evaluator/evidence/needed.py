"""How many more labels until the evidence can decide, if the blocks to come are like the blocks so far.

A bettor with the stake λ on outcomes of mean μ and variance s² grows by about
ln(1 + λμ) − λ²s² / (2(1 + λμ)²) per block (the second-order expansion of E ln(1 + λX)). A growth that is not
positive never arrives: "not at this rate". A forecast is for reading and decides nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluator.evidence.bets import Bet, Evidence, Floats

_RANGE = 1.28  # standard errors of the mean: an 80 % range


@dataclass(frozen=True, slots=True)
class Range:
    """A forecast. None is "not at this rate"; `high` is None when it may be never.

    `estimate` can be None while `low` is a number: the truth may be better than it has looked so far.
    """

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Needed:
    """What is missing. `labels` are labels of the c side, `blocks` are all blocks of the calendar.

    float64[3, ...]: estimate, low, high; inf is "not at this rate", nan "fewer than two usable blocks yet".
    """

    labels: Floats
    blocks: Floats

    def labels_at(self, *index: int) -> Range:
        """The range of one stream."""
        return _range(np.moveaxis(self.labels, 0, -1)[index])

    def blocks_at(self, *index: int) -> Range:
        """The range of one stream."""
        return _range(np.moveaxis(self.blocks, 0, -1)[index])


def needed(evidence: Evidence, labels: ArrayLike, *, alpha: ArrayLike, since: ArrayLike = 0) -> Needed:
    """Labels and blocks that are missing until log_e ≥ ln(1/alpha).

    labels: float64[..., B], the labels of the c side in each block (not weighted). alpha, since: for all
    streams or one for each; since is the index of the block with which a candidate began: what was before
    it says nothing about the rate of what comes.
    Of several bets that must all be won the slowest decides; of bets that share one capital, the fastest.
    """
    threshold = -np.log(np.asarray(alpha, dtype=np.float64))
    blocks = []
    for one in evidence.bets:
        log_e = one.log_e if evidence.every else evidence.log_e
        now = log_e[..., -1] if log_e.shape[-1] else np.zeros(log_e.shape[:-1])
        blocks.append(_blocks(one, threshold - now, one.used.shape[-1] - np.asarray(since)))
    times = (np.maximum if evidence.every else np.minimum).reduce(blocks)
    used = np.logical_and.reduce([one.used for one in evidence.bets])
    counts = np.where(used, np.asarray(labels, dtype=np.float64), 0.0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = counts / (used.shape[-1] - np.asarray(since))
        return Needed(np.where(times == 0, 0.0, times * rate), times)


def growth(stakes: Floats, mean: Floats, variance: Floats) -> Floats:
    """The largest growth of log capital per usable block over the stakes (first axis)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        won = 1 + stakes * mean
        out: Floats = np.max(np.log(won) - stakes**2 * variance / (2 * won**2), axis=0)
    return out


def _blocks(one: Bet, missing: Floats, days: NDArray[np.int64]) -> Floats:
    """float64[3, ...]: blocks until `missing` is gained, at the rate of the last `days` blocks."""
    m = one.used.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = one.x.sum(-1) / m
        variance = np.where(one.used, (one.x - mean[..., None]) ** 2, 0.0).sum(-1) / (m - 1)
        error = _RANGE * np.sqrt(variance / m)
        share = m / days
        out = []
        for mu in (mean, mean + error, mean - error):
            rate = growth(one.next_stakes, mu, variance) * share
            out.append(np.where(rate > 0, np.maximum(missing, 0) / rate, np.inf))
    times = np.where(missing <= 0, 0.0, np.stack(out))
    return np.where((m < 2) & (missing > 0), np.nan, times)


def _range(values: NDArray[np.float64]) -> Range:
    estimate, low, high = (float(v) if math.isfinite(v) else None for v in values)
    return Range(estimate, low, high)
