"""A columnar batch of requests, as members see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: dict[str, Any] = {
    "float": np.float64,
    "int": np.int64,
    "bool": np.bool_,
    "category": object,
    "text": object,
}
_FILL: dict[str, Any] = {"float": np.nan, "int": 0, "bool": False, "category": None, "text": None}


class Batch:
    """n requests as columns.

    ``batch["wind"]`` is a read-only array[n] (float64, int64, bool, or object for categories and text);
    where a request lacks the feature the value is NaN, 0, False or None and ``batch.missing("wind")``
    (bool[n]) is True. ``batch.time`` is int64[n] epoch ms, ``batch.embeddings["text"]`` float32[n, d].
    """

    __slots__ = ("_columns", "_missing", "embeddings", "time")

    def __init__(
        self,
        time: NDArray[np.int64],
        columns: Mapping[str, NDArray[Any]],
        missing: Mapping[str, NDArray[np.bool_]] | None = None,
        embeddings: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.time = _read_only(np.asarray(time, dtype=np.int64))
        self._columns = {name: _read_only(column) for name, column in columns.items()}
        self._missing = {name: _read_only(mask) for name, mask in (missing or {}).items()}
        self.embeddings = {name: _read_only(matrix) for name, matrix in (embeddings or {}).items()}

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(f"no feature {name!r}: declare it under [features] in the suite file") from None

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    @property
    def features(self) -> list[str]:
        """The names of the features, in the order of the suite file."""
        return list(self._columns)

    def missing(self, name: str) -> NDArray[np.bool_]:
        """bool[n]: where the request lacks the feature. Raises KeyError for an undeclared feature."""
        mask = self._missing.get(name)
        return _read_only(np.zeros(len(self[name]), dtype=np.bool_)) if mask is None else mask

    def take(self, start: int, stop: int) -> Batch:
        """The requests start ≤ i < stop as a batch of their own; columns are views."""
        return Batch(
            self.time[start:stop],
            {name: column[start:stop] for name, column in self._columns.items()},
            {name: mask[start:stop] for name, mask in self._missing.items()},
            {name: matrix[start:stop] for name, matrix in self.embeddings.items()},
        )


def column(kind: str, values: list[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """One feature of n requests, None where missing → (array[n], missing mask or None where none is)."""
    fill = _FILL[kind]
    if None not in values:
        mask = None
    else:
        mask = np.fromiter((value is None for value in values), np.bool_, len(values))
        if fill is not None:
            values = [fill if value is None else value for value in values]
    if DTYPES[kind] is object:
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array, mask
    return np.array(values, dtype=DTYPES[kind]), mask


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
