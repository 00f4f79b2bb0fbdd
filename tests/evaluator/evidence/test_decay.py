"""The decay detector: its run length without a change, its delay with one, and the reason it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluator.evidence.decay import Period, alarm, detect, reason, reference
from evaluator.whatif import Histogram


def test_it_sums_the_evidence_over_every_possible_time_of_change():
    """The recursion equals the sum of likelihood ratios over all starts; without labels it only adds one."""
    rng = np.random.default_rng(6)
    n = rng.integers(0, 9, 12)
    f = rng.binomial(n, 0.4)
    for end in range(1, 13):
        total = 0.0
        for rate in (0.25, 0.5, 1.0, 2.0):
            for start in range(end):
                s = slice(start, end)
                total += math.exp(rate * f[s].sum()) / (1 + 0.3 * math.expm1(rate)) ** n[s].sum() / 4
        assert detect(f, n, 0.7)[end - 1] == pytest.approx(math.log(total))
    both = detect(np.stack([f, n - f]), n, [0.7, 0.2])
    assert both.shape == (2, 12)
    assert both[0] == pytest.approx(detect(f, n, 0.7))
    assert alarm(np.log([[1.0, 20, 5], [1, 2, 3]]), 10).tolist() == [1, -1]
    assert alarm(detect([], [], 0.5)) == -1


@pytest.mark.slow
def test_mean_buckets_to_a_false_alarm():
    """At the boundary of the null the mean run length is at least what was asked for (A = 100 here)."""
    rng = np.random.default_rng(7)
    wanted, horizon, streams = 100, 2500, 400
    for p in (0.8, 0.3):
        log_r = detect(rng.binomial(5, 1 - p, (streams, horizon)), 5, p)
        at = alarm(log_r, wanted)
        run = np.where(at < 0, horizon, at + 1)  # cut short: the true mean is larger
        assert run.mean() >= wanted - 2 * run.std() / math.sqrt(streams)
        # by bucket t at most t/A have alarmed
        assert (run <= 50).mean() <= 50 / wanted


@pytest.mark.slow
def test_delay():
    """At 5 labels a bucket and A = 1000 a drop of 0.2 after 100 quiet buckets is seen in about 19."""
    rng = np.random.default_rng(8)
    f = np.concatenate([rng.binomial(5, 0.2, (1000, 100)), rng.binomial(5, 0.4, (1000, 300))], axis=1)
    delay = alarm(detect(f, 5, 0.75)) + 1 - 100
    assert (delay > 0).mean() > 0.99
    assert np.median(delay) == pytest.approx(19, abs=2)


@pytest.mark.slow
def test_a_bare_estimate_alarms_without_cause():
    """With p_ref from 200 labels the bare one alarms often although nothing changed, `reference` does not."""
    rng = np.random.default_rng(9)
    streams, buckets = 1000, 300
    s = rng.binomial(200, 0.8, streams)
    f = rng.binomial(5, 0.2, (streams, buckets))
    bare = (alarm(detect(f, 5, s / 200)) >= 0).mean()
    careful = (alarm(detect(f, 5, reference(s, 200))) >= 0).mean()
    print(f"bare {bare:.3f}, reference {careful:.3f}")
    assert bare > 0.15
    assert careful < 0.02


def test_reference_is_careful():
    """Below the estimate by the allowance at least, and by more where there are few labels; 0 without any."""
    assert reference(80_000_000, 100_000_000) == pytest.approx(0.75)
    assert reference(80, 100) < 0.72
    assert reference([0, 0], [0, 10]).tolist() == pytest.approx([0, 0], abs=1e-9)


def period(flagged, positive, negative, unique, **shared):
    return Period(flagged, positive, negative, *unique, shared)


BEFORE = period(1000, 400, 100, (200, 50), b=(150, 40), c=(100, 25))


@pytest.mark.parametrize(
    ("after", "kind", "by"),
    [
        # its own precision fell from 0.8 to 0.6
        (period(1000, 300, 200, (150, 100), b=(110, 80), c=(75, 50)), "own_decline", None),
        # the newcomer d has caught most of the good ones, and few of the bad ones
        (period(1000, 400, 100, (60, 45), b=(150, 40), c=(100, 25), d=(250, 10)), "cannibalised", "d"),
        # b has grown, c has not
        (period(1000, 400, 100, (90, 48), b=(280, 45), c=(105, 27)), "cannibalised", "b"),
        # the positives' labels are not there yet
        (period(1000, 100, 80, (50, 40), b=(40, 32), c=(25, 20)), "labels_late", None),
        # somebody catches more of everything: fewer unique ones, as good as before
        (period(1000, 400, 100, (100, 25), b=(300, 75), c=(100, 25)), "none", None),
        (BEFORE, "none", None),
        # both: the larger part names it
        (period(1000, 250, 250, (110, 125), b=(100, 100), c=(63, 63), d=(30, 0)), "own_decline", None),
    ],
)
def test_reason(after, kind, by):
    """Why: own decline, taken over by whom, or late labels; the parts add up."""
    found = reason(BEFORE, after)
    assert (found.kind, found.by) == (kind, by)
    change = math.log((after.unique_positive + 0.5) / (after.unique_negative + 0.5)) - math.log(200.5 / 50.5)
    assert found.own + found.overlap == pytest.approx(change)


def test_few_requests_say_nothing_about_coverage():
    """4 of 5 labelled, then 3 of 5, is no sign of late labels; nothing at all is no reason."""
    assert reason(period(5, 3, 1, (3, 1)), period(5, 2, 1, (2, 1))).kind != "labels_late"
    nothing = period(0, 0, 0, (0, 0))
    assert reason(nothing, nothing).kind == "none"


def test_counts_of_a_period():
    """A member's own, unique and shared counts from patterns."""
    yes = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]], dtype=bool)
    positive = np.array([[1, 2], [3, 0], [5, 1], [7, 7], [9, 9]], dtype=float)
    negative = np.array([[1, 1], [0, 1], [2, 0], [4, 4], [0, 0]], dtype=float)
    h = Histogram(["a", "b", "c"], yes, np.array([10.0, 20, 30, 40, 18]), positive, negative, True, True)
    assert Period.of(h, "a", ["a", "b", "c"]) == period(60, 12, 5, (3, 2), b=(9, 3), c=(6, 2))
    assert Period.of(h, "a", ["a"]).unique_positive == 12
