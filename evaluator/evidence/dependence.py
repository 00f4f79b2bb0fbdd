"""Do the labels of a block resemble each other more than independent ones would?

Pearson's χ² of the blocks' positives against one binomial. It warns where an operator declared labels
independent (`evidence = "labels"`), loudly. It must not choose the rule by itself: quiet days pass the test,
and a rule chosen on them promotes falsely once the trouble starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluator.evidence.bets import Floats

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Dependence:
    """chi2, df, p_value, dispersion: float64[...], over the blocks that have labels.

    dispersion φ = max(1, χ²/df): intervals for independent labels hold with s/φ positives of n/φ labels.
    p_value is 1 where nothing can be said (fewer than two blocks, or all outcomes alike).
    """

    chi2: Floats
    df: Floats
    p_value: Floats
    dispersion: Floats

    @property
    def dependent(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """bool[...]: the declaration that labels are independent looks false."""
        return self.p_value < LEVEL


def dependence(*sides: tuple[ArrayLike, ArrayLike]) -> Dependence:
    """Compare blocks with binomials: each side is (s, n), float64[..., B], of s positives among n labels.

    Each side has a precision of its own. Give one for its dispersion, both (the candidate's and the suite's)
    for the warning: together they see more.
    """
    parts = [_pearson(np.asarray(s, dtype=np.float64), np.asarray(n, dtype=np.float64)) for s, n in sides]
    chi2 = np.asarray(sum(part[0] for part in parts))
    df = np.asarray(sum(part[1] for part in parts))
    ratio = np.divide(chi2, df, out=np.ones(df.shape), where=df > 0)
    tails = [tail(float(c), float(d)) for c, d in zip(chi2.ravel(), df.ravel(), strict=True)]
    return Dependence(chi2, df, np.array(tails, dtype=np.float64).reshape(df.shape), np.maximum(1.0, ratio))


def _pearson(s: Floats, n: Floats) -> tuple[Floats, Floats]:
    """χ² and its degrees of freedom, float64[...]; (0, 0) where all outcomes are alike."""
    total = n.sum(-1)
    p = np.divide(s.sum(-1), total, out=np.zeros(total.shape), where=total > 0)
    expected = n * p[..., None]
    spread = expected * (1 - p[..., None])
    chi2 = np.divide((s - expected) ** 2, spread, out=np.zeros(n.shape), where=spread > 0).sum(-1)
    df = np.where((p > 0) & (p < 1), np.maximum((n > 0).sum(-1) - 1, 0), 0).astype(np.float64)
    return chi2, df


def tail(chi2: float, df: float) -> float:
    """P(χ²_df ≥ chi2): the regularised upper incomplete gamma function Q(df/2, chi2/2).

    By its series below the mean and by its continued fraction (Lentz) above it: Press et al., "Numerical
    Recipes", 6.2.
    """
    a, x = df / 2, chi2 / 2
    if a <= 0 or x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        k = a
        while abs(term) > 1e-16 * total:
            k += 1
            term *= x / k
            total += term
        return max(0.0, 1 - front * total)
    b = x + 1 - a
    c, d = 1e300, 1 / b
    fraction = d
    for i in range(1, 10_000):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b)
        c = b + step / c
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction
