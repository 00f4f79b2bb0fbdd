"""The verdicts on the demo's members over the real year: as intended, none of them false, and when."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from evaluator.cells import Bucket, Cells, join
from evaluator.decline import declines
from evaluator.demo.features import table
from evaluator.judgement import Moment, judge_suite
from streams.batch import Batch
from streams.suite import DAY
from streams.times import format_time
from tests.evaluator.demo.test_demo_members import SUITE, make

MINUTE = 60_000


@pytest.fixture(scope="module")
def cells(year) -> Cells:
    """The year's histogram, with all labels there."""
    batch = Batch(year.scheduled * MINUTE, table(year))
    n = len(batch)
    bits, failed = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    for i, spec in enumerate(SUITE.member):
        member = make(spec)
        upto = int(np.searchsorted(batch.time, member.until)) if spec.name == "brittle" else n
        votes = np.append(member.vote(batch.take(0, upto)), np.zeros(n - upto, dtype=np.bool_))
        bits |= votes.astype(np.int64) << i
        if spec.name == "brittle":
            failed[upto:] = True
    start = batch.time // SUITE.bucket * SUITE.bucket
    late = year.late
    slots = {name: i for i, name in enumerate(SUITE.members)}
    counts = Counter(zip(start.tolist(), bits.tolist(), late.tolist(), strict=True))
    volume = Counter(start.tolist())
    by_bucket: dict[int, list[tuple[int, int, int]]] = {}
    for (when, mask, positive), count in counts.items():
        by_bucket.setdefault(when, []).append((mask, 5 if positive else 6, count))
    buckets = [
        Bucket(
            when,
            [(mask, 0, "", 1) for mask, _, _ in cells],
            np.array([state for _, state, _ in cells], dtype=np.int64),
            np.array([count for _, _, count in cells], dtype=np.int64),
            volume[when],
            dict.fromkeys(SUITE.members, volume[when]),
            {},
            {},
        )
        for when, cells in by_bucket.items()
    ]
    return join([(slots, buckets)], list(SUITE.members))


def test_every_verdict_of_the_year_is_as_intended(cells, year, capsys):
    """The good one is promoted, the worse and the twin are not, the costly live one is flagged, no other."""
    end = int(cells.starts[-1]) + SUITE.bucket
    horizon = int(SUITE.labels.horizon)
    found = judge_suite(cells, SUITE, Moment(end - horizon, end, end, horizon))
    with capsys.disabled():
        print()
        for name, verdict in found.items():
            when = format_time(verdict.since)[:7] if verdict.since else "-"
            print(f"  {name:<20} {verdict.state:<8} {when:<8} {', '.join(verdict.reasons)}")
    assert found["regional_evening@1"].state == "FLAG"
    assert found["late_inbound@1"].state == found["queue@1"].state == "OK"
    assert found["logistic@1"].state == "PROMOTE"
    assert found["red_eye@1"].reasons == found["brittle@1"].reasons == ("worse_than_the_suite",)
    assert (found["queue_twin@1"].reasons, found["queue_twin@1"].twin) == (("redundant",), "queue@1")
    assert found["evening_jam@1"].state in ("HOLD", "PROMOTE")  # as good as the suite: never a REJECT
    # Nothing is decided on what a candidate was trained on.
    trained = SUITE.members["logistic@1"].trained_through
    assert trained is not None
    assert found["logistic@1"].since > trained + SUITE.policy.min_span


def test_a_look_every_week_never_sees_a_verdict_that_is_taken_back(cells):
    """PROMOTE and REJECT latch: whoever looks later sees the same, since the same day."""
    first, last = int(cells.starts[0]), int(cells.starts[-1])
    horizon = int(SUITE.labels.horizon)
    seen: dict[str, tuple[str, int | None]] = {}
    for end in range(first + 7 * DAY, last, 7 * DAY):
        found = judge_suite(cells, SUITE, Moment(end - horizon, end, end, horizon))
        for name, verdict in found.items():
            if verdict.state in ("PROMOTE", "REJECT") and verdict.since is not None:
                assert seen.setdefault(name, (verdict.state, verdict.since))[0] == verdict.state
            elif name in seen:
                pytest.fail(f"{name} was {seen[name]}, and is {verdict.state} on {format_time(end)}")


def test_the_member_that_decays_says_so_in_autumn_and_why(cells):
    """Regional evenings are good in summer and poor in autumn: its own decline, nobody took its catches."""
    alarms = {}
    for end in range(int(cells.starts[0]) + 40 * DAY, int(cells.starts[-1]), 7 * DAY):
        for name, alarm in declines(cells, SUITE, end).items():
            if alarm:
                alarms.setdefault(name, []).append((format_time(alarm.since)[:7], alarm.kind))
    # The blizzard of February makes one bad week for the others; what lasts is the decline of autumn.
    assert {name for name, found in alarms.items() if len(found) > 1} == {"regional_evening@1"}
    assert {kind for _, kind in alarms["regional_evening@1"]} == {"own_decline"}
    assert {month for month, _ in alarms["regional_evening@1"]} <= {"2013-09", "2013-10", "2013-11"}
