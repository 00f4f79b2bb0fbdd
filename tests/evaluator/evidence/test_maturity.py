"""Late labels: delays are recovered although long ones cannot be seen yet, and only mature buckets are used.

In the simulations delays are exponential: a mean of 48 h for positives, of 6 h for negatives.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from evaluator.evidence.bets import Blocks, promote
from evaluator.evidence.maturity import (
    DAY,
    ENOUGH,
    Arrival,
    arrival,
    bin_upper,
    delay_bin,
    horizon,
    inflate,
    mature,
    missing_is_negative,
)
from streams.labels import NEGATIVE, POSITIVE

HOUR = 3_600_000
FLOOR = 6 * HOUR
MEANS = {POSITIVE: 48 * HOUR, NEGATIVE: 6 * HOUR}
PRECISION = 0.8

counts_strategy = st.dictionaries(
    st.tuples(
        st.integers(0, 12).map(lambda day: day * DAY),
        st.sampled_from([POSITIVE, NEGATIVE]),
        st.integers(0, 60),
    ),
    st.integers(0, 200),
    max_size=80,
)


def delays(rng, days, a_day, through):
    """Counts of the labels of `days` days that have come by `through`."""
    counts = {}
    for day in range(days):
        positive = rng.random(a_day) < PRECISION
        at = day * DAY + rng.random(a_day) * DAY
        delay = np.where(
            positive, rng.exponential(MEANS[POSITIVE], a_day), rng.exponential(MEANS[NEGATIVE], a_day)
        )
        came = at + delay <= through
        for yes, ms in zip(positive[came], delay[came], strict=True):
            key = (day * DAY, POSITIVE if yes else NEGATIVE, delay_bin(int(ms)))
            counts[key] = counts.get(key, 0) + 1
    return counts


def arrived(age, outcome):
    """The true share of an outcome that has come by an age."""
    return 1 - np.exp(-np.asarray(age) / MEANS[outcome])


# ---- bins


@pytest.mark.parametrize(
    ("delay", "k"),
    [
        (-5, 0),
        (0, 0),
        (59_999, 0),
        (60_000, 0),
        (71_352, 0),
        (71_353, 1),
        (120_000, 4),
        (HOUR, 23),
        (DAY, 41),
    ],
)
def test_bins(delay, k):
    """Below a minute is bin 0; every four bins are a factor of two."""
    assert delay_bin(delay) == k


@given(st.integers(1, 10**12))
def test_bins_are_what_the_logarithm_says(delay):
    """floor(4·log2(minutes)), up to rounding at the edges, and each delay is below the end of its bin."""
    exact = 4 * math.log2(delay / 60_000)
    assert delay_bin(delay) == max(math.floor(exact), 0) or abs(exact - round(exact)) < 1e-9
    assert delay < bin_upper(delay_bin(delay))


@given(st.integers(0, 100))
def test_bins_meet(k):
    """The end of a bin is the first delay of the next."""
    assert delay_bin(bin_upper(k)) == k + 1
    assert delay_bin(bin_upper(k) - 1) == k


# ---- the distribution of delays


@pytest.mark.parametrize("days", [10, 14, 30])
def test_the_true_distribution_is_recovered(days):
    """Labels of the last days are mostly missing, yet F is right; the plain share of delays is not."""
    counts = delays(np.random.default_rng(days), days, 4000, days * DAY)
    for outcome in (POSITIVE, NEGATIVE):
        found = arrival(counts, days * DAY, outcome)
        ages = np.array([1, 3, 6, 12, 24, 48, 96]) * HOUR
        # what cannot be seen yet is taken not to be there
        true = arrived(ages, outcome) / arrived(found.observed_ms, outcome)
        assert_allclose(found.arrived(ages), true, atol=0.02)
    edge = bin_upper(delay_bin(36 * HOUR))
    seen = [(k, n) for (_, o, k), n in counts.items() if o == POSITIVE]
    plain = sum(n for k, n in seen if bin_upper(k) <= edge) / sum(n for _, n in seen)
    ladder = arrival(counts, days * DAY, POSITIVE).arrived(edge)
    print(f"{days} days, arrived by {edge / HOUR:.0f} h: {arrived(edge, POSITIVE):.3f}", end=", ")
    print(f"chain-ladder {ladder:.3f}, share of the delays seen {plain:.3f}")
    assert abs(ladder - arrived(edge, POSITIVE)) < 0.02 < plain - arrived(edge, POSITIVE)


def test_the_horizon_is_that_of_the_slower_outcome():
    """95 % of exponential delays have come by 3 means: 144 h and 18 h; bins are 19 % wide."""
    found = horizon(delays(np.random.default_rng(1), 30, 4000, 30 * DAY), 30 * DAY, floor_ms=FLOOR)
    assert found.source == "measured"
    assert 0.95 * 144 * HOUR < found.positive_ms < 1.2 * 144 * HOUR
    assert 0.95 * 18 * HOUR < found.negative_ms < 1.2 * 18 * HOUR
    assert found.ms == found.positive_ms


def test_early_on_only_the_fast_labels_have_been_seen():
    """The horizon starts at the floor and grows with the delays that could be seen; a floor keeps it long."""
    rng = np.random.default_rng(2)
    found = [horizon(delays(rng, d, 2000, d * DAY), d * DAY, floor_ms=FLOOR) for d in (1, 2, 4, 8, 16)]
    print([(one.source, round(one.ms / HOUR), round(one.observed_ms / HOUR)) for one in found])
    assert (found[0].source, found[0].ms) == ("few_labels", FLOOR)
    assert all(early.ms < late.ms for early, late in itertools.pairwise(found))
    assert found[1].ms < 60 * HOUR  # far too short
    early = delays(rng, 2, 2000, 2 * DAY)
    assert horizon(early, 2 * DAY, floor_ms=144 * HOUR).ms == 144 * HOUR


def test_too_few_labels_of_an_outcome():
    """It says so, and waits for the outcome that is known if that takes longer than the floor."""
    counts = {(0, NEGATIVE, delay_bin(10 * HOUR)): 500, (0, POSITIVE, delay_bin(HOUR)): ENOUGH - 1}
    found = horizon(counts, 10 * DAY, floor_ms=FLOOR)
    assert (found.source, found.positive_ms, found.labels) == ("few_labels", None, ENOUGH - 1)
    assert found.ms == found.negative_ms >= 10 * HOUR
    assert horizon(counts, 10 * DAY, floor_ms=DAY).ms == DAY
    assert horizon({}, 10 * DAY, floor_ms=FLOOR).ms == FLOOR


def test_one_outcome_where_no_label_means_negative():
    """Negatives are never sent, so nobody waits for them."""
    counts = {(0, POSITIVE, delay_bin(30 * HOUR)): 100}
    found = horizon(counts, 10 * DAY, floor_ms=FLOOR, outcomes=[POSITIVE])
    assert (found.source, found.negative_ms) == ("measured", None)
    assert found.ms == bin_upper(delay_bin(30 * HOUR))


def test_fast_labels_give_the_floor():
    """Labels within minutes do not make a bucket mature at once."""
    counts = {(0, outcome, 8): 100 for outcome in (POSITIVE, NEGATIVE)}
    found = horizon(counts, 10 * DAY, floor_ms=FLOOR)
    assert (found.ms, found.source, found.positive_ms) == (FLOOR, "floor", bin_upper(8))


def test_a_stray_old_day_does_not_stop_everything():
    """One label that came after half a year says nothing about the others."""
    counts = delays(np.random.default_rng(3), 20, 2000, 220 * DAY)
    alone = horizon(counts, 220 * DAY, floor_ms=FLOOR)
    stray = {**counts, (-200 * DAY, POSITIVE, delay_bin(190 * DAY)): 1}
    assert horizon(stray, 220 * DAY, floor_ms=FLOOR).ms == alone.ms


def test_a_tail_that_has_been_seen_is_not_forgotten():
    """Labels that took longer than any whole day could have seen still make the horizon longer."""
    counts = {(0, POSITIVE, delay_bin(2 * HOUR)): 100, (0, POSITIVE, delay_bin(20 * HOUR)): 100}
    assert arrival(counts, DAY + 8 * HOUR, POSITIVE).age(0.95) == bin_upper(delay_bin(20 * HOUR))


@given(counts_strategy, st.integers(0, 20 * 24), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_does_not_matter_and_f_does_not_fall(counts, hours, random):
    """Whatever the counts: F is a distribution function, the same in any order, and the floor holds."""
    items = list(counts.items())
    random.shuffle(items)
    for outcome in (POSITIVE, NEGATIVE):
        one, other = (arrival(c, hours * HOUR, outcome) for c in (counts, dict(items)))
        assert_array_equal(one.share, other.share)
        assert one.labels == other.labels >= 0
        assert np.all((one.share >= 0) & (one.share <= 1))
        ages = np.arange(0, 40 * DAY, 5 * HOUR)
        assert np.all(np.diff(one.arrived(ages)) >= 0)
    found = horizon(counts, hours * HOUR, floor_ms=FLOOR)
    assert found == horizon(dict(items), hours * HOUR, floor_ms=FLOOR)
    assert found.ms >= FLOOR


@given(counts_strategy)
@settings(deadline=None)
def test_labels_of_the_present_change_nothing(counts):
    """A day that is not over has seen no delay of its own in full."""
    through = 12 * DAY
    past = {key: n for key, n in counts.items() if key[0] < through}
    assert horizon(counts, through, floor_ms=FLOOR) == horizon(past, through, floor_ms=FLOOR)


# ---- what follows from it


def test_mature_means_that_consumption_has_passed():
    """Not the clock: before the first label, and while labels stall, nothing matures."""
    ends = np.array([1, 2, 3]) * DAY
    assert not mature(ends, None, FLOOR).any()
    assert_array_equal(mature(ends, 2 * DAY + FLOOR, FLOOR), [True, True, False])
    assert_array_equal(mature(ends, 2 * DAY + FLOOR - 1, FLOOR), [True, False, False])


def test_silence_counts_as_negative_only_when_mature():
    """An unlabelled request of a mature bucket is a negative; the stored counts stay."""
    negatives, unlabelled = missing_is_negative([3, 3], [10, 10], [True, False])
    assert_array_equal(negatives, [13, 3])
    assert_array_equal(unlabelled, [0, 10])


def test_inflation_is_bounded():
    """1/F(age), but never more than ten times."""
    assert_allclose(inflate([10, 10, 10], [1.0, 0.5, 0.0]), [10, 20, 100])


def test_nothing_known_inflates_nothing():
    """Without delays there is no F to divide by."""
    assert Arrival(np.zeros(0), 0, 0).arrived(HOUR) == 1


def test_the_last_day_reads_too_low_and_inflation_repairs_it():
    """0.8 reads as 0.53 over the last 24 h; dividing each hour's outcomes by their F brings it back."""
    rng = np.random.default_rng(4)
    known = delays(rng, 30, 4000, 30 * DAY)
    n = 100_000
    age, positive = rng.random(n) * DAY, rng.random(n) < PRECISION
    s, f = (
        np.histogram(age[chosen & (rng.exponential(MEANS[o], n) <= age)], bins=24, range=(0, DAY))[0]
        for o, chosen in ((POSITIVE, positive), (NEGATIVE, ~positive))
    )
    read = s.sum() / (s.sum() + f.sum())
    ages = (np.arange(24) + 0.5) * HOUR
    more = [
        inflate(c, arrival(known, 30 * DAY, o).arrived(ages))[6:].sum()
        for o, c in ((POSITIVE, s), (NEGATIVE, f))
    ]
    print(f"the last 24 h read {read - PRECISION:+.3f}, inflated {more[0] / sum(more) - PRECISION:+.3f}")
    assert read - PRECISION == pytest.approx(-0.27, abs=0.01)
    assert more[0] / sum(more) == pytest.approx(PRECISION, abs=0.02)


