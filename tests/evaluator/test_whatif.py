"""What-if arithmetic against brute force over single requests, at five members."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from math import factorial
from time import perf_counter

import numpy as np
import pytest

from evaluator import whatif
from evaluator.cells import Bucket, Cells, join
from evaluator.evidence.confidence import dispersion, interval

MEMBERS = ["a", "b", "c", "d", "e"]
BUCKET, BLOCK = 10, 40


def world(seed: int, requests: int = 400):
    """Requests (bucket, who said True, label 0/1/2) and the cells of their histogram; `e` missed one."""
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.05, 0.4, 5)
    out = []
    for _ in range(requests):
        yes = frozenset(np.array(MEMBERS)[rng.random(5) < rates].tolist())
        out.append((int(rng.integers(12)) * BUCKET, yes, int(rng.integers(3))))
    buckets = []
    for start in range(0, 12 * BUCKET, BUCKET):
        mine = Counter(r[1:] for r in out if r[0] == start and (r[1] or r[2]))
        volume = sum(r[0] == start for r in out)
        patterns = [(sum(1 << MEMBERS.index(m) for m in yes), 0, "", 1) for yes, _ in mine]
        states = np.array([label + 4 * bool(label) for _, label in mine])
        scored = {m: 0 if (m, start) == ("e", 50) else volume for m in MEMBERS}
        buckets.append(Bucket(start, patterns, states, np.array(list(mine.values())), volume, scored, {}, {}))
    cells = join([({m: i for i, m in enumerate(MEMBERS)}, buckets)], MEMBERS)
    return out, cells


def tally(requests) -> tuple[int, int, int]:
    labels = [r[2] for r in requests]
    return len(labels), labels.count(1), labels.count(2)


def caught(requests, members):
    return [r for r in requests if r[1] & set(members)]


@pytest.fixture(params=range(3))
def both(request):
    requests, cells = world(request.param)
    requests = [r for r in requests if 10 <= r[0] < 110 and r[0] != 50]
    return requests, whatif.histogram(cells, MEMBERS, 10, 110, BLOCK)


def test_every_suite(both):
    """All 32 suites by subset sums, and one by one, are counts over requests; ratios and intervals follow."""
    requests, h = both
    table = whatif.all_suites(h, MEMBERS)
    positives = tally(requests)[1]
    for code in range(32):
        members = [m for i, m in enumerate(MEMBERS) if code >> i & 1]
        n, s, f = tally(caught(requests, members))
        assert table[:, code].tolist() == [n, s, f]
        effect = whatif.suite(h, members)
        assert (effect.flagged.n, effect.flagged.positive, effect.flagged.negative) == (n, s, f)
        assert effect.precision == (s / (s + f) if members else None)
        assert effect.recall == s / positives
        per_block = [tally(r for r in requests if r[0] // BLOCK == b) for b in range(3)]
        mine = [tally(r for r in caught(requests, members) if r[0] // BLOCK == b) for b in range(3)]
        ss, ns = [m[1] for m in mine], [m[1] + m[2] for m in mine]
        alls = [m[1] for m in per_block]
        for shown, part, whole in [
            (effect.precision_interval, ss, ns),
            (effect.recall_interval, ss, alls),
        ]:
            phi = dispersion(part, whole)
            assert shown == pytest.approx([float(x) for x in interval(sum(part), sum(whole), phi=phi)])


def test_a_change_of_several_members_at_once(both):
    """Adds and drops apply together; adding a live member and dropping an absent one change nothing."""
    requests, h = both
    now, then = whatif.change(h, ["a", "b", "c"], add=["e", "d", "a"], drop=["b", "c", "zzz"])
    assert (now.members, then.members) == (["a", "b", "c"], ["a", "e", "d"])
    assert then.flagged.n == tally(caught(requests, ["a", "d", "e"]))[0]
    with pytest.raises(KeyError):
        whatif.change(h, ["a"], add=["zzz"])


def test_shapley_is_the_average_marginal_catch(both):
    """Over all orders in which a suite could have been built; the shares sum to the recall."""
    requests, h = both
    positives = [r for r in requests if r[2] == 1]
    expected = dict.fromkeys(MEMBERS, 0.0)
    for way in permutations(MEMBERS):
        for i, m in enumerate(way):
            gain = len(caught(positives, way[: i + 1])) - len(caught(positives, way[:i]))
            expected[m] += gain / factorial(5) / len(positives)
    assert whatif.shapley(h, MEMBERS) == pytest.approx(expected)
    assert sum(expected.values()) == pytest.approx(whatif.suite(h, MEMBERS).recall)


def brute_order(requests, candidates, live, floor):
    steps, live = [], list(live)
    left = [m for m in candidates if m not in live]
    while left:
        _, s, f = tally(caught(requests, live))
        overall = s / (s + f) if s + f else floor
        rows = []
        for i, m in enumerate(left):
            _, us, uf = tally(r for r in requests if m in r[1] and not r[1] & set(live))
            rows.append((us / (us + uf) if us + uf else -1, us, -i, m))
        best = max(rows)
        if best[0] < overall:
            break
        live.append(best[3])
        left.remove(best[3])
        steps.append((best[3], best[0], tally(caught(requests, live))[1] / tally(requests)[1]))
    return steps


@pytest.mark.parametrize("live", [[], ["c"], ["b", "e"]])
@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_the_order_is_greedy(both, live, floor):
    """Each step is the candidate of the highest unique precision, evaluated again after each promotion."""
    requests, h = both
    steps = whatif.order(h, MEMBERS, live, floor)
    got = [(s.member, s.unique.precision, s.recall) for s in steps]
    expected = brute_order(requests, MEMBERS, live, floor)
    assert [g[0] for g in got] == [e[0] for e in expected]
    assert [g[1:] for g in got] == [pytest.approx(e[1:]) for e in expected]
    if steps:
        whole = whatif.suite(h, live + [s.member for s in steps])
        assert (steps[-1].precision, steps[-1].recall) == (whole.precision, whole.recall)


def test_redundant_with_whom(both):
    """What is a member's own, and who has most of the rest."""
    requests, h = both
    for member in MEMBERS:
        for k in range(5):
            for others in combinations([m for m in MEMBERS if m != member], k):
                mine = [r for r in requests if member in r[1]]
                found = whatif.redundancy(h, member, [member, *others])
                assert found.flagged == len(mine)
                assert found.own == len([r for r in mine if not r[1] & set(others)])
                shared = {o: sum(o in r[1] for r in mine) for o in others}
                assert found.shared == max(shared.values(), default=0)
                assert found.twin in [o for o in others if shared[o] == found.shared] or (
                    not found.shared and found.twin is None
                )


