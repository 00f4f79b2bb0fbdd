"""Selective labels: the bias of plain counts, and what post-stratified classes make of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluator.cells import Cells
from evaluator.evidence.bets import Blocks, promote
from evaluator.evidence.classes import Strata, blocks, classes, estimate, hold_out, strata

LIVE, M = 3, 5  # three live members, another shadow that reviewers look at, and a candidate
YES = np.array([[g >> m & 1 for m in range(M)] for g in range(1 << M)], dtype=bool)
OR = YES[:, :LIVE].any(axis=1)
OTHER, CANDIDATE = YES[:, 3], YES[:, 4]
UNIQUE = CANDIDATE & ~OR
EVERYTHING = np.ones(len(YES), dtype=bool)
FEATURES = OR[:, None]

#: Probability that a request's outcome is positive, and how often it gets a label, by pattern.
PRECISION = np.where(OR, np.where(YES[:, 0], 0.6, 0.8), np.where(OTHER, 0.9, np.where(CANDIDATE, 0.4, 0.10)))
LABELLED = np.where(YES[:, 0], 0.6, np.where(OR, 0.15, np.where(OTHER, 0.4, np.where(CANDIDATE, 0.05, 0.02))))
TRAFFIC = np.prod(np.where(YES, 0.12, 0.88), axis=1)


def world(rng, requests=60_000, days=1):
    """Strata of one stream, and its true positives per stratum."""
    n = rng.multinomial(requests // days, TRAFFIC, size=days).T
    positive = rng.binomial(n, PRECISION[:, None])
    s = rng.binomial(positive, LABELLED[:, None])
    f = rng.binomial(n - positive, LABELLED[:, None])
    n, s, f = (a.astype(float) for a in (n, s, f))
    return Strata(YES, n, s, f, np.zeros(len(YES), dtype=np.int64)), positive.sum(axis=1)


def plain(g, part, whole=None):
    s, f = g.s.sum(1), g.f.sum(1)
    return s[part].sum() / (s[whole].sum() if whole is not None else (s + f)[part].sum())


def test_classes_are_the_label_rates():
    """Patterns are together exactly where labels come at one rate; revisions are never mixed."""
    rng = np.random.default_rng(10)
    g, _ = world(rng, 400_000)
    found = classes(g, FEATURES)
    for a in range(32):
        for b in range(32):
            if g.n[a, 0] > 300 and g.n[b, 0] > 300:
                assert (found[a] == found[b]) == (LABELLED[a] == LABELLED[b])
    two = Strata(np.vstack([YES, YES]), *(np.vstack([a, a]) for a in (g.n, g.s, g.f)), np.repeat([1, 2], 32))
    both = classes(two, np.vstack([FEATURES, FEATURES]))
    assert not set(both[:32]) & set(both[32:])
    empty = Strata(YES[:0], *(np.zeros((0, 1)) for _ in range(3)), np.zeros(0, dtype=np.int64))
    assert classes(empty).shape == (0,)


@pytest.mark.slow
def test_bias_before_and_after():
    """Plain ratios are far off, post-stratified ones are not, and 95 % intervals cover."""
    rng = np.random.default_rng(11)
    runs = 200
    cases = {
        "precision": (OR, None),
        "unique": (UNIQUE, None),
        "recall": (OR, EVERYTHING),
    }
    errors = {name: [] for name in cases}
    inside = dict.fromkeys(cases, 0)
    for _ in range(runs):
        g, positive = world(rng)
        member = classes(g, FEATURES)
        for name, (part, whole) in cases.items():
            below = g.n.sum(1)[part].sum() if whole is None else positive[whole].sum()
            truth = positive[part].sum() / below
            found = estimate(g, member, part, whole, draws=400)
            errors[name].append((plain(g, part, whole) - truth, found.value - truth))
            inside[name] += found.low <= truth <= found.high
            assert not found.insufficient()
    for name, pairs in errors.items():
        before, after = np.mean(pairs, axis=0)
        print(f"{name}: bias {before:+.3f} before, {after:+.3f} after; covered {inside[name] / runs:.3f}")
        assert abs(before) > 0.04
        assert abs(after) < 0.005
        assert inside[name] / runs >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / runs)


def test_thin_strata_would_cover_nothing():
    """Jeffreys' prior in each of a thousand patterns with a label or two misses; per class it does not."""
    rng = np.random.default_rng(12)
    bits = (np.arange(1024)[:, None] >> np.arange(10) & 1).astype(bool)
    covered = np.zeros(2)
    for _ in range(20):
        n = rng.poisson(40, (1024, 1)).astype(float)
        positive = rng.binomial(n.astype(int), 0.9)
        s, f = rng.binomial(positive, 0.03), rng.binomial(n.astype(int) - positive, 0.03)
        g = Strata(bits, n, s.astype(float), f.astype(float), np.zeros(1024, dtype=np.int64))
        every, truth = np.ones(1024, dtype=bool), positive.sum() / n.sum()
        for i, member in enumerate([classes(g), np.arange(1024)]):
            found = estimate(g, member, every, draws=200)
            covered[i] += found.low <= truth <= found.high
    assert covered[0] >= 17
    assert covered[1] == 0


