"""The circuit breaker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from members.breaker import Breaker


def test_suspends_after_consecutive_failures_only() -> None:
    """A success in between starts the count again."""
    breaker = Breaker(3, 10.0)
    assert not breaker.failed(0)
    assert not breaker.failed(0)
    assert not breaker.succeeded()
    assert not breaker.failed(0)
    assert not breaker.failed(0)
    assert breaker.failed(0)
    assert breaker.suspended
    assert not breaker.allows(9.9)


def test_probe_decides() -> None:
    """After the cooldown one more chance: a success resumes, and the next suspension is short again."""
    breaker = Breaker(1, 10.0)
    breaker.failed(0)
    assert breaker.allows(10)
    breaker.failed(10)
    assert not breaker.allows(29.9)
    assert breaker.allows(30)
    assert breaker.succeeded()
    assert not breaker.suspended
    breaker.failed(40)
    assert breaker.allows(50)


def test_cooldown_doubles_up_to_ten_times() -> None:
    """A member that is broken for good is asked more and more rarely, but is asked."""
    breaker, now, pauses = Breaker(1, 1.0), 0.0, []
    for _ in range(7):
        breaker.failed(now)
        at = now
        while not breaker.allows(now):
            now += 0.5
        pauses.append(now - at)
    assert pauses == [1, 2, 4, 8, 10, 10, 10]


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(["good", "bad"]), st.floats(0, 30)), max_size=60),
)
def test_never_stuck(failures: int, steps: list[tuple[str, float]]) -> None:
    """Whatever happens: suspended only after `failures` failures in a row, asked again within ten pauses."""
    breaker, now, row = Breaker(failures, 2.0), 0.0, 0
    for what, pause in steps:
        now += pause
        if not breaker.allows(now):
            assert breaker.suspended
            assert breaker.allows(now + 20.0)
            continue
        if what == "good":
            assert breaker.succeeded() == (row >= failures)
            row = 0
        else:
            row += 1
            assert breaker.failed(now) == (row == failures)
        assert breaker.suspended == (row >= failures)
