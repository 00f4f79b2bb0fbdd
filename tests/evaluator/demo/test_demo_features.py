"""Features look at the past only, and say what they should."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.demo.features import inbound, queue, table
from evaluator.demo.flights import Flights


def pick(flights: Flights, where: np.ndarray) -> Flights:
    """Some of the flights."""
    values = {}
    for field in fields(Flights):
        value = getattr(flights, field.name)
        if field.name == "weather":
            values[field.name] = {name: column[where] for name, column in value.items()}
        elif field.name == "ids":
            values[field.name] = [value[i] for i in where]
        else:
            values[field.name] = value[where]
    return Flights(**values)


def flights(*rows: tuple[int, float | None, float | None, float | None, str]) -> Flights:
    """Flights from (scheduled, departed, arrived, delay, tailnum), times in min; one airport, one airline."""
    n = len(rows)
    column = [np.array([np.nan if row[k] is None else row[k] for row in rows], float) for k in (1, 2, 3)]
    same = np.array(["X"] * n, dtype=object)
    zeros = np.zeros(n, np.int64)
    return Flights(
        scheduled=np.array([row[0] for row in rows], np.int64),
        departed=column[0],
        arrived=column[1],
        delay=column[2],
        hour=zeros,
        weekday=zeros,
        distance=zeros.astype(float),
        carrier=same,
        origin=same,
        dest=same,
        tailnum=np.array([row[4] for row in rows], dtype=object),
        ids=[str(i) for i in range(n)],
        weather={},
    )


@settings(max_examples=25, deadline=None)
@given(at=st.integers(0, 40_000), seed=st.integers(0, 2**32 - 1))
def test_changing_the_future_changes_no_feature(year: Flights, at: int, seed: int) -> None:
    """Whatever happens at or after some moment, the features of flights scheduled until then stay."""
    some = pick(year, np.arange(at, at + 3000))
    now = int(some.scheduled[1500])
    rng = np.random.default_rng(seed)

    def other(times: np.ndarray) -> np.ndarray:
        future = ~(times < now)
        soon = rng.integers(0, 3, len(times)) * rng.integers(0, 300, len(times))  # often at once
        fresh = np.where(rng.random(len(times)) < 0.3, np.nan, now + soon)
        return np.where(future, fresh, times)

    arrived = other(some.arrived)
    values = {field.name: getattr(some, field.name) for field in fields(Flights)}
    values |= {"departed": other(some.departed), "arrived": arrived}
    values["delay"] = np.where(some.arrived < now, some.delay, rng.integers(-60, 900, len(some)))
    changed = Flights(**values)
    until = some.scheduled <= now
    before, after = table(some), table(changed)
    for name in before:
        np.testing.assert_array_equal(before[name][until], after[name][until], err_msg=name)


def test_a_plane_is_as_late_as_it_was_known_to_be() -> None:
    """Arrived: by its arrival; under way: by its departure; still at the gate: by how long it has stood."""
    for departed, arrived, delay, known in (
        (110, 300, 7, 7),  # there before 400
        (130, 400, 99, 30),  # still in the air when 400 begins
        (None, None, None, 300),  # has not left by 400
        (400, 600, 250, 300),
    ):
        late = inbound(flights((100, departed, arrived, delay, "N1"), (400, None, None, None, "N1")))
        assert np.isnan(late[0])
        assert late[1] == known


@pytest.mark.parametrize(("tail", "at"), [("N2", 400), ("NA", 400), ("N1", 100 + 601), ("N1", 100)])
def test_no_previous_leg_is_missing_not_zero(tail: str, at: int) -> None:
    """Another plane, no tail number, too long ago, or at the same minute."""
    first = "NA" if tail == "NA" else "N1"
    assert np.isnan(inbound(flights((100, 110, 300, 7, first), (at, None, None, None, tail)))).all()


def test_the_queue_is_a_plain_average() -> None:
    """Over the flights scheduled in the two hours before; later and simultaneous ones do not count."""
    some = flights(
        (0, 1000, None, None, "a"),  # too long ago
        (100, 130, None, None, "b"),  # 30 late
        (160, None, None, None, "c"),  # stands since 40
        (200, 190, None, None, "d"),  # the one that asks
        (200, 900, None, None, "e"),
    )
    late = queue(some, some.origin)
    assert late[3] == late[4] == (30 + 40) / 2
    assert np.isnan(late[0])


def test_the_queue_equals_a_loop(year: Flights) -> None:
    """Every value of some thousand flights, counted one by one."""
    some = pick(year, np.arange(20_000, 21_000))
    fast = queue(some, some.origin)
    for i in range(0, len(some), 7):
        now, late = int(some.scheduled[i]), []
        for j in range(i):
            then = int(some.scheduled[j])
            if some.origin[j] == some.origin[i] and now - 120 <= then < now:
                gone = some.departed[j] < now
                late.append(some.departed[j] - then if gone else now - then)
        if late:
            assert fast[i] == pytest.approx(sum(late) / len(late))
        else:
            assert np.isnan(fast[i])
