"""How often promotion is false and how many labels a true one takes, measured on simulated streams.

Each stream has 300 daily blocks and is looked at after each; the suite has ten times the candidate's labels.
The tables are printed with `pytest -rP`. Seeds are fixed; tolerances are three standard errors.
"""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from evaluator.evidence import labelwise
from evaluator.evidence.bets import Blocks, Evidence, flag, promote

pytestmark = pytest.mark.slow

ALPHA = 0.05
STREAMS, DAYS = 1500, 300
LABELWISE_STREAMS = 150  # the label-level rule is slow and its failures are large
SUITE = 10  # labels of the suite per label of the candidate
SHAPE = (STREAMS, DAYS)


def at_most(p, streams=STREAMS):
    """The largest share that is no surprise if the true one is p."""
    return p + 3 * math.sqrt(p * (1 - p) / streams)


def labels(rng, p, rate, *, cluster=1, shape=SHAPE):
    """Positives and labels per block, labels in clusters of one outcome each."""
    clusters = rng.poisson(rate / cluster, shape)
    return cluster * rng.binomial(clusters, p), cluster * clusters


def day_effect(rng, p, correlation):
    """A precision per day with mean p and the intra-class correlation of its labels (beta-binomial)."""
    size = 1 / correlation - 1
    return rng.beta(p * size, (1 - p) * size, SHAPE)


def false_promotions(name, counts):
    """Shares of streams promoted by the blocks' and by the label-level rule."""
    blocks = (promote(Blocks.from_counts(*counts)).crossing(ALPHA) >= 0).mean()
    log_e = labelwise.promote(*(a[:LABELWISE_STREAMS] for a in counts))
    labelled = (log_e >= math.log(1 / ALPHA)).any(-1).mean()
    print(f"{name:<40} blocks {blocks:.3f}  labels {labelled:.2f}")
    return blocks, labelled


@pytest.mark.parametrize("rate", [2, 10, 50])
@pytest.mark.parametrize(
    ("cluster", "low", "high"), [(1, 0, 0.05), (2, 0.1, 0.3), (5, 0.29, 0.7), (10, 0.34, 0.9)]
)
def test_false_promotions_with_clusters(cluster, low, high, rate):
    """At the boundary (0.75 against 0.8) blocks promote at most 5 %, labels only if independent."""
    rng = np.random.default_rng(100 * cluster + rate)
    candidate = labels(rng, 0.75, rate, cluster=cluster)
    suite = labels(rng, 0.8, SUITE * rate, cluster=cluster)
    blocks, labelled = false_promotions(f"clusters of {cluster}, {rate} a day", (*candidate, *suite))
    assert blocks <= at_most(0.05)
    if cluster == 1:
        assert labelled <= at_most(high, LABELWISE_STREAMS)
    else:
        assert low - 0.06 < labelled < high


@pytest.mark.parametrize(("rate", "low"), [(2, 0.02), (10, 0.15), (50, 0.5)])
def test_false_promotions_with_day_effects(rate, low):
    """Days that differ (intra-class correlation 0.1) mislead the label-level rule."""
    rng = np.random.default_rng(rate)
    candidate = labels(rng, day_effect(rng, 0.75, 0.1), rate)
    suite = labels(rng, day_effect(rng, 0.8, 0.1), SUITE * rate)
    blocks, labelled = false_promotions(f"day effects, {rate} a day", (*candidate, *suite))
    assert blocks <= at_most(0.05)
    assert labelled > low


@pytest.mark.parametrize(("rate", "low"), [(2, 0), (10, 0.1), (50, 0.4)])
def test_false_promotions_with_rare_bad_days(rate, low):
    """One day in twenty without a single true catch."""
    rng = np.random.default_rng(rate)
    candidate = labels(rng, np.where(rng.random(SHAPE) < 0.05, 0, 0.75 / 0.95), rate)
    counts = (*candidate, *labels(rng, 0.8, SUITE * rate))
    blocks, labelled = false_promotions(f"rare days of precision 0, {rate} a day", counts)
    assert blocks <= at_most(0.05)
    assert labelled >= low


def test_false_promotions_by_day_and_night():
    """Better by 0.10 by day, worse by 0.30 by night: hourly buckets of labels promote in the first days."""
    rng = np.random.default_rng(4)
    p = np.where(np.arange(24) < 12, 0.9, 0.5)
    shape = (100, 60, 24)
    hourly = (*labels(rng, p, 200 / 24, shape=shape), *labels(rng, 0.8, 4 * 200 / 24, shape=shape))
    log_e = labelwise.promote(*(a.reshape(100, -1) for a in hourly))
    labelled = (log_e >= math.log(1 / ALPHA)).any(-1).mean()
    blocks = (promote(Blocks.from_counts(*(a.sum(-1) for a in hourly))).crossing(ALPHA) >= 0).mean()
    print(f"day and night: blocks {blocks:.3f}  labels {labelled:.2f}")
    assert blocks == 0
    assert labelled > 0.8


@pytest.mark.parametrize("sign", [1, -1])
def test_false_promotions_with_precision_tied_to_volume(sign):
    """Busy days better, or quiet days better: at most 5 %, since no stake knows its day's volume."""
    rng = np.random.default_rng(6)
    busy = rng.random(SHAPE) < 0.5
    candidate = labels(rng, np.where(busy, 0.75 + sign * 0.2, 0.75 - sign * 0.2), np.where(busy, 40, 4))
    evidence = promote(Blocks.from_counts(*candidate, *labels(rng, 0.8, 200)))
    assert (evidence.crossing(ALPHA, veto=False) >= 0).mean() <= at_most(0.05)


