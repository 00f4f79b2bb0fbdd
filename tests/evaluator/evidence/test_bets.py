"""The bets on blocks against values worked out by hand and against a plain loop."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from evaluator.evidence.bets import Blocks, flag, logmeanexp, promote

S_C, N_C = [9, 7, 0, 5, 3, 10], [10, 8, 0, 5, 4, 12]
S_O, N_O = [80, 75, 60, 88, 70, 95], [100, 90, 80, 110, 100, 120]
GOLDEN = Blocks.from_counts(S_C, N_C, S_O, N_O)


def loop(blocks: Blocks, a: float, d: float, *, sign: int) -> list[float]:
    """One bet written down as a loop over blocks of one stream."""
    bound = a - d if sign > 0 else 1 + d
    xs, squares, s, n = [], 0.0, 0.0, 0.0
    log_e, out = np.zeros(2), []
    for c, o, s_o, n_o in zip(blocks.c, blocks.o, blocks.s_o, blocks.n_o, strict=True):
        if not (math.isnan(c) or math.isnan(o)):
            m = len(xs)
            v = (0.3 + squares) / (3 + m)
            g = np.array([1, 4]) * (d or min(max(0.2 * (s + 1) / (n + 2), 0.005), 0.05))
            stakes = np.minimum(0.95 / bound, g / (v + g**2))
            x = c - a * o + d if sign > 0 else a * o - c - d
            log_e += np.log1p(stakes * x)
            squares += (x - sum(xs) / (10 + m)) ** 2
            xs.append(x)
            s, n = s + s_o, n + n_o
        out.append(float(np.logaddexp(*log_e) - math.log(2)))
    return out


def test_promote_golden_values():
    """Each of the two bets has the values that were published, and the evidence is the smaller one."""
    evidence = promote(GOLDEN)
    absolute = [0.105787, 0.177208, 0.177208, 0.374697, 0.459771, 0.542456]
    relative = [0.197037, 0.365927, 0.365927, 0.655824, 0.821166, 1.001454]
    assert_allclose(evidence.bets[0].log_e, absolute, atol=5e-7)
    assert_allclose(evidence.bets[1].log_e, relative, atol=5e-7)
    assert_allclose(evidence.log_e, absolute, atol=5e-7)


def test_flag_golden_values():
    """The evidence against a member is the average of two bets."""
    golden = [-0.157448, -0.271442, -0.271442, -0.538698, -0.651049, -0.768530]
    assert_allclose(flag(GOLDEN).log_e, golden, atol=5e-7)


@pytest.mark.parametrize("p_o", [0.05, 0.3, 0.8])
def test_equals_the_loop(p_o):
    """Whatever the counts, cumulative sums say what a loop over the blocks says."""
    rng = np.random.default_rng(3)
    n_c, n_o = rng.integers(0, 4, (20, 40)), rng.integers(0, 9, (20, 40))
    blocks = Blocks.from_counts(rng.binomial(n_c, p_o), n_c, rng.binomial(n_o, p_o), n_o)
    promoted, flagged = promote(blocks), flag(blocks)
    for i in range(20):
        one = Blocks(*(getattr(blocks, f)[i] for f in ("c", "o", "s_c", "n_c", "s_o", "n_o")))
        bets = [loop(one, 1, 0.05, sign=1), loop(one, 0.8, 0, sign=1)]
        assert_allclose(promoted.log_e[i], np.minimum(*bets), atol=1e-12)
        bets = [loop(one, 1, 0.05, sign=-1), loop(one, 0.8, 0, sign=-1)]
        assert_allclose(flagged.log_e[i], logmeanexp(np.array(bets)), atol=1e-12)


def test_stakes_do_not_look_at_their_block():
    """Changing block b, its counts and its volume, changes no stake up to and including b."""
    s_c, n_c, s_o, n_o = (np.array(a, dtype=float) for a in (S_C, N_C, S_O, N_O))
    for b in range(6):
        other = [a.copy() for a in (s_c, n_c, s_o, n_o)]
        for a, value in zip(other, (0, 500, 900, 1000), strict=True):
            a[b] = value
        changed = Blocks.from_counts(*other)
        for rule in (promote, flag):
            for before, after in zip(rule(GOLDEN).bets, rule(changed).bets, strict=True):
                assert_allclose(before.stakes[:, : b + 1], after.stakes[:, : b + 1], rtol=0, atol=0)


def test_next_stakes_are_those_of_the_next_block():
    """What is kept for the forecast is what the following block is bet with."""
    shorter = Blocks.from_counts(S_C[:-1], N_C[:-1], S_O[:-1], N_O[:-1])
    for now, later in zip(promote(shorter).bets, promote(GOLDEN).bets, strict=True):
        assert_allclose(now.next_stakes, later.stakes[:, -1])


def test_a_block_with_labels_on_one_side_only_changes_nothing():
    """It is not bet on, and its labels enter neither the stakes nor the pooled precisions."""
    without = Blocks.from_counts(*(np.delete(a, 2) for a in (S_C, N_C, S_O, N_O)))
    assert_allclose(promote(GOLDEN).final, promote(without).final)
    assert_allclose(promote(GOLDEN).difference[-1], promote(without).difference[-1])
    assert promote(GOLDEN).usable == 5


def test_post_stratified_ratios_replace_the_plain_ones():
    """The bets read the ratios, whatever the label sums are; the same ratios give the same bets."""
    plain = promote(GOLDEN).bets[0].log_e
    weighted = Blocks(
        GOLDEN.c, GOLDEN.o, *(7.0 * a for a in (GOLDEN.s_c, GOLDEN.n_c, GOLDEN.s_o, GOLDEN.n_o))
    )
    assert_allclose(promote(weighted).bets[0].log_e, plain)


def test_a_floor_is_a_third_bet():
    """The candidate must beat a constant too: a floor nearly reached costs the promotion."""
    with_floor = promote(GOLDEN, floor=0.95)
    assert len(with_floor.bets) == 3
    assert with_floor.final < promote(GOLDEN).final
    assert with_floor.final_veto  # 0.87 pooled, the floor less its margin is 0.90
    assert not promote(GOLDEN, floor=0.9).final_veto


def test_an_empty_suite_is_bootstrapped_by_the_floor():
    """Without a suite there are no labels on its side; the floor alone is bet against."""
    nothing = np.zeros(60)
    blocks = Blocks.from_counts(np.full(60, 9), np.full(60, 10), nothing, nothing)
    assert promote(blocks, floor=0.7).final == 0
    alone = promote(blocks, floor=0.7, empty_suite=True)
    assert 0 <= alone.crossing(0.05) < 60
    assert promote(blocks, floor=0.97, empty_suite=True).crossing(0.05) == -1
    with pytest.raises(ValueError, match="floor"):
        promote(blocks, empty_suite=True)


def test_pooled_precision_vetoes_a_flag_that_rests_on_many_poor_days():
    """Poor on most days, rich on the few days with most labels: believed by days, vetoed by labels."""
    n_c = np.where(np.arange(300) % 20 == 0, 1000, 4)
    s_c = np.where(np.arange(300) % 20 == 0, 550, 1)
    evidence = flag(Blocks.from_counts(s_c, n_c, np.full(300, 40), np.full(300, 100)))
    assert evidence.crossing(0.05, veto=False) >= 0
    assert evidence.crossing(0.05) == -1
    assert evidence.averaged_c < 0.3 < 0.5 < evidence.pooled_c[-1]


def test_pooled_precision_vetoes_a_promotion_that_rests_on_many_good_days():
    """Good on most days and bad where the volume is: no promotion."""
    n_c = np.where(np.arange(300) % 20 == 0, 1000, 4)
    s_c = np.where(np.arange(300) % 20 == 0, 100, 4)
    evidence = promote(Blocks.from_counts(s_c, n_c, np.full(300, 80), np.full(300, 100)))
    assert evidence.crossing(0.05, veto=False) >= 0
    assert evidence.crossing(0.05) == -1


def test_margin_is_relative_where_precision_is_low():
    """At a precision of 0.04 the margin is 0.008; a candidate of precision 0.01 is not promoted."""
    blocks = Blocks.from_counts(np.full(300, 1), np.full(300, 100), np.full(300, 4), np.full(300, 100))
    evidence = promote(blocks)
    assert_allclose(evidence.delta[-1], 0.008)
    assert evidence.crossing(0.05, veto=False) == -1
    assert evidence.bets[0].log_e[-1] > math.log(20)  # the absolute margin alone would have


def test_no_blocks():
    """Before the first block the capital is 1 and nothing may be believed."""
    evidence = promote(Blocks.from_counts([], [], [], []))
    assert evidence.final == 0
    assert evidence.final_veto
    assert evidence.crossing(0.05) == -1
