"""Blocks of evidence from the histogram: what each side of a comparison did, block by block. Pure.

A block counts for a comparison when label consumption has passed its end by the horizon (it is *mature*) and
every member that the comparison involves has scored all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANSWERED, HELD, LABEL, Cells
from evaluator.evidence.bets import Blocks
from evaluator.evidence.classes import Strata, classes, hold_out

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: What a class without labels counts as, on the two sides of a claim: the worst case for it.
WORST = {"promote": (0.0, 1.0), "flag": (1.0, 0.0)}


@dataclass(frozen=True)
class BlockTables:
    """Requests per pattern and block.

    yes: bool[P, M] over `ids`; n, s, f: float64[P, D] requests, labelled positives and negatives (in a suite
    that holds out, among requests that were not acted on); starts: int64[D] block starts in ms; whole:
    bool[D, M], the member has scored all of the block; group: int64[P], the sampling class of each pattern;
    block: its length in ms.
    """

    ids: list[str]
    yes: Mask
    n: Floats
    s: Floats
    f: Floats
    starts: NDArray[np.int64]
    whole: Mask
    group: NDArray[np.int64]
    block: int

    @cached_property
    def together(self) -> Floats:
        """float64[P, 3D]: n, s and s + f side by side."""
        return np.hstack([self.n, self.s, self.s + self.f])


def block_tables(
    cells: Cells,
    live: Sequence[str],
    end: int,
    block: int,
    *,
    missing_is_negative: bool = False,
    holds_out: bool = False,
) -> BlockTables:
    """The blocks of `block` ms that end at `end` (ms) or before it, from the first request on.

    `missing_is_negative`: a request without a label counts as negative, its time for one being over.
    `holds_out`: the suite holds out a share of what it flags. Acting may destroy or distort a label, so then
    labels of requests that were acted on are not used: those that were let through speak for their pattern.
    """
    inside = cells.starts < end - end % block
    numbers = cells.starts // block
    first = int(numbers[inside].min()) if inside.any() else 0
    days = int(numbers[inside].max()) - first + 1 if inside.any() else 0
    row = np.where(inside, numbers - first, 0)
    volume = np.bincount(row[inside], cells.volume[inside], days) if days else np.zeros(0)
    scored = np.zeros((days, len(cells.ids)))
    for m in range(len(cells.ids) if days else 0):
        scored[:, m] = np.bincount(row[inside], cells.scored[inside, m], days)
    patterns = len(cells.yes)
    keep = inside[cells.bucket]
    at = cells.pattern[keep] * max(days, 1) + row[cells.bucket[keep]]
    state, count = cells.state[keep], cells.count[keep]
    label = state & LABEL

    def table(chosen: Mask) -> Floats:
        flat = np.bincount(at[chosen], count[chosen], patterns * max(days, 1))
        return flat.reshape(patterns, max(days, 1))[:, :days].astype(np.float64)

    def strata(chosen: Mask) -> Strata:
        n, s, f = table(chosen), table(chosen & (label == 1)), table(chosen & (label == 2))
        revision = np.asarray(cells.revision, dtype=np.int64)
        return Strata(cells.yes, n, s, n - s if missing_is_negative else f, revision)

    column = {name: i for i, name in enumerate(cells.ids)}
    fired = np.any(cells.yes[:, [column[name] for name in live]], axis=1)
    if holds_out:
        acted = state & ANSWERED > 0
        touched = np.bincount(cells.pattern[keep], state & (ANSWERED | HELD), patterns) > 0
        found = hold_out(strata(acted), strata(~acted), fired | touched)
    else:
        found = strata(np.ones(len(at), dtype=np.bool_))
    group = classes(found, fired[:, None]) if patterns else np.zeros(0, dtype=np.int64)
    return BlockTables(
        cells.ids,
        cells.yes,
        found.n,
        found.s,
        found.f,
        (first + np.arange(days, dtype=np.int64)) * block,
        scored >= volume[:, None],
        group,
        block,
    )


@dataclass(frozen=True, slots=True)
class Sets:
    """Sets of requests, one per row, over the blocks.

    n, s, marked: float64[K, C, D] requests, labelled positives and labelled ones in each of C sampling
    classes. One row may stand for all members (K = 1).
    """

    n: Floats
    s: Floats
    marked: Floats

    def take(self, rows: Sequence[int]) -> Sets:
        """These rows."""
        return Sets(self.n[rows], self.s[rows], self.marked[rows])

    def without(self, part: Sets) -> Sets:
        """What is left of these sets when `part`, a subset of each, is taken out."""
        return Sets(self.n - part.n, self.s - part.s, self.marked - part.marked)

    @property
    def requests(self) -> Floats:
        """float64[K, D]"""
        return np.asarray(self.n.sum(axis=1))

    @property
    def labels(self) -> Floats:
        """float64[K, D]: labelled requests."""
        return np.asarray(self.marked.sum(axis=1))

    @property
    def positives(self) -> Floats:
        """float64[K, D]: labelled positives."""
        return np.asarray(self.s.sum(axis=1))

    @property
    def missing(self) -> Floats:
        """float64[K]: the share of requests in classes that never had a label."""
        total = self.n.sum(axis=(1, 2))
        never = np.where(self.marked.sum(axis=2) > 0, 0.0, self.n.sum(axis=2)).sum(axis=1)
        return np.asarray(np.divide(never, total, out=np.zeros(len(total)), where=total > 0))

    def side(self, worst: float, *, by_label: bool = False) -> tuple[Floats, Floats, Floats]:
        """float64[K, D] each: post-stratified precision (nan without any label), with classes without labels
        in a block at `worst`; and Σ N p̂ and Σ N over the classes that have labels there.

        by_label: these two as of so many labels as they are worth, (Σ N)² / Σ N²/n (Kish, "Survey sampling",
        1965): just the labels where there is one class. Requests without a label are no evidence.
        """
        known = self.marked > 0
        p = np.divide(self.s, self.marked, out=np.full(self.s.shape, worst), where=known)
        requests = self.requests
        some = known.any(axis=1)
        ratio = np.divide(
            (self.n * p).sum(axis=1),
            requests,
            out=np.full(requests.shape, np.nan),
            where=some & (requests > 0),
        )
        weight = np.where(known, self.n, 0.0)
        positives, total = (weight * p).sum(axis=1), weight.sum(axis=1)
        if by_label:
            spread = np.divide(weight**2, self.marked, out=np.zeros(weight.shape), where=known).sum(axis=1)
            worth = np.divide(total, spread, out=np.zeros(total.shape), where=spread > 0)
            positives, total = positives * worth, total * worth
        return ratio, positives, total


def sets(tables: BlockTables, select: Mask) -> Sets:
    """The sets select bool[P, K], one for each column, by sampling class and block."""
    days = tables.n.shape[1]
    count = int(tables.group.max(initial=0)) + 1
    out = np.empty((select.shape[1], count, 3 * days))
    for number in range(count):
        rows = slice(None) if count == 1 else tables.group == number
        out[:, number] = select[rows].astype(np.float64).T @ tables.together[rows]
    return _cut(out)


def flagged_by(tables: BlockTables, yes: Floats, parts: Sequence[Mask]) -> list[Sets]:
    """For each of `parts` (bool[P]) the sets of its requests that each member flags: K = M, one product.

    yes: float64[P, M], the `yes` of the tables.
    """
    width, members = tables.together.shape[1], yes.shape[1]
    count = int(tables.group.max(initial=0)) + 1
    out = np.empty((len(parts), members, count, width))
    for number in range(count):
        rows = slice(None) if count == 1 else tables.group == number
        wide = np.hstack([tables.together[rows] * part[rows, None] for part in parts])
        product = yes[rows].T @ wide
        out[:, :, number] = product.reshape(members, len(parts), width).swapaxes(0, 1)
    return [_cut(each) for each in out]


def _cut(sums: Floats) -> Sets:
    """float64[K, C, 3D] → the sets."""
    days = sums.shape[2] // 3
    return Sets(sums[:, :, :days], sums[:, :, days : 2 * days], sums[:, :, 2 * days :])


def compare(c: Sets, o: Sets, usable: Mask, claim: str, *, by_label: bool = False) -> Blocks:
    """Blocks for the bets on `claim` ("promote", "flag") over the sides c and o; usable bool[D, K].

    A block that is not usable has nan ratios and no counts: it is not bet on. by_label: counts that
    are worth as much as their labels, see `Sets.side`.
    """
    worst_c, worst_o = WORST[claim]
    use = usable.T
    (ratio_c, s_c, n_c), (ratio_o, s_o, n_o) = (
        side.side(worst, by_label=by_label) for side, worst in ((c, worst_c), (o, worst_o))
    )
    return Blocks(
        np.where(use, ratio_c, np.nan),
        np.where(use, ratio_o, np.nan),
        *(np.where(use, a, 0.0) for a in (s_c, n_c, s_o, n_o)),
    )
