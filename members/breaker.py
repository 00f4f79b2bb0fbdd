"""A circuit breaker: pure, with the time passed in (seconds, any clock that only goes forward)."""

from __future__ import annotations

from dataclasses import dataclass

#: How many times longer than at first a member that keeps failing stays out.
_LONGEST = 10


@dataclass(slots=True)
class Breaker:
    """After `failures` in a row a member is out for `cooldown` seconds; then it is asked once more.

    If that fails too it is out for twice as long as the time before, up to ten times `cooldown`.
    """

    failures: int
    cooldown: float
    _row: int = 0
    _until: float | None = None
    _pause: float = 0.0

    def allows(self, now: float) -> bool:
        """Whether the member may be asked now."""
        return self._until is None or now >= self._until

    @property
    def suspended(self) -> bool:
        """Whether it is out, or on trial after having been out."""
        return self._until is not None

    def succeeded(self) -> bool:
        """It answered; True where that ends a suspension."""
        was = self.suspended
        self._row, self._until, self._pause = 0, None, 0.0
        return was

    def failed(self, now: float) -> bool:
        """It failed; True where that begins a suspension."""
        self._row += 1
        was = self.suspended
        if was or self._row >= self.failures:
            self._pause = min(self._pause * 2, self.cooldown * _LONGEST) if self._pause else self.cooldown
            self._until = now + self._pause
        return self.suspended and not was
