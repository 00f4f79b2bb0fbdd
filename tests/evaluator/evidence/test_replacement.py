"""Evidence for the swap of a member for its better version."""

import math

import numpy as np
from numpy.testing import assert_allclose

from evaluator.evidence.bets import Blocks, promote
from evaluator.evidence.replacement import replace


def swap(rng, gain, loss, p_gain, p_loss, blocks=300, streams=50):
    """Gain and loss per block: blocks of labels with everything labelled, and the positives of both."""
    n_c, n_o = rng.poisson(gain, (streams, blocks)), rng.poisson(loss, (streams, blocks))
    s_c, s_o = rng.binomial(n_c, p_gain), rng.binomial(n_o, p_loss)
    return Blocks.from_counts(s_c, n_c, s_o, n_o), s_c, s_o


def test_a_better_version_is_believed():
    """More positives at a higher precision."""
    evidence = replace(*swap(np.random.default_rng(1), 12, 8, 0.9, 0.7))
    assert (evidence.crossing(0.05) >= 0).all()
    assert len(evidence.bets) == 3


def test_precise_but_fewer_is_not():
    """A swap that is more precise and loses positives fails the second claim and is vetoed."""
    blocks, gained, lost = swap(np.random.default_rng(2), 4, 20, 0.95, 0.7)
    assert (promote(blocks).crossing(0.05) >= 0).all()
    evidence = replace(blocks, gained, lost)
    assert (evidence.crossing(0.05) == -1).all()
    assert evidence.veto[:, -1].all()


def test_many_but_imprecise_is_not():
    """A swap that gains positives at a worse precision fails the first claim."""
    assert (replace(*swap(np.random.default_rng(3), 60, 10, 0.5, 0.8)).crossing(0.05) == -1).all()


def test_fewer_positives_are_believed_by_chance_as_rarely_as_alpha():
    """At the boundary of the second claim (a share of 0.45) at most 5 % of swaps are believed."""
    evidence = replace(*swap(np.random.default_rng(4), 4.5, 5.5, 0.9, 0.9, streams=2000))
    catches = (evidence.bets[2].log_e >= math.log(20)).any(-1)
    assert catches.mean() < 0.05 + 2.3 * math.sqrt(0.05 * 0.95 / 2000)


def test_blocks_without_a_disputed_positive_are_not_bet_on():
    """Nothing gained and nothing lost, or unknown: the bet on positives waits."""
    blocks = Blocks.from_counts([3, 0, 2], [4, 2, 2], [1, 0, 2], [2, 2, 3])
    evidence = replace(blocks, [3, 0, math.nan], [1, 0, 2])
    assert evidence.bets[2].used.tolist() == [True, False, False]
    assert_allclose(evidence.bets[2].x, [0.3, 0, 0])
