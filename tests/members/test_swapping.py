"""Who scores what during a hand-over, from the registry alone."""

from __future__ import annotations

from typing import Any

import pytest

from members.recovery import Replay
from members.registry.events import Serving
from members.registry.lifecycle import Entry, Registry
from members.swapping import (
    answers,
    in_share,
    missed,
    reported,
    shadowed,
    shadowed_from,
    steps,
    unlike,
    unsaid,
)
from streams.suite import MemberSpec


def registry(servings: dict[int, dict[int, int]], *more: Serving, **states: Any) -> Registry:
    """a was live from the beginning, b in revision 2 only.

    servings: revision → partition → offset, reported in this order, as records 1, 2, ... of the log; more:
    what was reported of partition 0 after that.
    """
    entries = {
        f"{name}@1": Entry(
            spec=MemberSpec(name=name, version="1", owner="o", loader="a:b"),
            state=state, ordinal=i, position=i, since=0, who="w", why="y",
        )
        for i, (name, state) in enumerate({"a": "live", "b": "shadow", "c": "shadow", **states}.items())
    }  # fmt: skip
    lives = {1: ("a@1",), 2: ("a@1", "b@1"), 3: ("a@1",)}
    reports: dict[int, tuple[Serving, ...]] = {}
    for position, (revision, places) in enumerate(servings.items(), 1):
        for partition, at in places.items():
            reports[partition] = (*reports.get(partition, ()), Serving(position, at, revision))
    if more:
        reports[0] = (*reports.get(0, ()), *more)
    return Registry(revision=max(lives), entries=entries, lives=lives, servings=reports)


MINE = ("b@1", "c@1")


def test_steps() -> None:
    """Before the first report the first revision answers; what is reported later counts, from there on."""
    assert steps(registry({}), 0) == [(0, 1)]
    assert steps(registry({1: {0: 0}, 2: {0: 100}, 3: {0: 150}}), 0) == [(0, 1), (100, 2), (150, 3)]
    assert steps(registry({1: {0: 0}, 2: {1: 100}}), 0) == [(0, 1)]
    assert steps(registry({2: {0: 100}, 3: {0: 90}}), 0) == [(0, 1), (90, 3)]
    assert steps(registry({3: {0: 150}, 2: {0: 100}}), 0) == [(0, 1), (100, 2)]
    assert steps(registry({3: {0: 90}, 2: {0: 100}}), 0) == [(0, 1), (90, 3), (100, 2)]
    assert steps(registry({2: {0: 100}, 3: {0: 150}}), 0, through=1) == [(0, 1), (100, 2)]


def test_a_report_that_ends() -> None:
    """What was said of the rest stands; one that ends before it begins says nothing."""
    said = {2: {0: 100}, 3: {0: 150}}
    assert steps(registry(said, Serving(9, 120, 1, 170)), 0) == [(0, 1), (100, 2), (120, 1), (170, 3)]
    assert steps(registry(said, Serving(9, 120, 1, 140)), 0) == [
        (0, 1),
        (100, 2),
        (120, 1),
        (140, 2),
        (150, 3),
    ]
    assert steps(registry(said, Serving(9, 90, 2, 150)), 0) == [(0, 1), (90, 2), (150, 3)]
    assert steps(registry(said, Serving(9, 90, 1, 90)), 0) == [(0, 1), (100, 2), (150, 3)]


@pytest.mark.parametrize(
    ("offset", "ids", "until"),
    [(0, MINE, 100), (99, MINE, 100), (100, ("c@1",), 150), (149, ("c@1",), 150), (150, MINE, None)],
)
def test_the_shadow_asks_where_the_live_host_does_not(
    offset: int, ids: tuple[str, ...], until: int | None
) -> None:
    """b was live in [100, 150), exactly there it is left to the live host."""
    now = registry({1: {0: 0}, 2: {0: 100}, 3: {0: 150}})
    assert shadowed(now, MINE, steps(now, 0), offset) == (ids, until)


def test_without_a_report_the_shadow_goes_on() -> None:
    """A live host that is behind, or dead, leaves no gap; members that founded the suite are never asked."""
    now = registry({1: {0: 0}})
    assert shadowed(now, ("a@1", *MINE), steps(now, 0), 10**6) == (MINE, None)
    assert shadowed(registry({}), ("a@1", *MINE), steps(registry({}), 3), 5) == (MINE, None)


