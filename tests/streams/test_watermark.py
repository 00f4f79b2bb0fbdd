"""Watermarks: how far event time has come."""

from __future__ import annotations

import numpy as np
import pytest

from streams.watermark import Watermark

DAY = 86_400_000


def after(*batches: list[int], leap: int = 100, agree: int = 3, known: int | None = None) -> int | None:
    watermark = Watermark(leap, agree, known=known)
    for batch in batches:
        watermark.observe(np.array(batch, dtype=np.int64))
    return watermark.value


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([], None),
        ([[]], None),
        ([[5]], 5),
        ([[5], [3]], 5),
        ([[1, 2, 3, 4, 5]], 5),
        ([[5, 4], [3, 2], [1]], 5),
        ([[1, 2, 3, 4, DAY]], 4),  # one leaps ahead: it waits
        ([[1, 2, 3, 4, DAY, DAY + 1, DAY + 2]], 4),  # so do three
        ([[1, 2, 3, 4, DAY, DAY + 1, DAY + 2, DAY + 3]], DAY + 3),  # three others are there too
        ([[1, 2, 3, 4], [DAY], [50, 60]], 60),  # the rest goes on meanwhile
        ([[0, DAY]], 0),
    ],
)
def test_table(batches: list[list[int]], expected: int | None) -> None:
    """The greatest timestamp that does not leap ahead of what others have reached."""
    assert after(*batches) == expected


def test_order_within_batches_does_not_matter() -> None:
    """Any order and any cut into batches gives the same watermark."""
    rng = np.random.default_rng(1)
    times = rng.integers(0, 1000, 200)
    whole = after(times.tolist())
    for _ in range(20):
        rng.shuffle(times)
        assert after(*(part.tolist() for part in np.array_split(times, 7))) == whole


def test_known() -> None:
    """A host that takes over goes on from where the partition stood."""
    assert after(known=500) == 500
    assert after([400], known=500) == 500
    assert after([550], known=500) == 550
    assert after([DAY], known=500) == 500
