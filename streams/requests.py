"""Requests: one decoder per suite, from Kafka records to columns.

The decoder is a msgspec struct made from the suite's feature schema, so that parsing, type checks and the
choice of what is needed happen in one pass over the bytes. Unknown keys are ignored; a declared feature
that is absent or null is missing, never an error. Types are strict: true is no float, 1.0 no int, an int
must fit int64, and NaN is no JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.batch import Batch, column
from streams.errors import BadRecord
from streams.settings import Limits
from streams.suite import Suite
from streams.times import MAX_TIME, parse_time

#: Longest request id and segment value, in bytes of UTF-8.
MAX_ID = 512

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_SCALAR = str | int | float | bool | None
_TYPES: dict[str, Any] = {
    "float": float | None,
    "int": _INT64 | None,
    "bool": bool | None,
    "category": str | None,
    "text": str | None,
}


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """The n usable requests of a list of records, and the bad ones.

    offsets: int64[n], ascending; ids: n request ids; segment: int64[n] into `segments`, the distinct tuples
    of segment values (one per field of `suite.segments`); batch: the columns, with event times (ms).
    """

    offsets: NDArray[np.int64]
    ids: list[str]
    segment: NDArray[np.int64]
    segments: list[tuple[str, ...]]
    batch: Batch
    bad: list[tuple[Any, BadRecord]]

    @property
    def times(self) -> NDArray[np.int64]:
        """int64[n]: event times, epoch ms."""
        return self.batch.time

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, start: int, stop: int) -> DecodedBatch:
        """The usable requests start ≤ i < stop as a batch of their own, without the bad ones."""
        at = slice(start, stop)
        return DecodedBatch(
            self.offsets[at], self.ids[at], self.segment[at], self.segments, self.batch.take(start, stop), []
        )

    def pick(self, which: list[int]) -> DecodedBatch:
        """The usable requests at these indexes, as ids, offsets and times; the columns stay behind."""
        if len(which) == len(self.ids):
            return self
        return DecodedBatch(
            self.offsets[which],
            [self.ids[i] for i in which],
            self.segment[which],
            self.segments,
            Batch(self.times[which], {}),
            [],
        )


class RequestDecoder:
    """Decodes the requests of one suite. Built once; `decode` never raises for what a record holds."""

    def __init__(self, suite: Suite, limits: Limits) -> None:
        self._limits = limits
        self._features = list(suite.features.items())
        self._fields = list(suite.segments)
        # Struct fields are f0, f1, …: feature names need not be Python names.
        inner = [(f"f{i}", _TYPES[kind], None) for i, (_, kind) in enumerate(self._features)]
        rename = {f"f{i}": name for i, (name, _) in enumerate(self._features)}
        at = {name: i for i, name in enumerate(suite.features)}
        for field in self._fields:
            if field not in at:
                at[field] = len(inner)
                rename[f"f{at[field]}"] = field
                inner.append((f"f{at[field]}", _SCALAR, None))
        self._columns_of_fields = [at[field] for field in self._fields]
        features = msgspec.defstruct("Features", inner, rename=rename, gc=False)
        given = msgspec.defstruct(
            "Segments",
            [(f"s{i}", _SCALAR, None) for i in range(len(self._fields))],
            rename={f"s{i}": field for i, field in enumerate(self._fields)},
            gc=False,
        )
        standard = {"request_id", "timestamp", "features", "segments", "embeddings"}
        top = {f"t{i}": field for i, field in enumerate(self._fields) if field not in standard}
        self._top = [f"t{i}" if f"t{i}" in top else None for i in range(len(self._fields))]
        # A suite without features has nothing to ask for them.
        body = ("features", features) if self._features else ("features", features | None, None)
        request = msgspec.defstruct(
            "Request",
            [
                ("request_id", Annotated[str, msgspec.Meta(min_length=1)]),
                ("timestamp", int | float | str),
                body,
                ("segments", given | None, None),
                ("embeddings", dict[str, list[float]] | None, None),
                *((name, _SCALAR, None) for name in top),
            ],
            rename=top,
            gc=False,
        )
        self._empty = features()
        self._parse: Callable[[bytes], Any] = msgspec.json.Decoder(request).decode

    def decode(self, records: Sequence[Any], *, now: int | None = None) -> DecodedBatch:
        """Decode aiokafka records of one partition, in order. `now` (epoch ms) is the clock's by default."""
        parse, bad = self._parse, list[tuple[Any, BadRecord]]()
        now = time.time_ns() // 1_000_000 if now is None else now
        try:
            values = [record.value for record in records]
            if max(map(len, values), default=0) > self._limits.max_record:
                raise ValueError
            requests = [parse(value) for value in values]
            ids = [request.request_id for request in requests]
            if max(map(len, ids), default=0) > MAX_ID // 4:
                _check_lengths(ids)
            times = self._fast_times(records, requests, now)
            rows = self._segment_rows(requests)
        except Exception:  # one bad record at least: find out which, the good ones go on
            kept, requests, times_list = [], [], []
            for record in records:
                try:
                    request = self._one(record)
                    at = self._time(request, record, now)
                    self._segment_rows([request])
                except BadRecord as error:
                    bad.append((record, error))
                else:
                    times_list.append(at)
                    kept.append(record)
                    requests.append(request)
            records, times = kept, np.array(times_list, dtype=np.int64)
            ids = [request.request_id for request in requests]
            rows = self._segment_rows(requests)
        n = len(requests)
        segment, segments = _index(rows, n)
        return DecodedBatch(_offsets(records), ids, segment, segments, self._columns(requests, times), bad)

    def _fast_times(self, records: Sequence[Any], requests: list[Any], now: int) -> NDArray[np.int64]:
        """int64[n] when every timestamp is usable; raises otherwise."""
        stamps = [request.timestamp for request in requests]
        if set(map(type, stamps)) - {int}:
            stamps = [parse_time(stamp) for stamp in stamps]
        times = np.fromiter(stamps, np.int64, len(stamps))
        if len(times):
            produced = np.fromiter([record.timestamp for record in records], np.int64, len(records))
            produced[(produced <= 0) | (produced > now)] = now
            if times.min() < 0 or times.max() > MAX_TIME:
                raise ValueError
            if (times > produced + self._limits.max_future).any():
                raise ValueError
        return times

    def _one(self, record: Any) -> Any:
        value = record.value
        if not value:
            raise BadRecord("empty", "the record has no value")
        if len(value) > self._limits.max_record:
            raise BadRecord("oversized", f"{len(value)} bytes, more than {self._limits.max_record}")
        try:
            request = self._parse(value)
        except msgspec.ValidationError as error:
            text = str(error)
            missing = "missing required field" in text or "of length >= 1" in text
            raise BadRecord("missing_field" if missing else "wrong_type", text) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRecord("malformed", str(error)) from None
        try:
            _check_lengths([request.request_id])
        except ValueError:
            raise BadRecord("oversized", f"request_id is longer than {MAX_ID} bytes") from None
        return request

    def _time(self, request: Any, record: Any, now: int) -> int:
        try:
            at = parse_time(request.timestamp)
        except (ValueError, OverflowError) as error:
            raise BadRecord("bad_time", str(error)[:200]) from None
        produced = min(record.timestamp, now) if record.timestamp and record.timestamp > 0 else now
        if at > produced + self._limits.max_future:
            raise BadRecord("future_dated", f"{at - produced} ms ahead of the moment it was produced")
        return at

    def _segment_rows(self, requests: list[Any]) -> list[tuple[str, ...]]:
        """n tuples of segment values; [] when the suite has no segments. Raises BadRecord."""
        if not self._fields or not requests:
            return []
        inner = [request.features or self._empty for request in requests]
        given = [request.segments for request in requests]
        if given.count(None) == len(given):
            given = []
        columns = []
        for i, at in enumerate(self._columns_of_fields):
            attribute, top = f"f{at}", self._top[i]
            values = [getattr(features, attribute) for features in inner]
            if given:
                own = [None if each is None else getattr(each, f"s{i}") for each in given]
                values = [b if a is None else a for a, b in zip(own, values, strict=True)]
            if top is not None and None in values:
                values = [
                    getattr(request, top) if value is None else value
                    for value, request in zip(values, requests, strict=True)
                ]
            texts = [value if type(value) is str else _text(value) for value in values]
            longest = max(map(len, texts))
            if longest > MAX_ID // 4 and max(len(text.encode()) for text in texts) > MAX_ID:
                raise BadRecord("oversized", f"segment {self._fields[i]!r} is longer than {MAX_ID} bytes")
            columns.append(texts)
        return list(zip(*columns, strict=True))

    def _columns(self, requests: list[Any], times: NDArray[np.int64]) -> Batch:
        inner = [request.features or self._empty for request in requests]
        values = list(zip(*map(msgspec.structs.astuple, inner), strict=True)) or [()] * len(self._features)
        columns, missing = {}, {}
        for (name, kind), cells in zip(self._features, values, strict=False):
            columns[name], mask = _column(kind, cells)
            if mask is not None:
                missing[name] = mask
        return Batch(times, columns, missing, _embeddings([request.embeddings for request in requests]))


