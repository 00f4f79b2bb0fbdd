"""What is too much while a member bakes, from made-up counts: breaches, and how seldom noise is one."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.cells import ANSWERED, Bucket, join
from evaluator.promotion.guardrails import Baked, answered_without, answering_since, baked, breach
from streams.suite import DAY, Policy

HOUR = 3_600_000
BUCKET = HOUR // 4
START = 20 * DAY
POLICY = Policy()
SLOTS = {"a@1": 0, "c@1": 1, "old@1": 2}


def bucket(start, sets, *, volume=400, revision=1, failed=0, answers=("a@1",)):
    """sets: who flags → (unlabelled, positive, negative) requests."""
    patterns, states, counts = [], [], []
    for who, numbers in sets.items():
        mask = sum(1 << SLOTS[name] for name in who)
        acted = ANSWERED * any(name in answers for name in who)
        for label, n in enumerate(numbers):
            if n:
                patterns.append((mask, 0, "", revision))
                states.append(label + acted)
                counts.append(n)
    return Bucket(
        start, patterns, np.array(states, dtype=np.int64), np.array(counts, dtype=np.int64), volume,
        dict.fromkeys(SLOTS, volume), {}, {"c@1": failed},
    )  # fmt: skip


def story(flags, *, days=7, bake=8, volume=400, failed=0, own=(0, 0), rest=(0, 0), late=0):
    """Cells: `flags(start)` of `volume` requests are flagged in shadow and then live; labels while it bakes.

    late: requests with timestamps of days ago that are answered while it bakes.
    """
    both = ("a@1", "c@1")
    out = []
    for start in range(START - days * DAY, START, BUCKET):
        sets = {("c@1",): (flags(start), 0, 0)}
        out.append(bucket(start, sets, volume=volume))
    if late:
        out[10] = bucket(out[10].start, {("c@1",): (late, 0, 0)}, volume=volume, revision=2, answers=both)
    for i in range(bake + 1):
        start = START + i * BUCKET
        n = flags(start)
        if i == 1:
            sets = {("c@1",): (max(0, n - sum(own)), *own), ("a@1",): (0, *rest)}
        else:
            sets = {("c@1",): (n, 0, 0), ("a@1",): (5, 0, 0)}
        more = {"failed": failed, "answers": both, "revision": 2}
        out.append(bucket(start, sets, volume=volume, **more))
    return join([(SLOTS, out)], list(SLOTS))


def judged(cells, replaced=None, policy=POLICY):
    since = answering_since(cells, 2, START)
    assert since == START
    live = ["a@1", "c@1"]
    return breach(baked(cells, "c@1", live, since, cycle=DAY, replaced=replaced), policy)


def steady(start):
    return 12


def test_a_member_that_does_as_before_breaches_nothing():
    """And what was counted is what was there."""
    cells = story(steady, own=(9, 3), rest=(30, 20))
    found = baked(cells, "c@1", ["a@1", "c@1"], START, cycle=DAY)
    assert found is not None
    assert (found.scored, found.failed, found.flagged) == (8 * 400, 0, 8 * 12)
    assert set(found.before) == {(8 * 12, 8 * 400)}
    assert len(found.before) == 7
    assert (found.own, found.rest) == ((9, 12), (30, 50))
    assert breach(found, POLICY) is None


def test_errors_are_told_with_their_numbers():
    """More than max_error_rate, surely."""
    told = judged(story(steady, failed=60))
    assert told == "it failed on 15.0% of 3200 requests, where policy.max_error_rate is 5.0%"
    assert judged(story(steady, failed=20)) is None
    assert judged(story(steady, failed=2), policy=Policy(max_error_rate=0.0)) is None
    assert judged(story(steady, failed=4), policy=Policy(max_error_rate=0.0)) is not None


@pytest.mark.parametrize(("live", "rate"), [(150, "37.50%"), (0, "0.00%")])
def test_a_vote_rate_that_is_another_is_told_with_what_it_was(live, rate):
    """Many times more, or hardly any."""
    told = judged(story(lambda start: 24 if start < START else live))
    assert told == (
        f"it flags {rate} of 3200 requests, where it was 6.00% in shadow at the same hours "
        "(policy.max_rate_change is 4)"
    )


def test_a_member_of_certain_hours_is_compared_with_the_same_hours():
    """One that flags in these two hours only does not flag more than before; silent then, it does less."""

    def evening(start):
        return 60 if start % DAY < 3 * HOUR else 0

    assert judged(story(evening)) is None
    assert judged(story(lambda start: 0 if start >= START else evening(start))) is not None
    morning = story(lambda start: 60 if start % DAY > 3 * HOUR else 0)
    assert judged(morning) is None


def test_with_less_than_a_cycle_before_all_of_it_counts_and_with_nothing_nothing():
    """A member promoted by hand soon after it was added."""
    for days, alarm in ((0.5, True), (0.0, False)):
        cells = _cut(START - int(days * DAY))
        found = baked(cells, "c@1", ["a@1", "c@1"], START, cycle=DAY)
        assert found is not None
        assert bool(found.before) == alarm
        assert (breach(found, POLICY) is not None) == alarm


def _cut(first):
    both = ("a@1", "c@1")
    out = [
        bucket(s, {("c@1",): (6 if s < START else 100, 0, 0)}, revision=1 + (s >= START), answers=both)
        for s in range(first, START + 9 * BUCKET, BUCKET)
    ]
    return join([(SLOTS, out)], list(SLOTS))


def test_precision_is_told_with_both_sides():
    """Surely fewer positives among what it alone flagged than among what the others did."""
    told = judged(story(lambda s: 200 if s > START else 60, own=(20, 150), rest=(90, 30)))
    assert told is not None
    assert told.startswith("of 170 labelled requests that it alone flagged 11.8% were positive (at most ")
    assert "where the others had 75.0% of 120 (at least " in told


def test_labels_that_are_still_coming_tell_against_nobody():
    """Negatives first, on both sides; labels of the others only; few of its own: no breach."""
    busy = lambda s: 200  # noqa: E731
    for own, rest in (((0, 150), (0, 150)), ((0, 0), (400, 10)), ((0, 29), (400, 10)), ((0, 150), (20, 9))):
        assert judged(story(busy, own=own, rest=rest)) is None, (own, rest)


def test_a_replacement_is_compared_with_what_it_replaces():
    """It may be the better version of the member with the lowest precision, far below the others'."""
    both = ("c@1", "a@1")

    def cells(own, old):
        out = [bucket(s, {("c@1",): (12, 0, 0)}) for s in range(START - 7 * DAY, START, BUCKET)]
        for i in range(5):
            sets = {("c@1",): own, ("a@1",): (0, 90, 10), ("old@1",): old, ("c@1", "old@1"): (0, 10, 20)}
            out.append(bucket(START + i * BUCKET, sets, revision=2, answers=both))
        return join([(SLOTS, out)], list(SLOTS))

    better = cells((0, 8, 12), (0, 4, 12))
    assert judged(better) is not None
    assert judged(better, replaced="old@1") is None
    told = judged(cells((0, 0, 40), (0, 30, 10)), replaced="old@1")
    assert told is not None
    assert "where old@1, which it replaces, had 57.1% of 280" in told


