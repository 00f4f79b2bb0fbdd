"""What a member may answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from members.errors import LoadError, VoteError
from members.protocol import Votes, needs_of, normalise


@pytest.mark.parametrize(
    "answer", [np.array([True, False]), [True, False], [np.True_, False], (True, False), np.array([1, 0]) > 0]
)
def test_bools_are_taken(answer: Any) -> None:
    """Arrays and lists of bool are an answer."""
    true, abstain = normalise(answer, 2)
    assert true.tolist() == [True, False]
    assert abstain is None or not abstain.any()


@pytest.mark.parametrize(
    "answer",
    [
        np.array([1.0, np.nan]),
        np.array([1, 0]),
        np.array([True, None], dtype=object),
        [True, None],
        [1, 0],
        [True, float("nan")],
        [[True], [True, False]],
        [True],
        np.ones((2, 1), bool),
        np.bool_(True),
        True,
        None,
        "yes",
        {0: True},
        Votes(np.ones(2, bool), np.zeros(3, bool)),
        Votes(np.ones(2, bool), np.zeros(2)),
        Votes([True], [False]),
    ],
)
def test_anything_else_is_refused(answer: Any) -> None:
    """A NaN where a bool belongs, numbers, objects and wrong shapes are errors, never votes."""
    with pytest.raises(VoteError):
        normalise(answer, 2)


def test_abstentions_come_through() -> None:
    """Votes carries both masks."""
    true, abstain = normalise(Votes([True, False], [False, True]), 2)
    assert true.tolist() == [True, False]
    assert abstain is not None
    assert abstain.tolist() == [False, True]


@pytest.mark.parametrize("answer", [[], np.zeros(0, bool), Votes([], [])])
def test_nothing_for_nothing(answer: Any) -> None:
    """No requests, no votes."""
    assert normalise(answer, 0)[0].shape == (0,)


@pytest.mark.parametrize("needs", [{"wind": float}, ["wind"], ("wind",), {"wind": int, "carrier": str}])
def test_needs(needs: Any) -> None:
    """`needs` names features, as a dict or any iterable, of the class or of the instance."""
    member = type("M", (), {"needs": needs})()
    assert set(needs_of(member, {"wind": "int", "carrier": "category"})) == set(needs)


def test_undeclared_need_names_the_fix() -> None:
    """A feature that the suite does not declare cannot be needed."""
    with pytest.raises(LoadError, match=r"'gust'.*\[features\]"):
        needs_of(type("M", (), {"needs": {"gust": float}})(), {"wind": "float"})
