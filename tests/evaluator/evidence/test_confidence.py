"""Confidence sequences: the algebra against scipy, and coverage while somebody looks at every label."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import chi2_contingency
from statsmodels.stats.proportion import proportion_confint

from evaluator.evidence.confidence import dispersion, interval, log_evidence, lower


def reference(s, n, p):
    rates = [0.02 * 2**k for k in range(8)]
    return logsumexp([math.log(1 / 8) + r * s - n * math.log1p(p * math.expm1(r)) for r in rates])


@pytest.mark.parametrize(
    ("s", "n"), [(5, 10), (80, 100), (3, 1000), (999, 1000), (40_000, 50_000), (7.5, 9.25)]
)
def test_the_bound_is_where_the_evidence_reaches_one_over_alpha(s, n):
    """The vectorised bisection finds scipy's root of the formula."""
    assert log_evidence(s, n, 0.3) == pytest.approx(reference(s, n, 0.3), abs=1e-9)
    if reference(s, n, 0) > math.log(40):
        root = brentq(lambda p: reference(s, n, p) - math.log(40), 0, 1, xtol=1e-13)
        assert lower(s, n, 0.025) == pytest.approx(root, abs=1e-9)
    low, high = interval(s, n)
    assert low == pytest.approx(lower(s, n, 0.025))
    assert high == pytest.approx(1 - lower(n - s, n, 0.025))


def test_nothing_known_is_anything():
    """Without labels the interval is [0, 1]; shapes broadcast, and the ratio lies inside."""
    assert [float(a) for a in interval(0, 0)] == pytest.approx([0, 1], abs=1e-9)
    s, n = np.array([[0], [4], [10]]), np.array([10, 200])
    low, high = interval(s, n)
    assert low.shape == (3, 2)
    assert (low <= s / n).all()
    assert (high >= s / n).all()
    assert low[0, 0] == pytest.approx(0, abs=1e-9)
    assert high[2, 0] == pytest.approx(1, abs=1e-9)


def test_dispersion_is_the_chi2_of_blocks_over_its_degrees_of_freedom():
    """scipy's Pearson χ² of the table of blocks; labels that come in fives are counted as a fifth."""
    s, n = np.array([9, 2, 0, 5]), np.array([10, 8, 0, 12])
    seen = n > 0
    chi2 = chi2_contingency(np.stack([s, n - s])[:, seen], correction=False).statistic
    assert dispersion(s, n) == pytest.approx(chi2 / 2)
    assert dispersion([3, 3], [3, 3]) == 1
    assert dispersion([3], [7]) == 1
    rng = np.random.default_rng(1)
    clustered = 5 * rng.binomial(8, 0.7, (200, 60))
    assert np.median(dispersion(clustered, np.full(60, 40))) == pytest.approx(5, rel=0.1)
    narrow, wide = interval(140, 200), interval(140, 200, phi=5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert wide[0] == pytest.approx(interval(28, 40)[0])


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.05, 0.5, 0.8])
def test_the_truth_is_inside_whenever_one_looks(p):
    """Looked at after each of 5000 labels the sequence misses ≤ 5 %; a Wilson interval misses often."""
    rng = np.random.default_rng(2)
    streams, labels = 500, 5000
    s = np.cumsum(rng.random((streams, labels)) < p, axis=1)
    n = np.arange(1, labels + 1)
    target = math.log(40)
    # the bound has passed p exactly where the evidence against p has reached 1/alpha
    missed = np.zeros(streams, dtype=bool)
    for part in np.array_split(np.arange(streams), 20):
        out = (log_evidence(s[part], n, p) >= target) | (log_evidence(n - s[part], n, 1 - p) >= target)
        missed[part] = out.any(axis=1)
    assert missed.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / streams)
    low, high = proportion_confint(s[:, 99:], n[99:], alpha=0.05, method="wilson")
    assert ((low > p) | (high < p)).any(axis=1).mean() > 0.25


def test_the_running_mean_is_inside_under_drift():
    """Where the probability drifts it is the average so far that is covered."""
    rng = np.random.default_rng(3)
    truth = np.linspace(0.9, 0.4, 2000)
    s = np.cumsum(rng.random((200, 2000)) < truth, axis=1)
    n = np.arange(1, 2001)
    mean = np.cumsum(truth) / n
    every = slice(19, None, 20)
    low, high = interval(s[:, every], n[every])
    assert ((low > mean[every]) | (high < mean[every])).any(axis=1).mean() <= 0.06
