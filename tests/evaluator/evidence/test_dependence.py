"""Whether labels of a block resemble each other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.stats.proportion import proportions_chisquare

from evaluator.evidence.dependence import dependence, tail


def clustered(rng, streams, blocks, rate, size, p):
    """Labels that come in clusters of one outcome each: positives and labels, [streams, blocks]."""
    clusters = rng.poisson(rate / size, (streams, blocks))
    return size * rng.binomial(clusters, p), size * clusters


def test_tail_is_that_of_scipy():
    """The tail of χ² agrees with scipy over the whole range that can occur."""
    for df in (1, 2, 5, 13, 100, 365):
        for x in (0.001, 0.5, 3, 12.7, 40, 99, 101, 400, 900):
            assert_allclose(tail(x, df), stats.chi2.sf(x, df), rtol=1e-9, atol=1e-15)


def test_statistic_is_that_of_statsmodels():
    """The statistic and its p-value are Pearson's, blocks without labels are left out."""
    s, n = np.array([9, 7, 5, 3, 10]), np.array([10, 8, 5, 9, 12])
    chi2, p_value, _ = proportions_chisquare(s, n)
    ours = dependence((np.append(s, 0), np.append(n, 0)))
    assert_allclose([ours.chi2, ours.p_value, ours.df], [chi2, p_value, 4])
    assert_allclose(ours.dispersion, max(1, chi2 / 4))


def test_nothing_to_say():
    """Without labels, with one block or with outcomes all alike nothing looks dependent."""
    for s, n in (([], []), ([3], [9]), ([0, 0], [0, 0]), ([4, 9], [4, 9])):
        ours = dependence((s, n))
        assert ours.p_value == 1
        assert ours.dispersion == 1
        assert not ours.dependent


@pytest.mark.slow
@pytest.mark.parametrize("rate", [2, 10, 50])
def test_size(rate):
    """Labels that are independent look dependent in 3 to 6 % of fortnights, in fewer at two labels a day."""
    rng = np.random.default_rng(7)
    sides = [clustered(rng, 4000, 14, r, 1, 0.8) for r in (rate, 4 * rate)]
    for found in (dependence(sides[0]), dependence(*sides)):
        assert found.dependent.mean() < 0.06 + 2 * 0.0038
        assert found.dependent.mean() > (0.03 if rate > 2 else 0.015)


@pytest.mark.slow
def test_power():
    """A fortnight of clusters of 2, 5 and 10 labels is found with a chance of .75, .99 and 1 and more."""
    rng = np.random.default_rng(7)
    for size, power in ((2, 0.75), (5, 0.99), (10, 0.999)):
        sides = [clustered(rng, 2000, 14, rate, size, 0.8) for rate in (50, 200)]
        assert dependence(*sides).dependent.mean() >= power
        # one side alone: χ² is larger by the size of a cluster
        expected = stats.chi2.sf(stats.chi2.isf(0.05, 13) / size, 13)
        assert_allclose(dependence(sides[1]).dependent.mean(), expected, atol=0.04)


@pytest.mark.slow
def test_dispersion_is_the_design_effect():
    """Clusters of k labels with one outcome have a dispersion of about k."""
    rng = np.random.default_rng(8)
    for k in (2, 5):
        assert_allclose(dependence(clustered(rng, 300, 100, 100, k, 0.6)).dispersion.mean(), k, rtol=0.1)
