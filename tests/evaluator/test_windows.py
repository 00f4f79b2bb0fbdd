"""Every figure of a window against a count over single requests, with no arithmetic on patterns."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.cells import Bucket, join
from evaluator.windows import Count, evaluate, ratio

BUCKET = 10


def make(rng: Random, members: list[str], buckets: int):
    """Requests (bucket, yes, label, anchored, answered) and the shards that hold their histogram."""
    requests = [
        (
            rng.randrange(buckets) * BUCKET,
            frozenset(m for m in members if rng.random() < 0.3),
            rng.choice([0, 0, 1, 2]),
            rng.random() < 0.95,
            rng.random() < 0.5,
        )
        for _ in range(rng.randint(0, 60))
    ]
    requests = [r for r in requests if r[1] or r[2]]
    holes = {(m, rng.randrange(buckets) * BUCKET) for m in members if rng.random() < 0.3}
    shards = []
    for shard in range(2):
        names = rng.sample(members, len(members))
        slots = {name: i for i, name in enumerate(names)}
        contents = []
        for start in range(0, buckets * BUCKET, BUCKET):
            mine = [r for i, r in enumerate(requests) if r[0] == start and i % 2 == shard]
            volume = 2 * len(mine)
            contents.append(
                Bucket(
                    start,
                    [(sum(1 << slots[m] for m in r[1]), 0, "", 1) for r in mine],
                    np.array(
                        [
                            r[2] + 4 * bool(r[2] and r[3]) + (8 if r[4] else 16 * (len(r[1]) % 2))
                            for r in mine
                        ],
                        dtype=np.int64,
                    ),
                    np.ones(len(mine), dtype=np.int64),
                    volume,
                    {m: 0 if (m, start) in holes else volume for m in members},
                    dict.fromkeys(members, 1),
                    {},
                )
            )
        shards.append((slots, contents))
    uncovered = {(m, start) for m, start in holes if any(r[0] == start for r in requests)}
    return requests, shards, uncovered


def tally(requests) -> Count:
    labels = [r[2] for r in requests]
    return Count(len(labels), labels.count(1), labels.count(2))


@given(seed=st.integers(0, 2**32))
def test_figures_equal_a_count_over_single_requests(seed):
    """Five members, two of them live, holes in coverage, two shards with slots of their own."""
    rng = Random(seed)
    members, live, buckets = ["a", "b", "c", "d", "e"], ["a", "b"], 6
    requests, shards, holes = make(rng, members, buckets)
    start, end = rng.randrange(3) * BUCKET, rng.randint(3, 8) * BUCKET
    window = evaluate(join(shards, members), live, start, end, BUCKET)
    inside = [r for r in requests if start <= r[0] < end]

    def over(*names):
        """The requests in the buckets that all of `names` cover; None where that is none of the volume."""
        kept = [r for r in inside if not any((m, r[0]) in holes for m in names)]
        return None if inside and not kept else kept

    def expected(names, select):
        kept = over(*names)
        return Count(None, None, None) if kept is None else tally([r for r in kept if select(r[1])])

    def recall(names, caught):
        kept = over(*names)
        if kept is None or any(r[2] and not r[3] for r in kept):
            return None
        positives = [r for r in kept if r[2] == 1]
        return ratio(caught.positive, len(positives))

    assert window.volume == 2 * len(inside)
    assert window.flagged == expected(live, lambda yes: yes & set(live))
    assert window.recall == recall(live, window.flagged)
    assert window.answered == tally([r for r in inside if r[4]])
    kept = over(*live)
    if kept is not None:
        missed = tally([r for r in kept if not r[1] & set(live)])
        wanted = Count(2 * len(kept) - window.flagged.n, missed.positive, missed.negative)
        assert window.unflagged == wanted
    for member in window.members:
        m = member.id
        others = set(live) - {m}
        assert member.flagged == expected([m], lambda yes, m=m: m in yes)
        assert member.unique == expected([m, *live], lambda yes, m=m, o=others: m in yes and not yes & o)
        assert member.unique_recall == recall([m, *live], member.unique)
        for o, n in member.overlap.items():
            assert n == expected([m, o], lambda yes, m=m, o=o: m in yes and o in yes).n
        covered = {t for low, high in member.covered for t in range(low, high, BUCKET)}
        assert covered == {t for t in range(start, end, BUCKET) if (m, t) not in holes}
        assert member.scored == sum(2 for r in inside if (m, r[0]) not in holes)


def test_an_empty_store_has_counts_of_zero_and_no_ratios():
    """Nothing was asked, so nothing is unknown; but no ratio is defined."""
    window = evaluate(join([({}, [])], ["a"]), ["a"], 0, 100, BUCKET)
    assert (window.volume, window.flagged, window.recall) == (0, Count(0, 0, 0), None)
    assert window.flagged.precision is None
    assert window.members[0].covered == [(0, 100)]


@pytest.mark.parametrize(
    ("part", "whole", "expected"), [(0, 0, None), (1, None, None), (1, 4, 0.25), (0, 4, 0.0)]
)
def test_an_undefined_ratio_is_none_never_zero(part, whole, expected):
    """0 / 0 says nothing; 0 / 4 does."""
    assert ratio(part, whole) == expected


def test_where_no_label_means_negative_the_silent_ones_are_once_their_time_is_over():
    """Mature buckets only, requests without any record included; what is labelled stays as it is."""
    bucket = Bucket(0, [(1, 0, "", 1)] * 3, np.array([0, 5, 6]), np.array([4, 2, 1]), 20, {"a": 20}, {}, {})
    later = Bucket(BUCKET, [(1, 0, "", 1)], np.array([0]), np.array([3]), 5, {"a": 5}, {}, {})
    cells = join([({"a": 0}, [bucket, later])], ["a"])
    plain = evaluate(cells, ["a"], 0, 2 * BUCKET, BUCKET)
    assert (plain.flagged, plain.unflagged) == (Count(10, 2, 1), Count(15, 0, 0))
    silent = evaluate(cells, ["a"], 0, 2 * BUCKET, BUCKET, silent_before=BUCKET)
    assert (silent.flagged, silent.unflagged) == (Count(10, 2, 5), Count(15, 0, 13))
    assert silent.members[0].unique == Count(10, 2, 5)