def test_nothing_covered_is_unknown_and_unanchored_labels_hide_recall():
    """No ratio is made up: not covered → None; a label without `requested_at` → no recall."""
    _, cells = world(1)
    gone = whatif.histogram(cells, MEMBERS, 50, 60, BLOCK)
    assert not gone.known
    assert whatif.suite(gone, ["a"]).flagged.n is whatif.suite(gone, ["a"]).recall is None
    assert whatif.shapley(gone, MEMBERS) is None
    assert whatif.order(gone, MEMBERS) == []
    assert whatif.histogram(cells, ["a"], 50, 60, BLOCK).known
    cells.state[cells.state > 4] -= 4
    bare = whatif.histogram(cells, MEMBERS, 0, 50, BLOCK)
    assert whatif.suite(bare, ["a"]).precision is not None
    assert whatif.suite(bare, ["a"]).recall is whatif.shapley(bare, ["a"]) is None
    with pytest.raises(ValueError, match="too many"):
        whatif.all_suites(bare, ["a"] * 21)


@pytest.mark.slow
def test_64_members_10_000_patterns_whatever_the_requests():
    """Each call within 50 ms, with a thousand times more requests as well."""
    rng = np.random.default_rng(5)
    patterns, buckets, members = 10_000, 7 * 24, [f"m{i}" for i in range(64)]
    c = 20 * patterns
    volume = np.full(buckets, 10**9)
    cells = Cells(
        members, rng.integers(buckets, size=c), rng.integers(patterns, size=c),
        rng.choice([0, 5, 6], c), rng.integers(1, 100, c), rng.random((patterns, 64)) < 0.1,
        np.zeros((patterns, 64), dtype=bool), [""] * patterns, np.ones(patterns, dtype=np.int64),
        np.arange(buckets) * 3_600_000, volume, np.tile(volume[:, None], 64),
        np.zeros((buckets, 64), dtype=int), np.zeros((buckets, 64), dtype=int),
    )  # fmt: skip
    h = whatif.histogram(cells, members, 0, buckets * 3_600_000, 86_400_000)
    calls = {
        "histogram": lambda: whatif.histogram(cells, members, 0, buckets * 3_600_000, 86_400_000),
        "change": lambda: whatif.change(h, members[:40], members[40:50], members[:5]),
        "order": lambda: whatif.order(h, members[32:], members[:32]),
        "order from nothing": lambda: whatif.order(h, members),
        "shapley": lambda: whatif.shapley(h, members),
        "all suites of 16": lambda: whatif.all_suites(h, members[:16]),
        "redundancy": lambda: whatif.redundancy(h, "m0", members),
    }
    for many in (1, 1000):
        cells.count[:] = cells.count * many
        for name, call in calls.items():
            took = []
            for _ in range(5):
                began = perf_counter()
                call()
                took.append(perf_counter() - began)
            print(f"{name}: {min(took) * 1000:.1f} ms")
            assert min(took) < 0.05, name
