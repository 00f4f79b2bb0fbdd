"""Intervals that may be read at any time: confidence sequences for ratios of counts.

A Wilson or Jeffreys interval holds at one look that was planned beforehand. Read after each label, it misses
the truth at some time almost surely. A confidence sequence misses it, ever, with probability at most alpha:
it is the set of p that a mixture of Chernoff martingales has not yet refuted (Howard, Ramdas, McAuliffe &
Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021; Ville's inequality).

    log E(s, n; p) = logsumexp_k(ln w_k + λ_k s − n·log1p(p·expm1(λ_k)))        w_k = 1/8

It holds for outcomes in [0, 1], and for the running mean where p drifts. It needs independent labels: divide
`s` and `n` by `dispersion` where labels of one block resemble each other, and say so. Intervals are for
reading, bets decide.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_RATES = 0.02 * 2.0 ** np.arange(8)
_ODDS = np.expm1(_RATES)
_HALVINGS = 40  # 2^-40: finer than anything shown


def log_evidence(s: ArrayLike, n: ArrayLike, p: ArrayLike) -> Floats:
    """log E against "the probability of an outcome is at most p": float64, the arguments' common shape.

    s: (weighted) positives; n: outcomes, s ≤ n; p: in [0, 1].
    """
    s, n, p = (np.asarray(a, dtype=np.float64)[..., None] for a in (s, n, p))
    terms = _RATES * s - n * np.log1p(p * _ODDS)
    top = terms.max(axis=-1, keepdims=True)
    out: Floats = top[..., 0] + np.log(np.exp(terms - top).mean(axis=-1))
    return out


def lower(s: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> Floats:
    """The bound that the truth is ever below with probability ≤ alpha; 0 while nothing is known."""
    s, n = (np.array(a) for a in np.broadcast_arrays(_floats(s), _floats(n)))
    target = math.log(1 / alpha)
    low, high = np.zeros(s.shape), np.ones(s.shape)
    for _ in range(_HALVINGS):  # E falls in p
        middle = (low + high) / 2
        refuted = log_evidence(s, n, middle) >= target
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def interval(s: ArrayLike, n: ArrayLike, alpha: float = 0.05, phi: ArrayLike = 1.0) -> tuple[Floats, Floats]:
    """(lower, upper) of s/n, together right at all times with probability ≥ 1 − alpha; [0, 1] where n is 0.

    s, n: counts (or sums of weights in [0, 1]) of any common shape; phi: their `dispersion`.
    """
    s, n = np.broadcast_arrays(_floats(s) / _floats(phi), _floats(n) / _floats(phi))
    bounds = lower(np.stack([s, n - s]), np.stack([n, n]), alpha / 2)
    return bounds[0], 1 - bounds[1]


def dispersion(s: ArrayLike, n: ArrayLike) -> Floats:
    """φ = max(1, χ²/df) of blocks [..., B] against one common probability: by how much labels repeat.

    1 where fewer than two blocks have labels, or all outcomes are alike.
    """
    s, n = np.broadcast_arrays(_floats(s), _floats(n))
    total = n.sum(-1, keepdims=True)
    p = np.divide(s.sum(-1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
    spread = n * p * (1 - p)
    chi2 = np.divide((s - n * p) ** 2, spread, out=np.zeros_like(spread), where=spread > 0).sum(-1)
    df = np.maximum((n > 0).sum(-1) - 1, 1)
    return np.asarray(np.maximum(1.0, chi2 / df))


def _floats(a: ArrayLike) -> Floats:
    return np.asarray(a, dtype=np.float64)
