"""Who scores what during a hand-over, from the registry alone."""

from __future__ import annotations

from typing import Any

import pytest

from members.recovery import Replay
from members.registry.lifecycle import Entry, Registry
from members.swapping import (
    in_share,
    missed,
    reported,
    serves_from,
    shadowed,
    shadowed_from,
    steps,
    unlike,
)
from streams.suite import MemberSpec


def registry(servings: dict[int, dict[int, int]], **states: Any) -> Registry:
    """a was live from the beginning, b in revision 2 only."""
    entries = {
        f"{name}@1": Entry(
            spec=MemberSpec(name=name, version="1", owner="o", loader="a:b"),
            state=state, ordinal=i, position=i, since=0, who="w", why="y",
        )
        for i, (name, state) in enumerate({"a": "live", "b": "shadow", "c": "shadow", **states}.items())
    }  # fmt: skip
    lives = {1: ("a@1",), 2: ("a@1", "b@1"), 3: ("a@1",)}
    return Registry(revision=max(lives), entries=entries, lives=lives, servings=servings)


MINE = ("b@1", "c@1")


def test_steps() -> None:
    """Before the first report the first revision answers; a revision that was overtaken never did."""
    assert steps(registry({}), 0) == [(0, 1)]
    assert steps(registry({1: {0: 0}, 2: {0: 100}, 3: {0: 150}}), 0) == [(0, 1), (100, 2), (150, 3)]
    assert steps(registry({1: {0: 0}, 2: {1: 100}}), 0) == [(0, 1)]
    assert steps(registry({2: {0: 100}, 3: {0: 90}}), 0) == [(0, 1), (90, 3)]
    assert steps(registry({2: {0: 100}, 3: {0: 150}}), 0, through=2) == [(0, 1), (100, 2)]


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
    """The latest revision that was reported for a partition."""
    assert reported(registry({1: {0: 0}, 2: {0: 3}}), 0) == 2
    assert reported(registry({1: {0: 0}}), 1) == 0


class Recorded:
    def __init__(self, start: int, end: int, revision: int) -> None:
        self.start, self.end, self.revision = start, end, revision


def test_serves_from() -> None:
    """What another revision recorded is answered as recorded: a revision begins behind the last of it."""
    replay: Any = Replay(10)
    assert serves_from(replay, 10, 3) == 10
    for piece in (Recorded(10, 20, 2), Recorded(30, 40, 2), Recorded(40, 50, 3)):
        replay.add(piece)
    assert serves_from(replay, 10, 3) == 40
    assert serves_from(replay, 10, 4) == 50


def test_unlike() -> None:
    """In words."""
    assert unlike(["a", "b"], ["b", "c"]) == "+a -c"
    assert unlike(["a"], ["a"]) == ""