def test_a_class_without_labels_is_undefined():
    """Its share of the requests widens the interval to what it could be; alone it is [0, 1]."""
    n = np.array([[800.0], [200.0], [10_000.0]])
    s, f = np.array([[320.0], [0], [0]]), np.array([[80.0], [0], [0]])
    g = Strata(np.array([[1, 0], [1, 1], [0, 1]], dtype=bool), n, s, f, np.zeros(3, dtype=np.int64))
    member = np.array([0, 1, 2])
    rows = np.eye(3, dtype=bool)
    alone = estimate(g, member, rows[1])
    assert (alone.value, alone.low, alone.high, alone.missing) == (None, 0, 1, 1)
    assert alone.insufficient()
    mixed = estimate(g, member, rows[0] | rows[1])
    assert mixed.value == pytest.approx(0.8)
    assert mixed.missing == 0.2
    assert mixed.low < 0.64
    assert mixed.high > 0.84
    assert mixed.insufficient()
    assert mixed.coverage == 0.4
    recall = estimate(g, member, rows[0], rows.any(axis=0))
    assert recall.low < 0.07
    assert recall.high == 1
    assert estimate(g, member, rows[0]).insufficient() is False
    nothing = estimate(g, member, np.zeros(3, dtype=bool))
    assert (nothing.value, nothing.low, nothing.high, nothing.coverage) == (None, 0, 1, None)


def test_blocks_are_weighted_and_filled_with_the_worst_case():
    """By hand: two classes on the candidate's side, one of them without labels on the second day."""
    n = np.array([[30.0, 30, 30], [10, 10, 10], [50, 50, 50]])
    s = np.array([[2.0, 3, 0], [4, 0, 0], [9, 9, 5]])
    f = np.array([[2.0, 1, 0], [1, 0, 0], [1, 1, 5]])
    g = Strata(np.eye(3, dtype=bool), n, s, f, np.zeros(3, dtype=np.int64))
    c, o = np.array([True, True, False]), np.array([False, False, True])
    found = blocks(g, np.array([0, 1, 2]), c, o)
    assert found.c[:2] == pytest.approx([(30 * 0.5 + 10 * 0.8) / 40, (30 * 0.75 + 0) / 40])
    assert np.isnan(found.c[2])
    assert found.o == pytest.approx([0.9, 0.9, 0.5])
    assert found.s_c == pytest.approx([23, 22.5, 0])
    assert found.n_c == pytest.approx([40, 30, 0])
    flagged = blocks(g, np.array([0, 1, 2]), c, o, claim="flag")
    assert flagged.c[1] == pytest.approx((30 * 0.75 + 10) / 40)
    swapped = blocks(g, np.array([0, 1, 2]), o, c)
    assert swapped.o[1] == pytest.approx((30 * 0.75 + 10) / 40)
    several = blocks(g, np.array([0, 1, 2]), np.stack([c, o]), np.stack([o, c]))
    assert several.c[0] == pytest.approx(found.c, nan_ok=True)
    assert several.o[1] == pytest.approx(swapped.o, nan_ok=True)
    one = blocks(g, np.zeros(3, dtype=np.int64), c, o)
    same = Blocks.from_counts(s[:2].sum(0), (s + f)[:2].sum(0), s[2], (s + f)[2])
    assert one.c == pytest.approx(same.c, nan_ok=True)
    assert one.o == pytest.approx(same.o, nan_ok=True)


