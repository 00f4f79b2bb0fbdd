"""One window's figures, from counts: pure arithmetic on the histogram, exact, with no clock and no I/O.

A figure over a period that a member it involves did not cover in full is given for the covered buckets;
where there are none, it is None. An undefined ratio is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANCHORED, ANSWERED, HELD, LABEL, Cells
from streams.labels import NEGATIVE

Mask = NDArray[np.bool_]

#: The states that these figures tell apart: a request that was held out is one that was not answered True.
STATES = HELD


@dataclass(frozen=True, slots=True)
class Count:
    """Requests, and how many of them are labelled what; all None where nothing was covered."""

    n: int | None
    positive: int | None
    negative: int | None

    @property
    def unlabelled(self) -> int | None:
        if self.n is None or self.positive is None or self.negative is None:
            return None
        return self.n - self.positive - self.negative

    @property
    def precision(self) -> float | None:
        """Positive share of the labelled; None where none is labelled."""
        return ratio(self.positive, None if self.positive is None else self.positive + (self.negative or 0))


UNKNOWN = Count(None, None, None)


def ratio(part: int | None, whole: int | None) -> float | None:
    """part / whole, None where either is None or whole is 0."""
    return None if part is None or not whole else part / whole


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """What one member did in a window. `covered`: [start, end) intervals in ms."""

    id: str
    covered: list[tuple[int, int]]
    scored: int
    abstained: int
    errors: int
    flagged: Count
    unique: Count
    unique_recall: float | None
    overlap: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Window:
    """One window [start, end) in ms of event time, for a suite of `live` members."""

    start: int
    end: int
    volume: int
    covered: list[tuple[int, int]]
    flagged: Count
    unflagged: Count
    answered: Count
    recall: float | None
    members: list[MemberFigures]


def evaluate(
    cells: Cells, live: Sequence[str], start: int, end: int, bucket_ms: int, silent_before: int | None = None
) -> Window:
    """The figures of the window [start, end), both bucket boundaries in ms, for the suite `live`.

    `unique` of a live member: it alone of the live ones says True; of any other member: it does and no
    live one does. Where no label means negative, requests without one in buckets before `silent_before` (ms)
    count as negative. Raises KeyError for a live member that is not among `cells.ids`.
    """
    return _Evaluation(cells, live, start, end, bucket_ms, silent_before).window()


class _Evaluation:
    def __init__(
        self, cells: Cells, live: Sequence[str], start: int, end: int, bucket_ms: int, silent: int | None
    ) -> None:
        self.cells, self.start, self.end, self.bucket_ms = cells, start, end, bucket_ms
        self.silent: Mask = (
            np.zeros(len(cells.starts), dtype=np.bool_) if silent is None else cells.starts < silent
        )
        unlabelled = self.silent[cells.bucket] & (cells.state & LABEL == 0)
        state = cells.state & ~HELD
        self.state = np.where(unlabelled, state + NEGATIVE + ANCHORED, state)
        column = {name: i for i, name in enumerate(cells.ids)}
        self.live = np.array([column[name] for name in live], dtype=np.int64)
        self.inside: Mask = (cells.starts >= start) & (cells.starts < end)
        self.covered: Mask = cells.scored >= cells.volume[:, None]  # [B, M]
        self.covered_live: Mask = np.all(self.covered[:, self.live], axis=1)
        self.yes: NDArray[np.float64] = cells.yes.astype(np.float64)
        self._tables: dict[bytes, NDArray[np.float64]] = {}
        self._known: dict[bytes, bool] = {}
        self._caught: dict[bytes, int | None] = {}

    def table(self, buckets: Mask) -> NDArray[np.float64]:
        """float64[P, STATES]: requests per pattern and state in these buckets of the window.

        float64 holds whole numbers up to 2^53 exactly, and its matrix products are BLAS's.
        """
        key = buckets.tobytes()
        found = self._tables.get(key)
        if found is None:
            cells = self.cells
            keep = (buckets & self.inside)[cells.bucket]
            flat: NDArray[np.float64] = np.bincount(
                cells.pattern[keep] * STATES + self.state[keep],
                weights=cells.count[keep],
                minlength=len(cells.yes) * STATES,
            ).astype(np.float64)
            found = self._tables[key] = flat.reshape(len(cells.yes), STATES)
        return found

    def positives(self, buckets: Mask) -> int | None:
        """Labelled positives in these buckets; None where a label came without `requested_at`."""
        key = buckets.tobytes()
        if key not in self._caught:
            self._caught[key] = _positives(self.table(buckets))
        return self._caught[key]

    def known(self, buckets: Mask) -> bool:
        """Whether these buckets hold any of the window's volume, or there is none to hold."""
        key = buckets.tobytes()
        if key not in self._known:
            volume = self.cells.volume
            self._known[key] = bool(not volume[self.inside].any() or volume[buckets & self.inside].any())
        return self._known[key]

    def intervals(self, buckets: Mask) -> list[tuple[int, int]]:
        """The window less the buckets that are not covered; a bucket without requests is covered."""
        out, at = [], self.start
        for gap in self.cells.starts[self.inside & ~buckets].tolist():
            if at < gap:
                out.append((at, gap))
            at = gap + self.bucket_ms
        return [*out, (at, self.end)] if at < self.end else out

    def window(self) -> Window:
        cells = self.cells
        buckets = self.covered_live
        table, known = self.table(buckets), self.known(buckets)
        fired = np.any(cells.yes[:, self.live], axis=1)
        flagged, missed = _count(table[fired].sum(axis=0)), _count(table[~fired].sum(axis=0))
        inside = buckets & self.inside
        volume = int(cells.volume[inside].sum())
        # Requests that nobody flagged or labelled have no record: they are what the volume leaves.
        silent = inside & self.silent
        recorded = int(cells.count[silent[cells.bucket]].sum())
        unseen = max(int(cells.volume[silent].sum()) - recorded, 0)
        unflagged = Count(volume - (flagged.n or 0), missed.positive, (missed.negative or 0) + unseen)
        everything = self.table(np.ones_like(self.inside)).sum(axis=0)
        return Window(
            self.start,
            self.end,
            int(cells.volume[self.inside].sum()),
            self.intervals(buckets),
            flagged if known else UNKNOWN,
            unflagged if known else UNKNOWN,
            _count(everything * _IS_ANSWERED),
            ratio(flagged.positive, self.positives(buckets)) if known else None,
            self.members(),
        )

    def members(self) -> list[MemberFigures]:
        """All members' figures; those that cover the same buckets share one matrix product."""
        cells = self.cells
        firing = cells.yes[:, self.live].sum(axis=1)
        covered = np.ascontiguousarray(self.covered.T)
        both = covered & self.covered_live
        (flagged,) = self._sums(covered, [np.ones(len(firing), dtype=np.bool_)])
        unique, alone = self._sums(both, [firing == 0, firing == 1])
        unique[self.live] = alone[self.live]
        scored, abstained, failed = (
            table[self.inside].sum(axis=0).tolist() for table in (cells.scored, cells.abstained, cells.failed)
        )
        overlap = self._overlap()
        out = []
        for m, name in enumerate(cells.ids):
            own = unique[m] if self.known(both[m]) else None
            count = UNKNOWN if own is None else _count(own)
            out.append(
                MemberFigures(
                    name,
                    self.intervals(covered[m]),
                    scored[m],
                    abstained[m],
                    failed[m],
                    _count(flagged[m]) if self.known(covered[m]) else UNKNOWN,
                    count,
                    ratio(count.positive, self.positives(both[m])),
                    {cells.ids[o]: n for o, n in enumerate(overlap[m]) if o != m},
                )
            )
        return out

    def _sums(self, buckets: Mask, parts: Sequence[Mask]) -> list[NDArray[np.float64]]:
        """float64[M, STATES] for each part, bool[P]: what member m flags of its patterns in buckets[m]."""
        out = np.zeros((len(buckets), len(parts), STATES))
        for members, mask in _groups(buckets):
            wide = np.hstack([self.table(mask) * part[:, None] for part in parts])
            product = _columns(self.yes, members).T @ wide
            out[members] = product.reshape(len(members), len(parts), STATES)
        return [out[:, i] for i in range(len(parts))]

    def _overlap(self) -> list[list[int | None]]:
        """[M][M]: requests that both of two members flagged, where both covered; None: they did nowhere."""
        size = self.yes.shape[1]
        groups = _groups([self.covered[:, m] for m in range(size)])
        out: list[list[int | None]] = [[None] * size for _ in range(size)]
        for some, mask in groups:
            for others, other in groups:
                both = mask & other
                if not self.known(both):
                    continue
                weight = self.table(both).sum(axis=1)
                weighed = _columns(self.yes, others) * weight[:, None]
                product = (_columns(self.yes, some).T @ weighed).astype(np.int64).tolist()
                for m, row in zip(some, product, strict=True):
                    for o, n in zip(others, row, strict=True):
                        out[m][o] = n
        return out