def _column(kind: str, cells: tuple[Any, ...]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """What `column` answers, without a look at every cell: None becomes NaN, and JSON has no NaN."""
    if kind not in ("float", "bool"):
        return column(kind, list(cells))
    try:
        array = np.fromiter(cells, np.float64, len(cells))
    except TypeError:  # there is a None
        array = np.array(cells, dtype=np.float64)
    mask: NDArray[np.bool_] | None = np.isnan(array)
    if mask is not None and not mask.any():
        mask = None
    if kind == "float":
        return array, mask
    return array == 1.0, mask


def _check_lengths(ids: list[str]) -> None:
    if max(len(each.encode()) for each in ids) > MAX_ID:
        raise ValueError


def _text(value: Any) -> str:
    """A segment value as text, as JSON would write a bool; "" where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _offsets(records: Sequence[Any]) -> NDArray[np.int64]:
    n = len(records)
    if n and records[-1].offset - records[0].offset == n - 1:  # ascending, so nothing is left out
        return np.arange(records[0].offset, records[0].offset + n, dtype=np.int64)
    return np.array([record.offset for record in records], dtype=np.int64)


def _index(rows: list[tuple[str, ...]], n: int) -> tuple[NDArray[np.int64], list[tuple[str, ...]]]:
    if not rows:
        return np.zeros(n, dtype=np.int64), [()] if n else []
    table = list(dict.fromkeys(rows))
    index = {row: i for i, row in enumerate(table)}
    return np.fromiter(map(index.__getitem__, rows), np.int64, n), table


def _embeddings(given: list[dict[str, list[float]] | None]) -> dict[str, NDArray[np.float32]]:
    """name → float32[n, d], where d is the commonest dimension in the batch.

    A request that lacks the embedding, or brings it in another dimension, has a row of NaN: a member sees
    that it cannot use it, and the others of the batch do not pay for it.
    """
    if given.count(None) == len(given):
        return {}
    out = {}
    for name in dict.fromkeys(name for each in given if each for name in each):
        vectors = [each.get(name) if each else None for each in given]
        sizes = [len(vector) for vector in vectors if vector]
        if not sizes:
            continue
        width = max(set(sizes), key=lambda size: (sizes.count(size), -size))
        nothing = [np.nan] * width
        rows = [vector if vector and len(vector) == width else nothing for vector in vectors]
        with np.errstate(over="ignore"):
            out[name] = np.array(rows, dtype=np.float32)
    return out
