"""Which of many e-values to believe together: e-BH for proposals, Bonferroni where something acts on them.

e-BH (Wang & Ramdas, "False discovery rate control with e-values", 2022) believes the k largest of K, for the
largest k whose k-th largest e-value is ≥ K/(k·alpha). The expected share of false ones among them is ≤ alpha
however the e-values depend on each other: candidates judged on one stream always do. Bonferroni believes
each e ≥ K/alpha: the probability of even one false is ≤ alpha, at any time, if every e-value is an e-process.

Both take a fixed set of hypotheses. For e-values of processes that stopped or latched the e-BH guarantee is
that of a common stopping time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def e_bh(log_e: ArrayLike, alpha: float = 0.10) -> NDArray[np.bool_]:
    """bool[..., K], which to believe. log_e: natural logs, [..., K]; nan counts as no evidence at all."""
    log_e, k = _clean(log_e)
    ranked = -np.sort(-log_e, axis=-1)
    enough = ranked >= _threshold(k, alpha) - np.log(np.arange(1, k + 1))
    number = np.where(enough, np.arange(1, k + 1), 0).max(axis=-1, initial=0)
    # the same comparison as the ranking's, so that equal e-values are believed together
    least = np.take_along_axis(ranked, np.maximum(number - 1, 0)[..., None], -1) if k else ranked
    out: NDArray[np.bool_] = (log_e >= least) & (number > 0)[..., None]
    return out


def bonferroni(log_e: ArrayLike, alpha: float = 0.05) -> NDArray[np.bool_]:
    """bool[..., K], which to believe. log_e: natural logs, [..., K]; nan counts as no evidence at all."""
    log_e, k = _clean(log_e)
    out: NDArray[np.bool_] = log_e >= _threshold(k, alpha)
    return out


def _threshold(k: int, alpha: float) -> float:
    return math.log(max(k, 1) / alpha)


def _clean(log_e: ArrayLike) -> tuple[NDArray[np.float64], int]:
    out = np.asarray(log_e, dtype=np.float64)
    return np.where(np.isnan(out), -np.inf, out), out.shape[-1]
