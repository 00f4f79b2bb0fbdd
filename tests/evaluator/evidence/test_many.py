"""e-BH and Bonferroni: against statsmodels on p = 1/e, and the errors of ten candidates that are watched."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from evaluator.evidence.bets import Blocks, promote
from evaluator.evidence.many import bonferroni, e_bh

logs = st.lists(st.floats(-5, 15), min_size=1, max_size=12)


@given(logs)
def test_they_are_benjamini_hochberg_and_bonferroni_on_one_over_e(log_e):
    """statsmodels rejects the same hypotheses when it is given p = 1/e."""
    p = np.minimum(1, np.exp(-np.array(log_e)))
    assert e_bh(log_e, 0.1).tolist() == multipletests(p, 0.1, "fdr_bh")[0].tolist()
    assert bonferroni(log_e, 0.05).tolist() == multipletests(p, 0.05, "bonferroni")[0].tolist()


def test_shapes_and_nothing():
    """Leading axes are independent families; nan is no evidence; an empty family believes nothing."""
    log_e = [[math.log(20), math.log(20), 0.0], [math.log(29), math.nan, math.inf]]
    assert e_bh(log_e, 0.10).tolist() == [[True, True, False], [True, False, True]]
    assert bonferroni(log_e, 0.10).tolist() == [[False, False, False], [False, False, True]]
    assert e_bh([], 0.1).shape == bonferroni([], 0.1).shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("true", [0, 5])
def test_ten_candidates_watched_daily(true):
    """Ten candidates on one suite's labels, a look a day for 150 days; `true` of them are really better.

    The share of false ones among those that e-BH believes, on the worst day as on the last,
    stays ≤ 0.10; Bonferroni believes a false one, ever, in ≤ 5 % of streams. Judging each at 0.05 alone
    breaks that.
    """
    rng = np.random.default_rng(4)
    streams, days, labels = 300, 150, 8
    p_o, margin = 0.8, 0.05
    p_c = np.array([p_o + 0.15] * true + [p_o - margin] * (10 - true))  # at the boundary of the null
    s_c = rng.binomial(labels, p_c[:, None], (streams, 10, days))
    s_o = rng.binomial(100, p_o, (streams, 1, days))
    evidence = promote(Blocks.from_counts(s_c, labels, s_o, 100), margin=margin)
    log_e = np.moveaxis(evidence.log_e, 1, 2)  # [streams, days, candidates]
    worst = np.maximum.accumulate(log_e, axis=1)[:, -1]
    false = np.arange(10) >= true

    believed = e_bh(log_e, 0.10)
    share = (believed & false).sum(-1) / np.maximum(believed.sum(-1), 1)
    tolerance = 2 * math.sqrt(0.1 * 0.9 / streams)
    assert share[:, -1].mean() <= 0.10 + tolerance
    assert share.mean(axis=0).max() <= 0.10 + tolerance
    assert (bonferroni(worst, 0.05) & false).any(-1).mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / streams)
    alone = ((worst >= math.log(20)) & false).any(-1).mean()
    assert alone > (bonferroni(worst, 0.05) & false).any(-1).mean()
    if true:
        assert believed[:, -1, :true].mean() > 0.9
        assert bonferroni(log_e[:, -1], 0.05)[:, :true].mean() > 0.5
        # what one believes together is never less than what one believes each for itself
        assert (believed | ~bonferroni(log_e, 0.10)).all()
