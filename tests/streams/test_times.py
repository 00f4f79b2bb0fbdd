"""Instants and durations: what is read, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.times import MAX_TIME, format_duration, format_time, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1ms", 1),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("1h30m", 5_400_000),
    ],
)
def test_durations(text, ms):
    """A number and a unit, or several of them."""
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "0s", "-5m", "5 m", "1.5h", "5m!", "5M", "1h 30m"])
def test_what_is_not_a_duration(text):
    """Anything else is refused, zero included, with how to write it."""
    with pytest.raises(ValueError, match="write it like 5m"):
        parse_duration(text)


@given(st.integers(1, 10**12))
def test_a_duration_is_read_as_it_was_written(ms):
    """format_duration and parse_duration are inverse."""
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    "value",
    [
        1_357_000_200_000,
        1_357_000_200_000.0,
        "2013-01-01T00:30:00Z",
        "2013-01-01T00:30:00+00:00",
        "2013-01-01T00:30:00",
        "2013-01-01 00:30:00.000",
        "2013-01-01T01:30:00+01:00",
        "2012-12-31T19:30:00-05:00",
    ],
)
def test_one_instant_in_many_ways(value):
    """Epoch milliseconds and ISO 8601 name the same instant; without a zone it is UTC."""
    assert parse_time(value) == 1_357_000_200_000


@pytest.mark.parametrize(
    "value", ["", "yesterday", "1357000200000", -1, MAX_TIME + 1, 1.5, True, "1969-12-31T23:59:59Z"]
)
def test_what_is_not_an_instant(value):
    """Outside 1970 to 9999, in fractions of a millisecond, or anything else: a ValueError."""
    with pytest.raises(ValueError, match=r"is not|lies outside"):
        parse_time(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none(value):
    """NaN and infinity are refused, as a ValueError or as the OverflowError of int()."""
    with pytest.raises((ValueError, OverflowError)):
        parse_time(value)


@given(st.integers(0, MAX_TIME))
def test_an_instant_is_read_as_it_was_written(ms):
    """format_time and parse_time are inverse, to the millisecond."""
    assert parse_time(format_time(ms)) == ms


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_zone(moment, minutes):
    """The offset of a zone is taken into account, whatever it is."""
    zone = timezone(timedelta(minutes=minutes))
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=zone)
    exact = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time(moment.isoformat()) == exact
