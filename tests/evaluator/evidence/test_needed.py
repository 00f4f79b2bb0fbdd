"""The forecast of what is missing."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from evaluator.evidence.bets import Blocks, flag, promote
from evaluator.evidence.needed import needed


def stream(rng, blocks, p_c, p_o, rate=10):
    n_c, n_o = rng.poisson(rate, blocks), rng.poisson(4 * rate, blocks)
    return Blocks.from_counts(rng.binomial(n_c, p_c), n_c, rng.binomial(n_o, p_o), n_o)


def test_formula():
    """Worked out by hand for the slower of the two bets."""
    blocks = Blocks.from_counts(
        [9, 7, 0, 5, 3, 10], [10, 8, 0, 5, 4, 12], [80, 75, 60, 88, 70, 95], [100] * 6
    )
    evidence = promote(blocks)
    slowest = []
    for bet in evidence.bets:
        x = bet.x[bet.used]
        mu, variance = x.mean(), x.var(ddof=1)
        won = 1 + bet.next_stakes * mu
        growth = max(np.log(won) - bet.next_stakes**2 * variance / (2 * won**2))
        slowest.append((math.log(20) - bet.log_e[-1]) / (growth * 5 / 6))
    missing = needed(evidence, blocks.n_c, alpha=0.05)
    assert_allclose(missing.blocks[0], max(slowest))
    assert_allclose(missing.labels[0], max(slowest) * 39 / 6)  # 39 labels in 6 blocks
    assert missing.labels_at().low < missing.labels_at().estimate


def test_nothing_is_missing_once_it_is_believed():
    """Evidence that has crossed needs no more labels."""
    blocks = Blocks.from_counts(np.full(200, 10), np.full(200, 10), np.full(200, 16), np.full(200, 20))
    missing = needed(promote(blocks), blocks.n_c, alpha=0.05)
    assert missing.labels_at().estimate == missing.blocks_at().high == 0


def test_not_at_this_rate():
    """A candidate that is plainly worse will not be promoted, however long one waits."""
    blocks = stream(np.random.default_rng(1), 100, 0.4, 0.8)
    assert needed(promote(blocks), blocks.n_c, alpha=0.05).labels_at().low is None


def test_maybe_never():
    """In doubt the range is open above."""
    blocks = stream(np.random.default_rng(1), 15, 0.8, 0.8, rate=2)
    span = needed(promote(blocks), blocks.n_c, alpha=0.05).blocks_at()
    assert span.low is not None
    assert span.high is None


def test_too_early_to_say():
    """With one block or none there is no forecast; the answer is nan, and None to readers."""
    for count in (0, 1):
        blocks = Blocks.from_counts([9] * count, [10] * count, [8] * count, [10] * count)
        missing = needed(promote(blocks), blocks.n_c, alpha=0.05)
        assert np.isnan(missing.labels).all()
        assert missing.labels_at().estimate is None


def test_flag_counts_the_faster_bet_and_streams_are_apart():
    """Leading axes are streams; the worse member is flagged sooner."""
    rng = np.random.default_rng(5)
    n = np.full((2, 60), 10)
    s_u = rng.binomial(n, [[0.55], [0.3]])
    blocks = Blocks.from_counts(s_u, n, rng.binomial(40, 0.8, (2, 60)), np.full((2, 60), 40))
    short = Blocks(*(getattr(blocks, f)[:, :6] for f in ("c", "o", "s_c", "n_c", "s_o", "n_o")))
    missing = needed(flag(short), short.n_c, alpha=0.05)
    assert missing.blocks_at(1).estimate < missing.blocks_at(0).estimate


@pytest.mark.slow
def test_forecast_meets_what_happens():
    """Halfway through, the forecast is within a factor of 1.6 of what it took (medians)."""
    rng = np.random.default_rng(11)
    n_c, n_o = rng.poisson(10, (400, 400)), rng.poisson(40, (400, 400))
    blocks = Blocks.from_counts(rng.binomial(n_c, 0.9), n_c, rng.binomial(n_o, 0.8), n_o)
    crossing = promote(blocks).crossing(0.05)
    assert (crossing >= 0).all()
    half = int(np.median(crossing)) // 2
    short = Blocks(*(getattr(blocks, f)[:, :half] for f in ("c", "o", "s_c", "n_c", "s_o", "n_o")))
    forecast = needed(promote(short), short.n_c, alpha=0.05).blocks
    took = crossing + 1 - half
    assert 1 / 1.6 < np.median(forecast[0]) / np.median(took) < 1.6
    inside = (forecast[1] <= took) & (took <= forecast[2])
    assert inside.mean() > 0.5


def test_the_days_before_a_candidate_began_do_not_slow_it_down():
    """Thirty days in which nobody asked it, and then twenty: the forecast of these twenty."""
    blocks = stream(np.random.default_rng(4), 20, 0.85, 0.8, rate=3)
    fields = ("c", "o", "s_c", "n_c", "s_o", "n_o")
    late = Blocks(
        *(np.append(np.full(30, np.nan if f in ("c", "o") else 0.0), getattr(blocks, f)) for f in fields)
    )
    told = needed(promote(blocks), blocks.n_c, alpha=0.05)
    assert np.isfinite(told.blocks[0])
    found = needed(promote(late), late.n_c, alpha=0.05, since=30)
    assert_allclose(found.blocks, told.blocks)
    assert_allclose(found.labels, told.labels)
