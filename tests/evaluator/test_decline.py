"""Decay of a live member against its own past, on synthetic streams of hourly buckets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluator.cells import ANSWERED, HELD, LABEL, Bucket, join
from evaluator.decline import declines
from streams.suite import DAY, parse_suite

HOUR = 3_600_000
SUITE = parse_suite(
    'name = "d"\nbucket = "1h"\nwindows = ["1d"]\n'
    + "".join(
        f'[[member]]\nname = "{n}"\nversion = "1"\nstage = "live"\nowner = "o"\nloader = "a:B"\n'
        for n in "ab"
    )
)


def stream(days, alone, shared=lambda day: (0, 0), labelled=lambda day: True):
    """Cells: every hour a@1 alone flags `alone(day)` (positive, negative) requests, both `shared(day)`."""
    buckets = []
    for hour in range(days * 24):
        day = hour // 24
        parts = [((1, 0, "", 1), alone(day)), ((3, 0, "", 1), shared(day)), ((2, 0, "", 1), (3, 1))]
        patterns, states, counts = [], [], []
        for pattern, (positive, negative) in parts:
            on = labelled(day)
            for state, n in ((5 if on else 0, positive), (6 if on else 0, negative)):
                if n:
                    patterns.append(pattern)
                    states.append(state)
                    counts.append(n)
        scored = {"a@1": 100, "b@1": 100}
        buckets.append(Bucket(hour * HOUR, patterns, np.array(states), np.array(counts), 100, scored, {}, {}))
    return join([({"a@1": 0, "b@1": 1}, buckets)], ["a@1", "b@1"])


def test_a_member_that_stays_as_it_is_raises_no_alarm():
    """Sixty days of the same precision."""
    cells = stream(60, lambda day: (3, 2))
    assert declines(cells, SUITE, 60 * DAY) == {"a@1": None, "b@1": None}


def test_a_member_that_gets_worse_by_itself():
    """Its own precision falls from 0.75 to 0.25 on day 40; the alarm says since when, and why."""
    cells = stream(60, lambda day: (3, 1) if day < 40 else (1, 3))
    found = declines(cells, SUITE, 60 * DAY)
    assert found["b@1"] is None
    alarm = found["a@1"]
    assert alarm is not None
    assert 40 * DAY <= alarm.since < 43 * DAY
    assert (alarm.kind, alarm.by) == ("own_decline", None)
    assert alarm.before == 0.75
    assert alarm.after == pytest.approx(0.43, abs=0.1)


def test_good_catches_that_another_member_takes_over():
    """What it catches stays as good, but the good ones are no longer its own."""
    cells = stream(
        60,
        lambda day: (6, 2) if day < 30 else (1, 2),
        shared=lambda day: (0, 0) if day < 30 else (5, 0),
    )
    alarm = declines(cells, SUITE, 60 * DAY)["a@1"]
    assert alarm is not None
    assert (alarm.kind, alarm.by) == ("cannibalised", "b@1")


def test_an_alarm_ends_when_the_member_is_back():
    """Worse for ten days, and then as before for long."""
    cells = stream(90, lambda day: (1, 3) if 35 <= day < 45 else (3, 1))
    assert declines(cells, SUITE, 44 * DAY)["a@1"] is not None
    assert declines(cells, SUITE, 90 * DAY)["a@1"] is None


def test_a_past_without_enough_labels_says_nothing():
    """No reference, no alarm; and no member, no answer."""
    cells = stream(60, lambda day: (1, 3), labelled=lambda day: day >= 28)
    assert declines(cells, SUITE, 60 * DAY)["a@1"] is None
    assert declines(join([({}, [])], ["a@1", "b@1"]), SUITE, DAY) == {"a@1": None, "b@1": None}


def test_what_acting_destroys_is_no_decline_of_a_suite_that_holds_out():
    """From day 40 on blocked positives lose their labels; those that are let through keep theirs."""
    cells = stream(60, lambda day: (3, 1))
    acted = cells.state | ANSWERED
    acted[(cells.state & LABEL == 1) & (cells.starts[cells.bucket] >= 40 * DAY)] = ANSWERED
    twice = {name: np.tile(getattr(cells, name), 2) for name in ("bucket", "pattern", "count")}
    cells = replace(cells, state=np.concatenate([acted, cells.state | HELD]), **twice)
    assert declines(cells, SUITE, 60 * DAY)["a@1"] is not None
    assert declines(cells, SUITE.model_copy(update={"holdout": 0.1}), 60 * DAY)["a@1"] is None
