"""The rule for labels that were declared independent."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats

from evaluator.evidence import labelwise


def closest(n_c, n_o, t_c, t_o, delta):
    """The null's pair closest to (t_c, t_o), by minimising the divergence; returns p_c."""

    def divergence(p_c):
        p_o = p_c + delta
        out = 0.0
        for n, t, p in ((n_c, t_c, p_c), (n_o, t_o, p_o)):
            out += n * (t * np.log(t / p) + (1 - t) * np.log((1 - t) / (1 - p)))
        return out

    low, high = max(0, -delta) + 1e-9, min(1, 1 - delta) - 1e-9
    return optimize.minimize_scalar(divergence, bounds=(low, high), options={"xatol": 1e-12}).x


@pytest.mark.parametrize("delta", [0.0, 0.05])
def test_first_bucket_by_hand(delta):
    """With the closest pair found by scipy the first bucket's e-value is the same."""
    s_c, n_c, s_o, n_o = 9, 10, 70, 100
    t_o = 0.7
    es = []
    for lam in (0.1, 0.2, 0.4, 0.8, 1.6):
        t_c = 1 / (1 + np.exp(-(np.log((t_o - delta) / (1 - t_o + delta)) + lam)))
        p_c = closest(n_c, n_o, t_c, t_o, delta)
        binomials = [stats.binom.pmf(s_c, n_c, p) * stats.binom.pmf(s_o, n_o, q) for p, q in
                     ((t_c, t_o), (p_c, p_c + delta))]  # fmt: skip
        es.append(binomials[0] / binomials[1])
    assert_allclose(
        labelwise.promote([s_c], [n_c], [s_o], [n_o], delta=delta), np.log(np.mean(es)), atol=1e-6
    )


@pytest.mark.parametrize("rule", ["promote", "flag"])
@pytest.mark.parametrize(("n_c", "n_o"), [(1, 1), (3, 0), (0, 4), (2, 6), (7, 3)])
def test_expected_factor_is_at_most_one_for_independent_labels(rule, n_c, n_o):
    """By enumeration of all outcomes, on the boundary of the null and inside it."""
    past = (np.array([3]), np.array([4]), np.array([17]), np.array([20]))  # cancels in the ratio
    cells = list(itertools.product(range(n_c + 1), range(n_o + 1)))
    s_c, s_o = np.array(cells).T
    now = (s_c, np.full(len(cells), n_c), s_o, np.full(len(cells), n_o))
    counts = [np.stack([np.broadcast_to(a, len(cells)), b], -1) for a, b in zip(past, now, strict=True)]
    log_e = getattr(labelwise, rule)(*counts)
    factor = np.exp(log_e[:, 1] - log_e[:, 0])
    sign = 1 if rule == "promote" else -1
    for p_o in np.linspace(0.06, 0.94, 23):
        for inside in (0, 0.05, 0.25):
            p_c = p_o - 0.05 - sign * inside
            if 0 <= p_c <= 1:
                chance = stats.binom.pmf(s_c, n_c, p_c) * stats.binom.pmf(s_o, n_o, p_o)
                assert chance @ factor <= 1 + 1e-9, (p_o, p_c)


def test_a_bucket_without_labels_of_the_candidate_moves_nothing_but_the_reference():
    """The suite alone is no evidence; later it is what the candidate is compared to."""
    assert_allclose(labelwise.promote([0], [0], [3], [10]), 0, atol=1e-9)
    poor = labelwise.promote([0, 9], [0, 10], [3, 5], [10, 10])
    rich = labelwise.promote([0, 9], [0, 10], [9, 5], [10, 10])
    assert poor[1] != rich[1]


def test_extreme_precisions_stay_finite():
    """Suites that are always right or always wrong, buckets without labels: finite numbers."""
    for s_o in (0, 30):
        for s_c in (0, 9):
            for n_o in (0, 30):
                args = [s_c] * 20, [9] * 20, [min(s_o, n_o)] * 20, [n_o] * 20
                assert np.isfinite(labelwise.promote(*args)).all()
                assert np.isfinite(labelwise.flag(*args)).all()
