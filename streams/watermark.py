"""How far event time has come on one partition, though single timestamps leap ahead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Watermark:
    """The event time (ms) up to which one partition has been scored.

    It follows the greatest timestamp seen. One that leaps more than `leap` ms ahead of the others waits
    until `agree` others are there too, so that a single wrong clock cannot close windows that are still
    filling. Only the `agree` + 1 greatest timestamps are kept.
    """

    __slots__ = ("_keep", "_leap", "_top")

    def __init__(self, leap: int, agree: int, *, known: int | None = None) -> None:
        """`known` is where a host that had the partition before has got to."""
        self._leap, self._keep = leap, agree + 1
        seen = [] if known is None else [known] * self._keep
        self._top: NDArray[np.int64] = np.array(seen, dtype=np.int64)

    def observe(self, times: NDArray[np.int64]) -> None:
        """Take in event times (int64[n], any order)."""
        top = np.concatenate((self._top, times))
        if len(top) > self._keep:
            top = np.partition(top, len(top) - self._keep)[-self._keep :]
        self._top = np.sort(top)

    @property
    def value(self) -> int | None:
        """Epoch ms, or None before the first timestamp.

        While fewer than `agree` + 1 timestamps are there, the least of them is what the others leap from.
        """
        if not len(self._top):
            return None
        return int(self._top[self._top <= self._top[0] + self._leap][-1])
