"""A batch as members see it: dtypes, missing masks, slices, nothing writable."""

from __future__ import annotations

import numpy as np
import pytest

from streams.batch import Batch, column


@pytest.mark.parametrize(
    ("kind", "values", "dtype", "filled"),
    [
        ("float", [1.5, None, 2], np.float64, np.nan),
        ("int", [2**53 + 1, None, -3], np.int64, 0),
        ("bool", [True, None, False], np.bool_, False),
        ("category", ["a", None, "b"], object, None),
        ("text", ["a b", None, ""], object, None),
    ],
)
def test_a_column_of_each_kind(kind, values, dtype, filled):
    """Values keep their exactness; where one is missing there is the filler, and the mask is True."""
    array, missing = column(kind, values)
    assert array.dtype == dtype
    assert missing is not None
    assert missing.tolist() == [False, True, False]
    assert [array[0], array[2]] == [values[0], values[2]]
    assert array[1] is filled or array[1] == filled or (kind == "float" and np.isnan(array[1]))


@pytest.mark.parametrize("kind", ["float", "int", "bool", "category", "text"])
def test_an_empty_column(kind):
    """No requests: an array of length 0, of the right dtype."""
    array, missing = column(kind, [])
    assert len(array) == 0
    assert missing is None


def batch() -> Batch:
    wind, missing = column("float", [1.0, None, 3.0])
    return Batch(
        np.array([10, 20, 30]),
        {"wind": wind, "name": column("category", ["a", "b", "c"])[0]},
        {"wind": missing} if missing is not None else {},
        {"text": np.ones((3, 2), dtype=np.float32)},
    )


def test_what_a_member_reads():
    """Columns, masks, times, embeddings, length."""
    b = batch()
    assert len(b) == 3
    assert b.features == ["wind", "name"]
    assert "wind" in b
    assert "rain" not in b
    assert b.time.tolist() == [10, 20, 30]
    assert b.missing("wind").tolist() == [False, True, False]
    assert not b.missing("name").any()
    assert b.embeddings["text"].shape == (3, 2)


def test_an_undeclared_feature():
    """The error tells where to declare it; so does the one of its mask."""
    for ask in (lambda: batch()["rain"], lambda: batch().missing("rain")):
        with pytest.raises(KeyError, match="declare it under"):
            ask()


def test_nothing_can_be_written():
    """One member cannot change what the next one sees."""
    b = batch()
    for array in (b["wind"], b["name"], b.time, b.missing("wind"), b.missing("name"), b.embeddings["text"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_slice_is_a_batch():
    """take() cuts everything alike."""
    part = batch().take(1, 3)
    assert len(part) == 2
    assert part.time.tolist() == [20, 30]
    assert part["name"].tolist() == ["b", "c"]
    assert part.missing("wind").tolist() == [True, False]
    assert part.embeddings["text"].shape == (2, 2)
    assert len(batch().take(3, 3)) == 0