def test_whom_to_keep_loaded() -> None:
    """Whoever is asked at a position or after it."""
    now = registry({1: {0: 0}, 2: {0: 100}})
    assert shadowed_from(now, MINE, steps(now, 0), 99) == {"b@1", "c@1"}
    assert shadowed_from(now, MINE, steps(now, 0), 100) == {"c@1"}


@pytest.mark.parametrize(
    ("known", "position", "at"),
    [
        (2, 180, 150),  # it has read past the offset at which b came back
        (2, 150, None),
        (2, 120, None),
        (3, 180, None),  # it has been there
        (1, 180, None),  # it had asked b all the time
        (0, 180, None),
    ],
)
def test_going_back(known: int, position: int, at: int | None) -> None:
    """Only what was left to the live host, and was not asked there, is read again."""
    assert missed(registry({1: {0: 0}, 2: {0: 100}, 3: {0: 150}}), MINE, 0, known, position) == at


def test_a_new_candidate_is_no_reason_to_go_back() -> None:
    """Its past is for the backfill."""
    now = registry({1: {0: 0}, 3: {0: 50}}, d="shadow")
    assert missed(now, ("d@1",), 0, 1, 180) is None


def test_shares() -> None:
    """Each member that is not retired is in exactly one share, whatever becomes of the others."""
    now = registry({}, d="retired", e="queued")
    assert in_share(now, 0, 2) == ("a@1", "c@1", "e@1")
    assert in_share(now, 1, 2) == ("b@1",)


def test_reported() -> None:
    """The last report of a partition."""
    assert reported(registry({1: {0: 0}, 2: {0: 3}, 3: {1: 3}}), 0) == 2
    assert reported(registry({1: {0: 0}}), 1) == 0


def test_going_back_for_a_partition_that_moved() -> None:
    """b was left to a host that has lost the partition to one which does not have it yet."""
    now = registry({1: {0: 0}, 2: {0: 100}}, Serving(5, 120, 1), Serving(8, 160, 2))
    assert steps(now, 0) == [(0, 1), (100, 2), (120, 1), (160, 2)]
    assert missed(now, MINE, 0, 2, 140) == 120
    assert missed(now, MINE, 0, 5, 140) is None


@pytest.mark.parametrize(
    ("mine", "rest"),
    [
        ([(100, 2), (150, 3)], []),
        ([(120, 2), (150, 3)], []),
        ([(120, 2), (140, 3)], [(140, 3)]),
        ([(120, 2), (160, 3)], [(120, 2), (160, 3)]),  # the first again, or 3 would stand from 150 on
        ([(120, 2)], [(120, 2)]),
        ([(120, 1)], [(120, 1)]),
        ([(170, 3)], []),
        ([(170, 2), (180, 3)], [(170, 2), (180, 3)]),
        ([(90, 1), (100, 2), (150, 3), (170, 1)], [(170, 1)]),
    ],
)
def test_what_is_to_be_said(mine: list[tuple[int, int]], rest: list[tuple[int, int]]) -> None:
    """No more than it takes for the log to say what the host does, from where it has the partition."""
    now = registry({1: {0: 0}, 2: {0: 100}, 3: {0: 150}})
    assert unsaid(now, 0, mine) == rest
    told = registry({1: {0: 0}, 2: {0: 100}, 3: {0: 150}}, *(Serving(9 + i, *s) for i, s in enumerate(rest)))
    assert unsaid(told, 0, mine) == []
    assert unsaid(now, 1, mine) == mine  # of that partition nothing is known at all


class Recorded:
    def __init__(self, start: int, end: int, revision: int) -> None:
        self.start, self.end, self.revision = start, end, revision


def test_answers() -> None:
    """What another revision recorded is answered as recorded, what lies between and behind it by this one."""
    replay: Any = Replay(10)
    assert answers(replay, 10, 3) == [(10, 3)]
    for piece in (Recorded(10, 20, 2), Recorded(30, 40, 2), Recorded(40, 50, 3)):
        replay.add(piece)
    assert answers(replay, 10, 3) == [(10, 2), (20, 3), (30, 2), (40, 3)]
    assert answers(replay, 35, 4) == [(35, 2), (40, 3), (50, 4)]


def test_unlike() -> None:
    """In words."""
    assert unlike(["a", "b"], ["b", "c"]) == "+a -c"
    assert unlike(["a"], ["a"]) == ""