def _columns(table: NDArray[np.float64], members: list[int]) -> NDArray[np.float64]:
    """These columns, ascending; the table itself where they are all, which saves a copy."""
    return table if len(members) == table.shape[1] else table[:, members]


def _groups(masks: Iterable[Mask]) -> list[tuple[list[int], Mask]]:
    """Indexes of equal masks together."""
    groups: dict[bytes, tuple[list[int], Mask]] = {}
    for i, mask in enumerate(masks):
        groups.setdefault(mask.tobytes(), ([], mask))[0].append(i)
    return list(groups.values())


_STATE = np.arange(STATES)
_IS_POSITIVE = _STATE & LABEL == 1
_IS_NEGATIVE = _STATE & LABEL == 2
_IS_ANSWERED = _STATE & ANSWERED > 0
_IS_UNANCHORED = (_STATE & LABEL > 0) & (_STATE & ANCHORED == 0)


def _count(sums: NDArray[np.float64]) -> Count:
    """float64[STATES] → the counts."""
    return Count(int(sums.sum()), int(sums[_IS_POSITIVE].sum()), int(sums[_IS_NEGATIVE].sum()))


def _positives(table: NDArray[np.float64]) -> int | None:
    """Labelled positives; None where a label came without `requested_at`.

    The label of a request that nobody flagged can only be placed by its `requested_at`: where some labels
    lack it, positives that nobody caught are missing from the counts, and recall cannot be known.
    """
    if table[:, _IS_UNANCHORED].any():
        return None
    return int(table[:, _IS_POSITIVE].sum())
