"""Verdicts on synthetic streams of daily blocks: a live suite of a few members, and candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluator.cells import Bucket, join
from evaluator.judgement import Moment, judge_suite
from evaluator.verdict import Claim, Facts, judge
from streams.suite import DAY, parse_suite

HOUR = 3_600_000
HORIZON = 6 * HOUR


def suite(members, **policy):
    """Suite of {id: stage}, hourly buckets."""
    lines = "".join(f"{name} = {value}\n" for name, value in policy.items() if name != "extra")
    extra = policy.get("extra", {})
    return parse_suite(
        f'name = "j"\nbucket = "1h"\nwindows = ["1d"]\n[policy]\n{lines}'
        + "".join(
            f'[[member]]\nname = "{name[0]}"\nversion = "{name[2:]}"\nstage = "{stage}"\n'
            f'owner = "o"\nloader = "x:Y"\n{extra.get(name, "")}'
            for name, stage in members.items()
        )
    )


def stream(members, days, sets, *, scored=None, label=lambda day: True, seed=0):
    """Cells: each day each set of members flags (n, precision) requests; positives are drawn at random."""
    rng = np.random.default_rng(seed)
    slots = {name: i for i, name in enumerate(members)}
    buckets = []
    for day in range(days):
        patterns, states, counts = [], [], []
        for who, (n, precision) in sets.items():
            mask = sum(1 << slots[name] for name in who)
            positive = int(rng.binomial(n, precision))
            for state, count in ((5, positive), (6, n - positive)):
                if count:
                    patterns.append((mask, 0, "", 1))
                    states.append(state if label(day) else 0)
                    counts.append(count)
        volume = {name: 0 if scored and not scored(name, day) else 1000 for name in members}
        state, count = np.array(states, dtype=np.int64), np.array(counts, dtype=np.int64)
        buckets.append(Bucket(day * DAY, patterns, state, count, 1000, volume, {}, {}))
    return join([(slots, buckets)], list(members))


def moment(days, *, behind=0):
    """Everything up to day `days` is mature, but for what labels are `behind` (ms)."""
    end = days * DAY - behind
    return Moment(end, days * DAY + HORIZON, end + HORIZON, HORIZON)


PAIR = {"a@1": "live", "c@1": "shadow"}


def test_a_candidate_that_is_better_is_promoted_but_not_before_the_span():
    """0.9 against 0.6, 40 labels a day."""
    sets = {("a@1",): (100, 0.6), ("c@1",): (40, 0.9)}
    declared = suite(PAIR)
    seen = {d: judge_suite(stream(PAIR, d, sets), declared, moment(d))["c@1"] for d in (3, 6, 60)}
    assert [seen[d].state for d in (3, 6)] == ["HOLD", "HOLD"]
    late = seen[60]
    assert (late.state, late.reasons) == ("PROMOTE", ("believed",))
    assert late.since is not None
    assert 7 * DAY <= late.since <= 60 * DAY
    assert late.unique_precision == pytest.approx(0.9, abs=0.03)
    assert late.reference_precision == pytest.approx(0.6, abs=0.03)
    assert late.interval is not None
    assert late.interval[0] < 0.9 < late.interval[1]


def test_what_is_promoted_stays_promoted_and_says_since_when():
    """More of the same days do not move the day on which it was reached."""
    sets = {("a@1",): (100, 0.6), ("c@1",): (40, 0.9)}
    cells = stream(PAIR, 90, sets)
    found = {judge_suite(cells, suite(PAIR), moment(d))["c@1"].since for d in (60, 75, 90)}
    assert len(found) == 1


def test_a_candidate_that_is_worse_is_rejected_and_one_that_is_equal_waits():
    """0.3 against 0.7; and the middle, which says how many more labels it needs."""
    worse = stream(PAIR, 60, {("a@1",): (100, 0.7), ("c@1",): (40, 0.3)})
    assert judge_suite(worse, suite(PAIR), moment(60))["c@1"].reasons == ("worse_than_the_suite",)
    equal = stream(PAIR, 20, {("a@1",): (100, 0.7), ("c@1",): (5, 0.72)})
    found = judge_suite(equal, suite(PAIR), moment(20))["c@1"]
    assert found.state == "HOLD"
    assert found.blocks == 20
    if found.labels_needed is not None:
        assert found.labels_needed > 0
        assert found.reasons == ("needs_labels",)


def test_a_redundant_candidate_is_told_by_whom():
    """Less than one in a hundred of its flags is its own."""
    members = {"a@1": "live", "b@1": "live", "c@1": "shadow"}
    sets = {("a@1",): (50, 0.6), ("a@1", "c@1"): (30, 0.8), ("b@1", "c@1"): (3, 0.8), ("b@1",): (20, 0.6)}
    found = judge_suite(stream(members, 20, sets), suite(members), moment(20))["c@1"]
    assert (found.state, found.reasons, found.twin) == ("REJECT", ("redundant",), "a@1")


def test_of_two_bad_live_members_only_the_lowest_is_flagged():
    """One at a time: the other may be all right once the first is gone."""
    members = {"a@1": "live", "b@1": "live", "d@1": "live"}
    sets = {("a@1",): (200, 0.8), ("b@1",): (60, 0.2), ("d@1",): (60, 0.3)}
    found = judge_suite(stream(members, 60, sets), suite(members), moment(60))
    assert (found["a@1"].state, found["b@1"].state, found["d@1"].state) == ("OK", "FLAG", "OK")
    assert found["d@1"].reasons == ("another_is_lower",)


def test_without_labels_where_they_are_needed_nothing_is_concluded():
    """The suite's requests are labelled, the candidate's own are not."""
    members, days = PAIR, 40
    cells = stream(members, days, {("a@1",): (100, 0.6), ("c@1",): (40, 0.9)})
    own = cells.yes[:, 1] & ~cells.yes[:, 0]
    silent = replace(cells, state=np.where(own[cells.pattern], 0, cells.state))
    found = judge_suite(silent, suite(members), moment(days))["c@1"]
    assert (found.state, found.reasons) == ("INCONCLUSIVE", ("insufficient_labels",))


def test_a_stalled_label_feed_concludes_nothing():
    """Labels stand still for four days: the evidence so far stays, the state says why it does not grow."""
    sets = {("a@1",): (100, 0.6), ("c@1",): (4, 0.65)}
    found = judge_suite(stream(PAIR, 30, sets), suite(PAIR), moment(30, behind=4 * DAY))
    assert "labels_starved" in found["c@1"].reasons
    assert found["c@1"].state == found["a@1"].state == "INCONCLUSIVE"


def test_days_that_a_candidate_was_trained_on_never_count():
    """Perfect on the days it has seen, poor after them."""
    declared = suite(PAIR, extra={"c@1": "trained_through = 1970-02-09T00:00:00Z\n"})
    sets = {("a@1",): (100, 0.6), ("c@1",): (40, 0.9)}
    found = judge_suite(stream(PAIR, 60, sets), declared, moment(60))["c@1"]
    assert found.blocks == 20
    assert found.since is None or found.since > 40 * DAY


def test_days_that_a_candidate_did_not_score_in_full_do_not_count():
    """Deployed on day 30: nothing of before is held for or against it."""
    sets = {("a@1",): (100, 0.6), ("c@1",): (40, 0.9)}
    cells = stream(PAIR, 60, sets, scored=lambda name, day: name == "a@1" or day >= 30)
    found = judge_suite(cells, suite(PAIR), moment(60))["c@1"]
    assert found.blocks == 30
    assert found.since is None or found.since >= 37 * DAY


def test_a_candidate_with_nothing_of_its_own_waits_while_it_has_flagged_little():
    """Too few flags to be called redundant; it is covered and labelled, so nothing is inconclusive."""
    sets = {("a@1",): (100, 0.6), ("a@1", "c@1"): (2, 0.6)}
    found = judge_suite(stream(PAIR, 20, sets), suite(PAIR), moment(20))["c@1"]
    assert (found.state, found.reasons) == ("HOLD", ("nothing_of_its_own_yet",))


def test_without_a_day_that_all_have_scored_nothing_is_concluded():
    """The candidate was never there for a whole day."""
    sets = {("a@1",): (100, 0.6), ("c@1",): (40, 0.9)}
    cells = stream(PAIR, 20, sets, scored=lambda name, day: name == "a@1")
    found = judge_suite(cells, suite(PAIR), moment(20))["c@1"]
    assert (found.state, found.reasons) == ("INCONCLUSIVE", ("no_common_coverage",))


def test_an_empty_suite_needs_a_floor():
    """Without it there is nothing to compare with; with it the floor decides."""
    members = {"c@1": "shadow"}
    cells = stream(members, 60, {("c@1",): (40, 0.9)})
    found = judge_suite(cells, suite(members), moment(60))["c@1"]
    assert (found.state, found.reasons) == ("INCONCLUSIVE", ("empty_suite_needs_a_floor",))
    assert judge_suite(cells, suite(members, floor=0.5), moment(60))["c@1"].state == "PROMOTE"
    assert judge_suite(cells, suite(members, floor=0.97), moment(60))["c@1"].state == "HOLD"


def test_a_replacement_is_judged_by_what_the_swap_gains_and_loses():
    """a@2 replaces a@1: it gains good requests and loses bad ones, or the other way round."""
    members = {"a@1": "live", "b@1": "live", "a@2": "shadow"}
    declared = suite(members, extra={"a@2": 'replaces = "a@1"\n'})
    sets = {("b@1",): (100, 0.7), ("a@1",): (30, 0.3), ("a@1", "a@2"): (50, 0.8), ("a@2",): (30, 0.75)}
    assert judge_suite(stream(members, 90, sets), declared, moment(90))["a@2"].state == "PROMOTE"
    poor = {**sets, ("a@1",): (30, 0.75), ("a@2",): (30, 0.3)}
    assert judge_suite(stream(members, 90, poor), declared, moment(90))["a@2"].state != "PROMOTE"


@pytest.mark.parametrize(
    ("cut", "state"),
    [(0.3, "PROMOTE"), (0.72, "HOLD"), (0.95, "REJECT")],
)
def test_a_sharpened_member_is_judged_by_what_it_no_longer_flags(cut, state):
    """a@2 flags a part of what a@1 does: better where the rest of that is worth less than the suite."""
    members = {"a@1": "live", "b@1": "live", "a@2": "shadow"}
    declared = suite(members, extra={"a@2": 'replaces = "a@1"\n'})
    sets = {("b@1",): (100, 0.7), ("a@1",): (40, cut), ("a@1", "a@2"): (50, 0.8)}
    found = judge_suite(stream(members, 90, sets), declared, moment(90))["a@2"]
    assert found.state == state, found
    assert "redundant" not in found.reasons


def test_a_widened_member_is_judged_by_what_it_flags_beside():
    """a@2 flags all that a@1 does, and more."""
    members = {"a@1": "live", "b@1": "live", "a@2": "shadow"}
    declared = suite(members, extra={"a@2": 'replaces = "a@1"\n'})
    for more, state in ((0.9, "PROMOTE"), (0.2, "REJECT")):
        sets = {("b@1",): (100, 0.6), ("a@1", "a@2"): (50, 0.6), ("a@2",): (40, more)}
        found = judge_suite(stream(members, 90, sets), declared, moment(90))["a@2"]
        assert found.state == state, found


def test_a_sharpening_that_is_worth_nothing_is_seldom_believed():
    """What it no longer flags is as good as the rest: over many suites the error stays below its rate."""
    members = {"a@1": "live", "b@1": "live", "a@2": "shadow"}
    declared = suite(members, extra={"a@2": 'replaces = "a@1"\n'})
    sets = {("b@1",): (60, 0.6), ("a@1",): (30, 0.6), ("a@1", "a@2"): (30, 0.6)}
    wrong = sum(
        judge_suite(stream(members, 60, sets, seed=seed), declared, moment(60))["a@2"].state == "PROMOTE"
        for seed in range(40)
    )
    assert wrong <= 2


def test_a_replacement_that_others_cover_is_redundant():
    """What is its own beside the member that goes out counts; what another live member flags does not."""
    members = {"a@1": "live", "b@1": "live", "a@2": "shadow"}
    declared = suite(members, extra={"a@2": 'replaces = "a@1"\n'})
    sets = {("b@1",): (60, 0.6), ("a@1",): (30, 0.6), ("a@2", "b@1"): (30, 0.6)}
    found = judge_suite(stream(members, 60, sets), declared, moment(60))["a@2"]
    assert (found.state, found.reasons, found.twin) == ("REJECT", ("redundant",), "b@1")


def test_labels_declared_independent_that_are_not_conclude_nothing():
    """Whole days come out alike: the declaration is false, loudly."""
    rng = np.random.default_rng(3)
    declared = suite(PAIR, evidence='"labels"')
    cells = stream(PAIR, 40, {("a@1",): (100, 0.6), ("c@1",): (20, 0.6)})
    own = (cells.yes[:, 1] & ~cells.yes[:, 0])[cells.pattern]
    days = rng.random(40) < 0.6
    alike = np.where(own, np.where(days[cells.bucket], 5, 6), cells.state)
    found = judge_suite(replace(cells, state=alike), declared, moment(40))["c@1"]
    assert "dependent_outcomes" in found.reasons
    assert found.state == "INCONCLUSIVE"


def test_members_that_nothing_is_known_of_do_not_narrow_the_margin():
    """The evidence against b is the same, however many idle members there are beside it."""
    sets = {("a@1",): (600, 0.8), ("b@1",): (600, 0.76)}
    found = []
    for idle in ("", "efghijkl"):
        members = {"a@1": "live", "b@1": "live"} | {f"{name}@1": "live" for name in idle}
        declared = suite(members, evidence='"labels"')
        found.append(judge_suite(stream(members, 60, sets), declared, moment(60))["b@1"])
    assert found[0].log_e == found[1].log_e
    assert {each.state for each in found} == {"OK"}


def test_verdicts_are_a_function_of_the_counts():
    """Whatever the order of the cells and however they lie in shards."""
    members = {"a@1": "live", "b@1": "live", "c@1": "shadow"}
    sets = {("a@1",): (60, 0.6), ("b@1",): (30, 0.5), ("c@1",): (20, 0.8), ("a@1", "c@1"): (9, 0.7)}
    cells = stream(members, 40, sets)
    rng = np.random.default_rng(0)
    mixed = rng.permutation(len(cells.count))
    other = replace(
        cells,
        bucket=cells.bucket[mixed],
        pattern=cells.pattern[mixed],
        state=cells.state[mixed],
        count=cells.count[mixed],
    )
    assert judge_suite(cells, suite(members), moment(40)) == judge_suite(other, suite(members), moment(40))


def test_before_the_first_mature_day_there_is_a_verdict_too():
    """HOLD for candidates, OK for live members, both for want of evidence."""
    found = judge_suite(stream(PAIR, 0, {}), suite(PAIR), moment(0))
    assert {v.state for v in found.values()} == {"HOLD", "OK"}
    assert {v.reasons for v in found.values()} == {("no_evidence_yet",)}


NOTHING = Facts(
    stage="shadow", block=DAY, blocks=0, span=30 * DAY, min_span=7 * DAY, flagged=500, own=200, pooled=None,
    averaged=None, reference=None, averaged_reference=None, interval=None, coverage=0.0, missing=1.0,
    twin=None, starved=True, dependent=True, promote=None, against=None, no_floor=True,
)  # fmt: skip


@pytest.mark.parametrize("stage", ["shadow", "live"])
def test_where_nothing_is_known_nothing_is_decided(stage):
    """No labels, a stalled feed, a false declaration: never PROMOTE, REJECT or FLAG."""
    found = judge(replace(NOTHING, stage=stage))
    assert found.state == "INCONCLUSIVE"
    assert "labels_starved" in found.reasons


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        ({"promote": Claim(9.0, 3.0, 5 * DAY, False)}, "PROMOTE", "believed"),
        ({"against": Claim(9.0, 3.0, 5 * DAY, False)}, "REJECT", "worse_than_the_suite"),
        ({"own": 1.0, "twin": "a@1"}, "REJECT", "redundant"),
        ({"promote": Claim(9.0, 3.0, None, True)}, "HOLD", "pooled_precision_is_lower"),
        ({"promote": Claim(1.0, 3.0, None, False, (10.0, 5.0, None))}, "HOLD", "needs_labels"),
        ({"promote": Claim(1.0, 3.0, None, False)}, "HOLD", "not_at_this_rate"),
        ({"promote": Claim(9.0, 3.0, None, False), "span": DAY}, "HOLD", "min_span"),
    ],
)
def test_a_candidate_has_the_state_of_its_strongest_fact(facts, state, reason):
    """The table of states, one row after the other."""
    calm = replace(NOTHING, blocks=9, missing=0.0, starved=False, dependent=False, no_floor=False)
    found = judge(replace(calm, **facts))
    assert found.state == state
    assert reason in found.reasons


@pytest.mark.parametrize(
    ("blocks", "veto", "span", "told"),
    [
        ((9.2, 4.0, None), False, 30 * DAY, (10, 4, None)),
        ((1.0, 0.5, 90.0), False, 2 * DAY, (5, 5, 90)),
        ((0.0, 0.0, 0.0), False, 3 * DAY, (4, 4, 4)),
        ((0.0, 0.0, 0.0), True, 30 * DAY, (None, None, None)),
        ((None, None, None), False, 30 * DAY, (None, None, None)),
    ],
)
def test_a_candidate_that_waits_says_how_long(blocks, veto, span, told):
    """The blocks that are missing, and no less than the span that is."""
    claim = Claim(1.0, 3.0, None, veto, blocks_needed=blocks)
    calm = replace(NOTHING, blocks=9, missing=0.0, starved=False, dependent=False, no_floor=False)
    found = judge(replace(calm, promote=claim, span=span))
    days = [None if each is None else each * DAY for each in told]
    assert [found.time_needed, *found.time_range] == days


def test_the_time_needed_goes_by_the_rate_since_a_candidate_began():
    """Deployed late it waits no longer than one that was there from the start."""
    sets = {("a@1",): (60, 0.7), ("c@1",): (4, 0.78)}
    late = stream(PAIR, 45, sets, scored=lambda name, day: name == "a@1" or day >= 30, seed=2)
    found = judge_suite(late, suite(PAIR), moment(45))["c@1"]
    assert (found.state, found.blocks) == ("HOLD", 15)
    assert found.time_needed is not None
    assert found.time_needed == found.blocks_needed * DAY
    assert found.labels_needed == pytest.approx(4 * found.blocks_needed, abs=4)
