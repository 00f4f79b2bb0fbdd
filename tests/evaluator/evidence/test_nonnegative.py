"""Nobody can make money on the null: exact, by linear programs over all laws of one block.

For one block after some history, each outcome (positives and labels of both sides) multiplies the capital
by a factor. The law of the outcome is free: labels of a block may depend on each other, and the two sides on
each other, as they like. Only its expected ratios must obey the null. A linear program finds the law that
pays most.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from evaluator.evidence import labelwise
from evaluator.evidence.bets import Blocks, flag, promote

VOLUMES = [(n_c, n_o) for n_c in (1, 2, 5) for n_o in (1, 3, 6)]


def histories():
    """Some pasts, of none to forty blocks, with suites of all precisions: (s_c, n_c, s_o, n_o)."""
    rng = np.random.default_rng(1)
    for length, p_c, p_o in itertools.product((0, 1, 5, 40), (0.1, 0.9), (0.05, 0.4, 0.85)):
        n_c, n_o = rng.integers(0, 5, length), rng.integers(0, 9, length)
        yield rng.binomial(n_c, p_c), n_c, rng.binomial(n_o, p_o), n_o


def outcomes(volumes):
    """All outcomes of a block with one of the volumes: int[4, cells]."""
    return np.array([
        (s_c, n_c, s_o, n_o)
        for n_c, n_o in volumes
        for s_c in range(n_c + 1)
        for s_o in range(n_o + 1)
    ]).T  # fmt: skip


def after(history, cells):
    """The history with each outcome as its last block: four arrays [cells, length + 1]."""
    width = cells.shape[1]
    return [
        np.concatenate([np.broadcast_to(past, (width, len(past))), now[:, None]], axis=1)
        for past, now in zip(history, cells, strict=True)
    ]


def most(factor, *nulls):
    """The largest expected factor over all laws with E[null] ≤ 0 for each."""
    best = linprog(
        -factor, A_ub=np.array(nulls), b_ub=np.zeros(len(nulls)),
        A_eq=np.ones((1, len(factor))), b_eq=[1], bounds=(0, 1),
    )  # fmt: skip
    assert best.status in (0, 2), best.message  # 2: no law of this volume obeys the null
    return -best.fun if best.status == 0 else 0.0


def last_factor(log_e):
    """What the last block multiplied the capital with: float64[cells]."""
    return np.exp(log_e[:, -1] - (log_e[:, -2] if log_e.shape[1] > 1 else 0))


@pytest.mark.slow
def test_promote_pays_nothing_under_either_null():
    """Each bet's expected factor is at most 1 whenever its own null holds; the bound is reached."""
    largest = 0.0
    for history, volume in itertools.product(histories(), VOLUMES):
        blocks = Blocks.from_counts(*after(history, outcomes([volume])))
        floored = promote(blocks, floor=0.7)
        c, o = blocks.c[:, -1], blocks.o[:, -1]
        for one, null in zip(floored.bets, (c - o + 0.05, c - 0.8 * o, c - 0.65), strict=True):
            largest = max(largest, most(last_factor(one.log_e), null))
        assert (floored.log_e <= np.minimum.reduce([b.log_e for b in floored.bets]) + 1e-12).all()
    assert_allclose(largest, 1, atol=1e-7)


@pytest.mark.slow
def test_flag_pays_nothing_when_both_nulls_hold():
    """The average of two bets has an expected factor of at most 1 for a member that is no worse."""
    largest = 0.0
    for history, volume in itertools.product(histories(), VOLUMES):
        blocks = Blocks.from_counts(*after(history, outcomes([volume])))
        c, o = blocks.c[:, -1], blocks.o[:, -1]
        largest = max(largest, most(last_factor(flag(blocks).log_e), o - c - 0.05, 0.8 * o - c))
    assert_allclose(largest, 1, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["promote", "flag"])
def test_volumes_may_depend_on_the_outcome(rule):
    """The numbers of labels may be part of the same law, down to none: still nothing to be won."""
    cells = outcomes(itertools.product((0, 1, 3), (0, 2, 4)))
    for history in histories():
        blocks = Blocks.from_counts(*after(history, cells))
        c, o = (np.where(blocks.usable, a, 0)[:, -1] for a in (blocks.c, blocks.o))
        used = blocks.usable[:, -1]
        if rule == "promote":
            one, other = promote(blocks).bets
            assert most(last_factor(one.log_e), c - o + 0.05 * used) <= 1 + 1e-7
            assert most(last_factor(other.log_e), c - 0.8 * o) <= 1 + 1e-7
        else:
            worse = flag(blocks).log_e
            assert most(last_factor(worse), o - c - 0.05 * used, 0.8 * o - c) <= 1 + 1e-7


@pytest.mark.slow
def test_post_stratified_worst_cases_pay_nothing():
    """Ratios of any value, as weighting and worst cases make them, keep the capital positive and fair."""
    grid = np.linspace(0, 1, 6)
    c, o = (a.ravel() for a in np.meshgrid(grid, grid))
    for history in histories():
        plain = Blocks.from_counts(*after(history, np.ones((4, c.size), dtype=int)))
        both = [np.concatenate([a[:, :-1], b[:, None]], 1) for a, b in ((plain.c, c), (plain.o, o))]
        blocks = Blocks(*both, plain.s_c, plain.n_c, plain.s_o, plain.n_o)
        one, other = promote(blocks).bets
        assert np.isfinite(one.log_e).all()
        assert most(last_factor(one.log_e), c - o + 0.05) <= 1 + 1e-7
        assert most(last_factor(other.log_e), c - 0.8 * o) <= 1 + 1e-7
        assert most(last_factor(flag(blocks).log_e), o - c - 0.05, 0.8 * o - c) <= 1 + 1e-7


@pytest.mark.slow
def test_the_label_level_rule_pays_when_labels_depend():
    """The same programs find laws on which the label-level rule more than doubles the capital per block."""
    largest = 0.0
    for history, volume in itertools.product(histories(), VOLUMES):
        cells = outcomes([volume])
        counts = after(history, cells)
        null = cells[0] / cells[1] - cells[2] / cells[3] + 0.05
        largest = max(largest, most(last_factor(labelwise.promote(*counts)), null))
    assert largest > 2
