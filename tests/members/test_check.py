"""The contract check, and the adapter for plain functions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from members.adapters import PerRequest
from members.check import check_member
from tests.members.panels import FEATURES, batch, spec


class Made:
    def __init__(self, vote: Any) -> None:
        self.vote = vote


def _slow(b: Any) -> Any:
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        pass
    return b["wind"] > 0


def test_a_good_member_has_no_findings() -> None:
    """From a spec or as an instance."""
    assert check_member(spec("m", "Above"), FEATURES) == []
    assert check_member(Made(lambda b: b["wind"] > 0), FEATURES) == []


@pytest.mark.parametrize(
    ("vote", "code"),
    [
        (lambda b: b["wind"], "answer"),
        (lambda b: np.ones(5, bool), "answer"),
        (lambda b: np.random.default_rng().random(len(b)) < 0.5, "random"),
        (lambda b: b["wind"] > b["wind"].sum(), "order"),
        (lambda b: np.array([c.startswith("a") for c in b["carrier"]], dtype=bool), "missing"),
        (lambda b: b["wind"] > b["wind"][0], "error"),
        (lambda b: b["gust"] > 0, "error"),
        (_slow, "slow"),
    ],
)
def test_findings(vote: Any, code: str) -> None:
    """Each way to break the contract is found, and named."""
    found = check_member(Made(vote), FEATURES, budget_ms=10)
    assert code in {each.code for each in found}, found


def test_a_loader_and_needs_are_checked() -> None:
    """What cannot be loaded or is not declared is a finding, not an exception."""
    assert [each.code for each in check_member(spec("m", "nowhere:M"), FEATURES)] == ["load"]
    assert [each.code for each in check_member(spec("m", "Above"), {})] == ["needs"]


def test_a_plain_function() -> None:
    """It gets one request as a dict; None, and a feature that it needs and lacks, abstain."""
    seen = []

    def function(request: dict[str, Any]) -> bool | None:
        seen.append(request)
        return None if request["wind"] == 0 else request["wind"] > 0

    votes = PerRequest(function, needs={"wind": float}).vote(batch([1.0, 0.0, None, -1.0]))
    assert votes.true.tolist() == [True, False, False, False]
    assert votes.abstain.tolist() == [False, True, True, False]
    assert seen[0] == {"wind": 1.0, "hour": 0, "carrier": "UA"}
    assert len(seen) == 3


def test_a_plain_function_sees_none_for_what_it_does_not_need() -> None:
    """Missing features are None, never the column's filling; other answers than bool or None are errors."""
    assert PerRequest(lambda request: request["wind"] is None).vote(batch([None])).true.tolist() == [True]
    with pytest.raises(TypeError):
        PerRequest(lambda request: 0.7).vote(batch([1.0]))  # type: ignore[arg-type,return-value]