def test_late_requests_do_not_move_the_beginning():
    """An answered request with a timestamp of days ago does not make those days its own."""
    cells = story(steady, failed=60, late=7)
    assert answering_since(cells, 2, 0) == int(cells.starts[10])
    assert judged(cells) is not None


def test_what_was_answered_without_it_is_no_time_of_baking():
    """Buckets that only an earlier revision answered; one that several hosts answered counts."""
    both = ("a@1", "c@1")
    out = []
    for i, revisions in enumerate([(2,), (1,), (2, 1), (1,), (1,), (2,), ()]):
        for revision in revisions or (2,):
            sets = {("a@1",): (5, 0, 0)} if revisions else {}
            answers = both if revision == 2 else ("a@1",)
            out.append(bucket(START + i * BUCKET, sets, revision=revision, answers=answers))
    cells = join([(SLOTS, out[:3]), (SLOTS, out[3:])], list(SLOTS))
    assert answering_since(cells, 2, START) == START
    assert answered_without(cells, 2, START) == 3
    assert answered_without(cells, 2, START + BUCKET) == 2


def test_nothing_is_said_before_a_bucket_is_full_and_of_few_requests():
    """A revision that nobody has seen, the bucket in which it began, and too few positions."""
    assert answering_since(story(steady), 3, START) is None
    empty = join([(SLOTS, [])], list(SLOTS))
    assert baked(empty, "c@1", ["a@1"], START, cycle=DAY) is None
    assert baked(story(steady, bake=0), "c@1", ["a@1", "c@1"], START, cycle=DAY) is None
    assert baked(story(steady), "x@1", ["a@1"], START, cycle=DAY) is None
    assert breach(None, POLICY) is None
    assert judged(story(lambda s: 1 if s < START else 20, bake=8, volume=24)) is None


def test_false_alarms_are_rare():
    """Members that do what they did in shadow, looked at again and again while they bake for a day."""
    rng, bakes, alarms = np.random.default_rng(3), 300, {"errors": 0, "rate": 0, "precision": 0}
    for _ in range(bakes):
        rate, fails = float(rng.choice([0.002, 0.02, 0.1])), float(rng.choice([0.0, 0.01, 0.04]))
        volume, precision = int(rng.choice([20, 100, 1000])), float(rng.uniform(0.2, 0.95))
        looks = 96
        scored = volume * np.arange(1, looks + 1)
        flagged = np.cumsum(rng.poisson(rate * volume, looks))
        failed = np.cumsum(rng.binomial(volume, fails, looks))
        before = np.cumsum(rng.poisson(rate * volume, (7, looks)), axis=1)
        mine, others = (np.cumsum(rng.poisson(volume * s, looks)) for s in (rate / 2, 0.03))
        good, right = (np.cumsum(rng.binomial(np.diff(n, prepend=0), precision)) for n in (mine, others))
        heard = set()
        for i in [*range(8), *range(8, looks, 8)]:
            days = [(int(n), int(scored[i])) for n in before[:, i] if scored[i] >= 200]
            found = Baked(
                int(scored[i]), int(failed[i]), int(scored[i]), int(flagged[i]), tuple(days),
                (int(good[i]), int(mine[i])), (int(right[i]), int(others[i])),
            )  # fmt: skip
            told = breach(found, POLICY)
            if told:
                heard.add("errors" if "failed" in told else "rate" if "it flags" in told else "precision")
        for each in heard:
            alarms[each] += 1
    assert max(alarms.values()) < 0.01 * bakes, alarms
