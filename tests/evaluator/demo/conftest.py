"""The first weeks of the demo's year, read once."""

from __future__ import annotations

import pytest

from evaluator.demo.flights import Flights, load_flights


@pytest.fixture(scope="session")
def year() -> Flights:
    """The whole year."""
    return load_flights()
