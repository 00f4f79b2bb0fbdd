"""The demo's members keep the contract, and their figures over the year tell the story."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from evaluator.demo.features import table
from evaluator.demo.flights import Flights
from evaluator.demo.members import design
from evaluator.demo.run import suite_file
from evaluator.demo.train import THROUGH, fit
from streams.batch import Batch, column
from streams.suite import MemberSpec, Suite, load_suite

SUITE: Suite = load_suite(suite_file())


def make(spec: MemberSpec) -> Any:
    module, _, name = spec.loader.partition(":")
    member = getattr(importlib.import_module(module), name)(**spec.params)
    if hasattr(member, "load"):
        member.load()
    return member


def batch_of(rows: list[dict[str, Any]], time: int = 0) -> Batch:
    columns, missing = {}, {}
    for name, kind in SUITE.features.items():
        columns[name], mask = column(kind, [row.get(name) for row in rows])
        if mask is not None:
            missing[name] = mask
    return Batch(np.full(len(rows), time, np.int64), columns, missing)


@pytest.fixture(scope="module")
def votes(year: Flights) -> dict[str, np.ndarray]:
    """Member name → bool[n] over the year."""
    features = table(year)
    batch = Batch(year.scheduled * 60_000, features)
    out = {}
    for spec in SUITE.member:
        member = make(spec)
        n = len(batch)
        if spec.name == "brittle":
            n = int(np.searchsorted(batch.time, member.until))
        out[spec.name] = np.append(member.vote(batch.take(0, n)), np.zeros(len(batch) - n, bool))
    return out


def alone(votes: dict[str, np.ndarray], name: str) -> np.ndarray:
    others = [votes[spec.name] for spec in SUITE.member if spec.stage == "live" and spec.name != name]
    return votes[name] & ~np.logical_or.reduce(others)


@pytest.mark.parametrize("spec", SUITE.member, ids=lambda spec: spec.id)
def test_a_member_answers_with_one_bool_a_flight(spec: MemberSpec) -> None:
    """Any batch, empty and with features missing included, twice the same; needs are declared features."""
    member = make(spec)
    assert set(member.needs) <= set(SUITE.features)
    full = {"inbound": 60.0, "queue": 50.0, "hour": 22, "carrier": "EV", "distance": 500.0, "wind": 12.0}
    for rows in ([], [{}], [full], [full, {}, {"hour": 3, "distance": 1.0}] * 50):
        batch = batch_of(rows)
        first, second = member.vote(batch), member.vote(batch)
        assert first.shape == (len(rows),)
        assert first.dtype == np.bool_
        assert np.array_equal(first, second)


def test_the_broken_candidate_raises_in_summer() -> None:
    """It works until the end of May."""
    brittle = make(SUITE.members["brittle@1"])
    row = {"hour": 21}
    assert brittle.vote(batch_of([row], brittle.until))[0]
    with pytest.raises(RuntimeError, match="schedule"):
        brittle.vote(batch_of([row], brittle.until + 1))


def test_the_year_tells_the_story(year: Flights, votes: dict[str, np.ndarray]) -> None:
    """Unique precision over the year: who is good, who is not, who is redundant."""
    late = year.late
    suite = np.logical_or.reduce([votes[spec.name] for spec in SUITE.member if spec.stage == "live"])
    assert late[suite].mean() == pytest.approx(0.438, abs=0.002)
    expected = {
        "late_inbound": (4498, 0.609),
        "queue": (3890, 0.781),
        "regional_evening": (25055, 0.289),
        "logistic": (15622, 0.619),
        "evening_jam": (6221, 0.602),
        "red_eye": (8379, 0.177),
        "brittle": (7640, 0.174),
    }
    for name, (n, precision) in expected.items():
        mine = alone(votes, name)
        assert mine.sum() == pytest.approx(n, rel=0.001), name
        assert late[mine].mean() == pytest.approx(precision, abs=0.002), name
    assert alone(votes, "queue_twin").sum() == 0


def test_regional_evening_decays(year: Flights, votes: dict[str, np.ndarray]) -> None:
    """Good enough in July, bad in September."""
    month = np.array([int(name[5:7]) for name in year.ids])
    mine = alone(votes, "regional_evening")
    assert year.late[mine & (month == 7)].mean() > 0.4
    assert year.late[mine & (month == 9)].mean() < 0.2


def test_the_trained_model_has_not_seen_what_came_after(year: Flights) -> None:
    """The shipped weights are what training gives, on labels known by `trained_through`."""
    spec = SUITE.members["logistic@1"]
    assert spec.trained_through == THROUGH
    features = table(year)
    seen = year.labelled * 60_000 <= THROUGH
    weights, bias = fit(design(features.__getitem__, len(year))[seen], year.late[seen])
    member = make(spec)
    np.testing.assert_allclose(member.weights, weights, atol=1e-4)
    assert member.bias == pytest.approx(bias, abs=1e-4)
