"""Which requests are asked about: by what pending decisions need, and by chance within a class."""

from __future__ import annotations

from collections import Counter

import numpy as np

from evaluator.cells import Cells
from evaluator.reviewing import Agenda, Draw, Request, Tally, due, pool_end, tally
from streams.suite import Suite, parse_suite

DAY = 86_400_000


def make_suite(**replaces: str) -> Suite:
    members = ""
    for name, stage in (("a", "live"), ("b", "live"), ("c", "shadow"), ("d", "shadow")):
        members += (
            f'[[member]]\nname = "{name}"\nversion = "1"\nstage = "{stage}"\nowner = "o"\nloader = "x:Y"\n'
        )
        if name in replaces:
            members += f'replaces = "{replaces[name]}"\n'
    return parse_suite(f'name = "s"\n{members}')


def requests(count: int, *members: str) -> list[Request]:
    return [Request(f"{'-'.join(members)}-{i}", DAY, tuple(f"{m}@1" for m in members)) for i in range(count)]


def draw(agenda: Agenda, budget: int, counts=None, seed=0, **more):
    one = Draw(agenda, budget, seed)
    for request in requests(2000, "a") + requests(40, "c") + requests(60, "d") + requests(30, "a", "c"):
        one.add(request)
    return one.choose(counts or {})


def test_classes_follow_from_what_is_pending():
    """The suite's own set, each open candidate's unique set, their overlap, and what nobody waits for."""
    agenda = Agenda(make_suite(), ["c@1"])
    name = lambda *ids: agenda.name(agenda.kind(frozenset(ids)))  # noqa: E731
    assert name("a@1", "c@1") == name("b@1") == "suite"
    assert name("c@1") == name("c@1", "d@1") == "c@1"
    assert name("d@1") == "others"
    assert agenda.kind(frozenset({"gone@1"})) is None
    both = Agenda(make_suite(), ["c@1", "d@1"])
    assert both.name(both.kind(frozenset({"c@1", "d@1"}))) == "c@1 + d@1"


def test_what_a_replacement_would_lose_is_a_class():
    """It is asked about too: the decision compares what is won with what is lost."""
    agenda = Agenda(make_suite(c="a@1"), ["c@1"])
    assert agenda.name(agenda.kind(frozenset({"a@1"}))) == "suite + lost to c@1"
    assert agenda.name(agenda.kind(frozenset({"a@1", "c@1"}))) == "suite"
    assert agenda.name(agenda.kind(frozenset({"a@1", "b@1"}))) == "suite"


def test_the_budget_goes_where_a_decision_is_pending():
    """A candidate's sliver of the traffic gets about as much as the suite; no decision, no preference."""
    chosen = Counter(a.class_name for a in draw(Agenda(make_suite(), ["c@1"]), 50))
    assert sum(chosen.values()) == 50
    assert chosen["c@1"] > 15
    assert chosen["suite"] > 15
    even = Counter(a.class_name for a in draw(Agenda(make_suite(), []), 50))
    assert sum(even.values()) == 50
    assert even["suite"] >= 45


def test_each_asking_carries_its_probability_and_its_reason():
    """Asked ÷ requests of the class that could have been."""
    chosen = draw(Agenda(make_suite(), ["c@1"]), 50)
    mine = [a for a in chosen if a.class_name == "c@1"]
    assert {a.probability for a in mine} == {len(mine) / 40}
    assert {a.reason for a in mine} == {"pending: c@1"}
    others = [a for a in chosen if a.class_name == "others"]
    assert all(a.reason == "in proportion to traffic" for a in others)


def test_within_a_class_each_request_is_as_likely():
    """Over many draws the first of the stream comes as often as the last."""
    agenda, times = Agenda(make_suite(), ["c@1"]), Counter()
    for seed in range(400):
        one = Draw(agenda, 4, seed)
        for request in requests(20, "c"):
            one.add(request)
        times.update(a.request.id for a in one.choose({}))
    assert sum(times.values()) == 1600
    assert all(abs(times[f"c-{i}"] - 80) < 45 for i in range(20))


def test_labels_that_are_there_and_those_on_their_way_count():
    """A class that has labels already is asked about less, also while reviewers have not answered yet."""
    agenda = Agenda(make_suite(), ["c@1"])
    kind = agenda.kind(frozenset({"c@1"}))
    without = Counter(a.class_name for a in draw(agenda, 20))["c@1"]
    for known in (Tally(before=200, positives=100), Tally(waiting=200), Tally(requests=240, labelled=200)):
        assert Counter(a.class_name for a in draw(agenda, 20, {kind: known}))["c@1"] < without


def test_the_counts_are_of_the_pool_and_of_whole_blocks_before_it():
    """What labels say within the pool is not looked at."""
    cells = Cells(
        ids=["a@1", "b@1", "c@1", "d@1"],
        bucket=np.array([0, 0, 1, 1, 1]),
        pattern=np.array([0, 1, 1, 1, 0]),
        state=np.array([1, 2, 0, 1, 2]),
        count=np.array([7, 5, 30, 4, 2]),
        yes=np.array([[True, False, True, False], [False, False, True, False]]),
        no=np.zeros((2, 4), dtype=bool),
        segment=["", ""],
        revision=np.array([1, 1]),
        starts=np.array([0, DAY]),
        volume=np.array([100, 100]),
        scored=np.full((2, 4), 100),
        abstained=np.zeros((2, 4), dtype=np.int64),
        failed=np.zeros((2, 4), dtype=np.int64),
    )
    agenda = Agenda(make_suite(), ["c@1"])
    found = tally(cells, agenda, DAY, 2 * DAY, DAY, [frozenset({"c@1"}), frozenset()])
    by_name = {agenda.name(kind): t for kind, t in found.items()}
    assert by_name == {"suite": Tally(2, 2, 0, 7, 7), "c@1": Tally(34, 4, 1, 5, 0)}


def test_the_budget_is_spread_over_the_hour():
    """One by one, and all of it by the end."""
    assert [due(6, minute) for minute in (0, 9, 10, 30, 59)] == [1, 1, 2, 4, 6]
    assert due(600, 0) == 10
    assert [due(per, 59) for per in (0, 1, 7, 1000)] == [0, 1, 7, 1000]


def test_the_pool_ends_where_open_candidates_have_voted():
    """One that lags by more than a block is not waited for."""
    assert pool_end(10 * DAY, [10 * DAY - 5, 11 * DAY, None], DAY) == 10 * DAY - 5
    assert pool_end(10 * DAY, [2 * DAY], DAY) == 10 * DAY