@pytest.mark.parametrize(("p_o", "delta"), [(0.8, 0.05), (0.5, 0.05), (0.1, 0.02), (0.04, 0.008)])
def test_false_flags_and_promotions_at_any_precision(p_o, delta):
    """At the boundary p_o − δ neither rule is believed in more than 5 %, also where δ is relative."""
    rng = np.random.default_rng(9)
    blocks = Blocks.from_counts(*labels(rng, p_o - delta, 10), *labels(rng, p_o, SUITE * 10))
    for rule in (promote, flag):
        share = (rule(blocks).crossing(ALPHA, veto=False) >= 0).mean()
        print(f"{rule.__name__} at the boundary of {p_o}: {share:.3f}")
        assert share <= at_most(0.05)


def test_naive_rules():
    """What people do instead: a candidate just as good as the suite, looked at after each label."""
    rng = np.random.default_rng(2)
    streams, n = 1000, np.arange(1, 5001)
    p_c = rng.binomial(1, 0.8, (streams, 5000)).cumsum(1) / n
    p_o = rng.binomial(SUITE, 0.8, (streams, 5000)).cumsum(1) / (SUITE * n)
    z = 1.645
    wilson = (p_c + z**2 / (2 * n) - z * np.sqrt(p_c * (1 - p_c) / n + z**2 / (4 * n**2))) / (1 + z**2 / n)
    pooled = (p_c + SUITE * p_o) / (1 + SUITE)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / n + 1 / (SUITE * n)))
    score = (p_c - p_o) / spread
    counts = np.round([100 * p_c[0, 99], 100 * SUITE * p_o[0, 99]])
    assert_allclose(
        wilson[0, 99], proportion_confint(counts[0], 100, alpha=0.1, method="wilson")[0], atol=1e-4
    )
    assert_allclose(score[0, 99], proportions_ztest(counts, [100, 100 * SUITE])[0])
    shares = {
        "estimate ≥ overall, 100 labels": ((p_c >= p_o) & (n >= 100)).any(1).mean(),
        "Wilson 95 % bound ≥ overall": (wilson >= 0.8).any(1).mean(),
        "two-sample z ≥ 1.645": (score >= z).any(1).mean(),
    }
    print(shares)
    for share, published in zip(shares.values(), (0.96, 0.45, 0.47), strict=True):
        assert abs(share - published) < 0.06


def median_labels(evidence: Evidence, blocks: Blocks) -> float:
    """Median over streams of the candidate's labels at the block in which it was believed; inf if never."""
    at = evidence.crossing(ALPHA)
    used = np.take_along_axis(blocks.n_c.cumsum(-1), np.maximum(at, 0)[:, None], 1)[:, 0]
    return float(np.median(np.where(at >= 0, used, np.inf)))


POWER = [
    (promote, 0.8, 0.0, (589, 729, 3200)),
    (promote, 0.8, 0.05, (125, 346, 1644)),
    (promote, 0.8, 0.10, (64, 230, 1136)),
    (promote, 0.5, 0.0, (868, 830, 3299)),
    (promote, 0.5, 0.10, (92, 246, 1159)),
    (promote, 0.1, 0.05, (195, 477, 2102)),
    (flag, 0.8, -0.20, (111, 317, 1493)),
    (flag, 0.5, -0.10, (1075, 1049, 4404)),
]


@pytest.mark.parametrize(("rule", "p_o", "gap", "published"), POWER)
def test_power(rule, p_o, gap, published):
    """Median labels until it is believed, at 2, 10 and 50 labels a day, are those that were published."""
    rng = np.random.default_rng(12)
    for rate, expected in zip((2, 10, 50), published, strict=True):
        shape = (400, int(2.5 * expected / rate))
        counts = labels(rng, p_o + gap, rate, shape=shape), labels(rng, p_o, SUITE * rate, shape=shape)
        blocks = Blocks.from_counts(*counts[0], *counts[1])
        median = median_labels(rule(blocks), blocks)
        print(f"{rule.__name__} {p_o}, {gap:+}: {rate} a day {median:.0f} (published {expected})")
        assert abs(median / expected - 1) < (0.25 if rate == 2 else 0.12)


@pytest.mark.parametrize(("gap", "days"), [(0.05, 59), (0.10, 30), (0.15, 21)])
def test_the_calendar_decides_at_high_volume(gap, days):
    """Without any noise a gap over the margin takes about this many days, however many labels there are."""
    n = np.full(100, 1e6)
    evidence = promote(Blocks.from_counts((0.75 + gap) * n, n, 0.8 * n, n))
    assert abs(evidence.crossing(ALPHA) + 1 - days) <= 3


@pytest.mark.parametrize(
    ("rule", "p_o", "gap", "published"),
    [
        (labelwise.promote, 0.8, 0.10, 58),
        (labelwise.promote, 0.5, 0.10, 97),
        (labelwise.promote, 0.1, 0.05, 206),
        (labelwise.flag, 0.8, -0.20, 79),
    ],
)
def test_power_of_the_label_level_rule(rule, p_o, gap, published):
    """At 10 independent labels a day it takes a half to a quarter of the labels that blocks take."""
    rng = np.random.default_rng(13)
    shape = (300, published // 3)
    s_c, n_c = labels(rng, p_o + gap, 10, shape=shape)
    there = rule(
        s_c, n_c, *labels(rng, p_o, 10 * SUITE, shape=shape), delta=min(0.05, 0.2 * p_o)
    ) >= math.log(20)
    used = np.take_along_axis(n_c.cumsum(-1), there.argmax(-1)[:, None], 1)[:, 0]
    median = np.median(np.where(there.any(-1), used, np.inf))
    print(f"{rule.__name__} by labels {p_o}, {gap:+}: {median:.0f} (published {published})")
    assert abs(median / published - 1) < 0.2