@pytest.mark.slow
def test_pooled_labels_promote_a_worse_candidate_and_classes_do_not():
    """A unique set of two patterns, the better one labelled twenty times as often, 0.05 below the suite."""
    rng = np.random.default_rng(13)
    runs, days = 100, 150
    yes = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=bool)
    precision = np.array([0.8, 0.7, 0.95])  # the unique set: 0.8 · 0.7 + 0.2 · 0.95 = 0.75
    rate = np.array([0.3, 0.03, 0.6])
    wrong = np.zeros(2)
    for _ in range(runs):
        n = rng.multinomial(1000, [0.5, 0.4, 0.1], size=days).T
        positive = rng.binomial(n, precision[:, None])
        s, f = rng.binomial(positive, rate[:, None]), rng.binomial(n - positive, rate[:, None])
        g = Strata(yes, *(a.astype(float) for a in (n, s, f)), np.zeros(3, dtype=np.int64))
        c, o = ~yes[:, 0], yes[:, 0]
        pooled = [x[side].sum(axis=0) for side in (c, o) for x in (s, s + f)]
        for i, found in enumerate([blocks(g, classes(g, yes[:, :1]), c, o), Blocks.from_counts(*pooled)]):
            wrong[i] += promote(found).crossing(0.05) >= 0
    print(f"wrong promotions: classes {wrong[0] / runs:.2f}, pooled {wrong[1] / runs:.2f}")
    assert wrong[0] / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    assert wrong[1] / runs > 0.95


def test_a_hold_out_shows_what_acting_destroys():
    """Acting loses nine positives' labels of ten; the one per cent held out gives the precision back."""
    rng = np.random.default_rng(14)
    n = np.array([[200_000], [100_000], [500_000]])
    p, on = np.array([[0.8], [0.6], [0.01]]), np.array([True, True, False])
    held = np.where(on[:, None], rng.binomial(n, 0.01), 0)
    parts = []
    for requests, keep in ((n - held, np.where(on[:, None], 0.1, 1.0)), (held, np.ones((3, 1)))):
        positive = rng.binomial(requests, p)
        s, f = rng.binomial(positive, 0.5 * keep), rng.binomial(requests - positive, 0.5)
        arrays = (a.astype(float) for a in (requests, s, f))
        parts.append(Strata(np.array([[1, 0], [1, 1], [0, 0]], dtype=bool), *arrays, np.ones(3, dtype=int)))
    truth = (200_000 * 0.8 + 100_000 * 0.6) / 300_000
    biased = estimate(parts[0], classes(parts[0]), on)
    assert biased.high < truth - 0.2
    g = hold_out(*parts, on)
    assert g.n.sum() == n.sum()
    member = classes(g, on[:, None])
    assert member[0] == member[1] != member[2]
    fair = estimate(g, member, on)
    assert fair.low < truth < fair.high
    assert fair.value == pytest.approx(truth, abs=0.03)
    assert fair.coverage < 0.01


def test_strata_are_the_requests():
    """From cells: per true pattern, revision and block; nobody's requests follow from the volume."""
    rng = np.random.default_rng(15)
    c, patterns = 400, 12
    yes = rng.random((patterns, 3)) < 0.4
    bucket, pattern = rng.integers(6, size=c), rng.integers(patterns, size=c)
    state, count = rng.choice([0, 5, 6], c), rng.integers(1, 9, c)
    revision = rng.integers(1, 3, patterns)
    volume = np.bincount(bucket, count, 6).astype(np.int64) + 17
    scored = np.tile(volume[:, None], 3)
    scored[4, 2] = 0
    zeros = np.zeros((6, 3), dtype=np.int64)
    cells = Cells(["a", "b", "c"], bucket, pattern, state, count, yes, zeros[:0], [""] * patterns, revision,
                  np.arange(6) * 10, volume, scored, zeros, zeros)  # fmt: skip
    for ids, columns, lost in ((["a", "c"], [0, 2], [4]), (["b"], [1], [])):
        g, days = strata(cells, ids, 10, 60, 20)
        assert days.tolist() == [0, 1, 2]
        covered = [b for b in range(1, 6) if b not in lost]
        assert g.n.sum() == volume[covered].sum()
        for i in range(len(g.fixed)):
            for d in range(3):
                rows = [
                    k
                    for k in range(c)
                    if bucket[k] in covered and bucket[k] // 2 == d
                    if (yes[pattern[k]][columns] == g.yes[i]).all()
                    if revision[pattern[k]] == g.fixed[i] or not g.yes[i].any()
                ]
                more = 17 * sum(b // 2 == d for b in covered) if g.fixed[i] == -1 else 0
                assert g.n[i, d] == sum(count[rows]) + more
                assert g.s[i, d] == sum(count[k] for k in rows if state[k] == 5)
                assert g.f[i, d] == sum(count[k] for k in rows if state[k] == 6)
        assert len(np.unique(np.column_stack([g.yes, g.fixed]), axis=0)) == len(g.fixed)