# ---- the table


def lags(mean_days, days):
    """Probabilities that a label comes 0, 1, … days after the day of its request."""
    t = np.arange(days + 1.0)
    gone = t - mean_days * (1 - np.exp(-t / mean_days))  # ∫F
    return np.diff(gone, prepend=gone[0])[1:] - np.concatenate([[0.0], np.diff(gone)[:-1]])


def in_order_of_arrival(rng, requests, precision, streams):
    """Positives and labels per day on which they arrive."""
    days = len(requests)
    expected = (
        np.convolve(requests * share, lags(MEANS[o] / DAY, days))[:days]
        for o, share in ((POSITIVE, precision), (NEGATIVE, 1 - precision))
    )
    s, f = (rng.poisson(e, (streams, days)) for e in expected)
    return s, s + f


def matured(rng, requests, precision, streams, age_ms):
    """Positives and labels per day of the requests, of days old enough, with what has come by then."""
    days = len(requests) - math.ceil(age_ms / DAY)
    s = rng.poisson(requests[:days] * precision * arrived(age_ms, POSITIVE), (streams, days))
    f = rng.poisson(requests[:days] * (1 - precision) * arrived(age_ms, NEGATIVE), (streams, days))
    return s, s + f


def test_order_of_arrival_promotes_what_maturity_does_not():
    """A candidate that is 0.05 worse and flags in waves, two weeks on and two weeks off.

    After a wave only its late positives still arrive, so those days read 1.0 and are bet on.
    """
    rng = np.random.default_rng(5)
    streams, days = 1000, 120
    waves = 50.0 * (np.arange(days) % 28 < 14)
    suite = np.full(days, 500.0)
    age = horizon(delays(rng, 30, 4000, 30 * DAY), 30 * DAY, floor_ms=FLOOR).ms
    naive = Blocks.from_counts(
        *in_order_of_arrival(rng, waves, PRECISION - 0.05, streams),
        *in_order_of_arrival(rng, suite, PRECISION, streams),
    )
    ripe = Blocks.from_counts(
        *matured(rng, waves, PRECISION - 0.05, streams, age), *matured(rng, suite, PRECISION, streams, age)
    )
    wrong = [float((promote(blocks).crossing(0.05) >= 0).mean()) for blocks in (naive, ripe)]
    print(f"0.05 worse, promoted: in order of arrival {wrong[0]:.2f}, on mature days {wrong[1]:.3f}")
    assert wrong[0] == pytest.approx(0.75, abs=0.05)
    assert wrong[1] <= 0.005
