"""Times and durations, by table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.times import MAX_TIME, format_duration, format_time, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("1s", 1_000),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("1h30m", 5_400_000),
        ("1d2h3m4s5ms", 93_784_005),
    ],
)
def test_durations(text, ms):
    """Numbers with units, largest first or not, are milliseconds."""
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5min", "1.5h", "0s", "0h0m", "5m!", "P1D"])
def test_what_is_not_a_duration(text):
    """Anything else is refused, with an example of how to write one."""
    with pytest.raises(ValueError, match="write it like 5m"):
        parse_duration(text)


@given(st.integers(1, 10**13))
def test_a_duration_survives_being_written(ms):
    """What format_duration writes, parse_duration reads."""
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (1_700_000_000_000, 1_700_000_000_000),
        (1_700_000_000_000.0, 1_700_000_000_000),
        ("2013-01-01T00:00:00Z", 1_356_998_400_000),
        ("2013-01-01T00:00:00", 1_356_998_400_000),
        ("2013-01-01", 1_356_998_400_000),
        ("2013-01-01T01:00:00+01:00", 1_356_998_400_000),
        ("2013-01-01T00:00:00.25Z", 1_356_998_400_250),
        ("9999-12-31T23:59:59.999Z", MAX_TIME),
    ],
)
def test_instants(value, ms):
    """Epoch milliseconds, or ISO 8601, which is UTC where it names no zone."""
    assert parse_time(value) == ms


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2013-13-01", "1969-12-31T23:59:59Z", -1, MAX_TIME + 1, 1.5, True, False]
)
def test_what_is_not_an_instant(value):
    """Anything else, and what lies outside the years 1970 to 9999, is refused."""
    with pytest.raises(ValueError, match=r"is not|lies outside"):
        parse_time(value)


@given(st.integers(0, MAX_TIME))
def test_an_instant_survives_being_written(ms):
    """What format_time writes, parse_time reads."""
    assert parse_time(format_time(ms)) == ms
