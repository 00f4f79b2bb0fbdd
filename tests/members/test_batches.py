"""Records that are more than a broker takes are written as several."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from members.batches import Scorer, _split
from members.ownership import Owned
from streams.batch import Batch
from streams.metrics import Metrics
from streams.requests import DecodedBatch
from streams.votes import MAX_BYTES, decode
from streams.watermark import Watermark
from tests.members.hosting import T0
from tests.streams.test_votes import frame


def test_large_batches_are_split() -> None:
    """The pieces fit, cover the positions without gap or overlap, and hold every hit once."""
    n = 5000
    ids = [f"{i:0512d}" for i in range(n)]
    offsets = np.arange(100, 100 + 2 * n, 2)
    decoded = DecodedBatch(
        offsets, ids, np.zeros(n, np.int64), [()], Batch(np.full(n, T0, dtype=np.int64), {}), []
    )
    true = np.ones((2, n), dtype=np.bool_)
    whole = frame(["*", "a@1"], 90, 100 + 2 * n)
    values = _split(whole, decoded, true, ~true, np.zeros(2, dtype=np.bool_))
    pieces = [decode(value) for value in values]
    assert max(map(len, values)) <= MAX_BYTES
    assert len(pieces) > 1
    assert [piece.start for piece in pieces] == [90, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == whole.end
    assert [name for piece in pieces for name in piece.ids] == ids
    assert [piece.start + hit for piece in pieces for hit in piece.hits] == offsets.tolist()


@pytest.mark.parametrize(
    ("partitions", "stands"),
    [
        ([(T0, False), (T0 + 5000, False), (None, True)], T0),
        ([(T0, True), (T0 + 5000, False), (None, True)], T0 + 5000),
        ([(T0, True), (T0 + 5000, True)], T0 + 5000),
    ],
)
def test_the_watermark_gauge_leaves_idle_partitions_out(
    partitions: list[tuple[int | None, bool]], stands: int
) -> None:
    """It says what the status says: the least of the partitions that move, the furthest where none does."""
    owned = []
    for number, (known, idle) in enumerate(partitions):
        watermark = Watermark(1000, 3, known=known)
        owned.append(Owned(number, watermark, idle_told=idle))
    metrics = Metrics()
    scorer = SimpleNamespace(_members=["a@1"], _metrics=metrics.host)
    Scorer.show_watermarks(scorer, owned)  # type: ignore[arg-type]
    shown = metrics.registry.get_sample_value("chorus_watermark_timestamp_seconds", {"member": "a@1"})
    assert shown == stands / 1000
