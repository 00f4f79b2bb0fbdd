"""Acting destroys labels: what a suite looks like without a hold-out, and with one (seeded Monte Carlo)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluator.cells import ANCHORED, ANSWERED, HELD, Cells
from evaluator.judgement import Moment, judge_suite
from evaluator.tables import block_tables, compare, sets
from streams.suite import DAY, Suite, parse_suite

IDS = ["a@1", "b@1", "c@1"]
#: Who says True, how many a day, how many of them are positives. The suite is a or b; c is a shadow.
PATTERNS = [((1, 0, 0), 100, 0.80), ((0, 1, 0), 100, 0.80), ((1, 1, 0), 40, 0.85), ((0, 0, 1), 60, 0.55)]
TRUTH = (100 * 0.80 + 100 * 0.80 + 40 * 0.85) / 240
YES = np.array([yes for yes, _, _ in PATTERNS], dtype=np.bool_)


def suite(holdout: float, more: str = "") -> Suite:
    member = '[[member]]\nname = "{}"\nversion = "1"\nstage = "{}"\nowner = "o"\nloader = "x:Y"\n'
    stages = zip("abc", ("live", "live", "shadow"), strict=True)
    text = f'name = "s"\nholdout = {holdout}\n{more}' + "".join(member.format(*each) for each in stages)
    return parse_suite(text)


def world(rng: np.random.Generator, days: int, holdout: float, *, silent: bool = False) -> Cells:
    """Days of requests. What `a` flags is blocked: a positive among it never gets its label.

    All others are labelled; `silent`: only positives are, no label means negative.
    """
    bucket, pattern, state, count = [], [], [], []
    for day in range(days):
        for row, (yes, n, p) in enumerate(PATTERNS):
            live = yes[0] or yes[1]
            held = rng.binomial(n, holdout) if live else 0
            for size, acted, bit in ((n - held, bool(live), ANSWERED), (held, False, HELD)):
                positive = rng.binomial(size, p)
                negative = size - positive
                lost = positive if acted and yes[0] else 0
                none = lost + (negative if silent else 0)
                for code, number in ((0, none), (1, positive - lost), (2, size - positive - none + lost)):
                    if number:
                        bucket.append(day)
                        pattern.append(row)
                        flags = bit if live else 0
                        state.append(code + (ANCHORED if code else 0) + flags)
                        count.append(number)
    volume = np.full(days, 1000, dtype=np.int64)
    scored = np.tile(volume[:, None], 3)
    zeros = np.zeros((days, 3), dtype=np.int64)
    return Cells(
        IDS, *(np.array(each, dtype=np.int64) for each in (bucket, pattern, state, count)), YES, ~YES & False,
        [""] * len(YES), np.ones(len(YES), dtype=np.int64), np.arange(days, dtype=np.int64) * DAY, volume,
        scored, zeros, zeros,
    )  # fmt: skip


def precisions(cells: Cells, days: int, *, holds_out: bool, silent: bool = False) -> list[float]:
    """Post-stratified, over all days: of the OR, and of what only a and only b flag."""
    t = block_tables(cells, ["a@1", "b@1"], days * DAY, DAY, missing_is_negative=silent, holds_out=holds_out)
    select = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.bool_).T
    _, s, n = sets(t, select).side(0.5)
    return (s.sum(axis=1) / n.sum(axis=1)).tolist()


@pytest.mark.parametrize("silent", [False, True])
def test_precision_is_wrong_without_a_hold_out_and_unbiased_with_one(silent):
    """Blocked positives are never labelled; those that were let through are, and speak for all."""
    rng, days, runs, share = np.random.default_rng(3), 30, 60, 0.1
    found = np.array(
        [
            precisions(world(rng, days, share, silent=silent), days, holds_out=True, silent=silent)
            for _ in range(runs)
        ]
    )
    blind = np.array(
        [
            precisions(world(rng, days, 0.0, silent=silent), days, holds_out=False, silent=silent)
            for _ in range(5)
        ]
    )
    mean, error = found.mean(axis=0), found.std(axis=0) / math.sqrt(runs)
    print(f"truth {TRUTH:.3f} .800 .800; held out {mean.round(3)} ± {error.round(4)}")
    print(f"without {blind.mean(axis=0).round(3)}")
    assert np.all(np.abs(mean - [TRUTH, 0.8, 0.8]) < 4 * error + 1e-3)
    assert np.all(blind[:, 0] < TRUTH - 0.3)
    assert np.all(blind[:, 1] < 0.05)
    assert np.all(np.abs(blind[:, 2] - 0.8) < 0.05)


def test_verdicts_without_and_with_a_hold_out():
    """Without it the good member is flagged and the bad candidate promoted; with it neither, ever."""
    rng, days = np.random.default_rng(4), 90
    moment = Moment(days * DAY, days * DAY + DAY, days * DAY + DAY, DAY)
    blind = judge_suite(world(rng, days, 0.0), suite(0.0), moment)
    print({name: verdict.state for name, verdict in blind.items()})
    assert blind["a@1"].state == "FLAG"
    assert blind["c@1"].state == "PROMOTE"
    for _ in range(10):
        fair = judge_suite(world(rng, days, 0.2), suite(0.2), moment)
        print({name: verdict.state for name, verdict in fair.items()})
        assert fair["a@1"].state == fair["b@1"].state == "OK"
        assert fair["c@1"].state in ("HOLD", "REJECT")


def test_labels_of_what_was_acted_on_are_not_used():
    """n is of all requests, s and f are those of the held out; what nobody live flags keeps its labels."""
    cells = world(np.random.default_rng(5), 3, 0.3)
    t = block_tables(cells, ["a@1", "b@1"], 3 * DAY, DAY, holds_out=True)
    for row in range(4):
        for day in range(3):
            mine = (cells.pattern == row) & (cells.bucket == day)
            used = mine & (cells.state & ANSWERED == 0)
            for found, code in ((t.s, 1), (t.f, 2)):
                assert found[row, day] == cells.count[used & (cells.state & 3 == code)].sum()
            assert t.n[row, day] == cells.count[mine].sum() == PATTERNS[row][1]
    assert len({*t.group[:3]} & {t.group[3]}) == 0
    plain = block_tables(cells, ["a@1", "b@1"], 3 * DAY, DAY)
    assert plain.s.sum() + plain.f.sum() == cells.count[cells.state & 3 > 0].sum()


def test_before_anything_was_held_out_nothing_is_known():
    """A suite that has just begun to hold out has no fair label yet: it says so instead of guessing."""
    days = 30
    cells = world(np.random.default_rng(6), days, 0.0)
    moment = Moment(days * DAY, days * DAY + DAY, days * DAY + DAY, DAY)
    for verdict in judge_suite(cells, suite(0.05), moment).values():
        assert verdict.state in ("INCONCLUSIVE", "HOLD")
    t = block_tables(cells, ["a@1", "b@1"], days * DAY, DAY, holds_out=True)
    live = sets(t, np.array([[1], [1], [1], [0]], dtype=np.bool_))
    assert live.missing.tolist() == [1.0]
    shadow = sets(t, np.array([[0], [0], [0], [1]], dtype=np.bool_))
    blocks = compare(shadow, live, np.ones((days, 1), dtype=np.bool_), "promote")
    assert np.isnan(blocks.o).all()
