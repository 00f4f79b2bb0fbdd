"""What would be, from stored patterns: any suite's figures, exactly, with nothing asked again.

A pattern says which members voted True for a request, so every OR of members has a count. The time taken
depends on the number of patterns, never on the number of requests. Labels count as they are: where they are
selective use `evaluator.evidence.classes`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANCHORED, LABEL, Cells
from evaluator.evidence.confidence import dispersion, interval
from evaluator.windows import Count, ratio

Floats = NDArray[np.float64]

MOST = 20  # members of which all suites are listed: 2^20 sums of each kind


@dataclass(frozen=True, slots=True)
class Histogram:
    """Requests per pattern and block, over the buckets that all members of `ids` covered.

    ids: the columns of `yes` bool[P, M]; n float64[P]: requests; positive, negative float64[P, D]: labelled
    ones per block. known: False where no bucket was covered. anchored: False where a label came without
    `requested_at`; positives that nobody caught are then missing, and recall is unknown.
    """

    ids: list[str]
    yes: NDArray[np.bool_]
    n: Floats
    positive: Floats
    negative: Floats
    known: bool
    anchored: bool

    def columns(self, members: Collection[str]) -> NDArray[np.int64]:
        """int64[k]: their columns. Raises KeyError for a member that is not among `ids`."""
        column = {name: i for i, name in enumerate(self.ids)}
        return np.array([column[name] for name in members], dtype=np.int64)

    def fired(self, members: Collection[str]) -> NDArray[np.bool_]:
        """bool[P]: at least one of them voted True."""
        return np.asarray(self.yes[:, self.columns(members)].any(axis=1))


@dataclass(frozen=True, slots=True)
class Effect:
    """A suite's figures. Ratios and their bounds are None where nothing is known."""

    members: list[str]
    flagged: Count
    precision: float | None
    precision_interval: tuple[float, float] | None
    recall: float | None
    recall_interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Step:
    """One promotion of an order: `unique` is what the member adds to the members before it."""

    member: str
    unique: Count
    overall: float | None  # the precision that its own was measured against
    precision: float | None  # the suite's, with it
    recall: float | None


@dataclass(frozen=True, slots=True)
class Redundancy:
    """How much of what a member flags is its own; `twin` flags most of the rest (None: there is no rest)."""

    flagged: int
    own: int
    twin: str | None
    shared: int

    @property
    def own_share(self) -> float | None:
        return ratio(self.own, self.flagged)


def histogram(cells: Cells, ids: Sequence[str], start: int, end: int, block_ms: int) -> Histogram:
    """The window [start, end), in ms, over the members `ids`; blocks of block_ms are counted from 0.

    Raises KeyError for a member that is not among `cells.ids`.
    """
    column = {name: i for i, name in enumerate(cells.ids)}
    mine = np.array([column[name] for name in ids], dtype=np.int64)
    inside = (cells.starts >= start) & (cells.starts < end)
    buckets = inside & (cells.scored[:, mine] >= cells.volume[:, None]).all(axis=1)
    known = bool(not cells.volume[inside].any() or cells.volume[buckets].any())
    blocks, block = np.unique(cells.starts[buckets] // block_ms, return_inverse=True)
    row = np.zeros(len(cells.starts), dtype=np.int64)
    row[buckets] = block
    keep = buckets[cells.bucket]
    pattern, state, count = cells.pattern[keep], cells.state[keep], cells.count[keep]
    at = pattern * max(len(blocks), 1) + row[cells.bucket[keep]]
    shape = (len(cells.yes), max(len(blocks), 1))
    label = state & LABEL

    def table(code: int) -> Floats:
        chosen = label == code
        flat = np.bincount(at[chosen], count[chosen], shape[0] * shape[1])
        return flat.reshape(shape).astype(np.float64)

    return Histogram(
        list(ids),
        cells.yes[:, mine],
        np.bincount(pattern, count, len(cells.yes)).astype(np.float64),
        table(1),
        table(2),
        known,
        not bool(((label > 0) & (state & ANCHORED == 0)).any()),
    )


def suite(h: Histogram, members: Sequence[str], alpha: float = 0.05) -> Effect:
    """What the OR of `members` would have done, with confidence sequences at 1 − alpha.

    Relative recall: of all labelled positives, including those that no member caught. The intervals allow for
    labels of one block that resemble each other. Raises KeyError for an unknown member.
    """
    fired = h.fired(members)
    if not h.known:
        return Effect(list(members), Count(None, None, None), None, None, None, None)
    positive, negative = h.positive[fired].sum(axis=0), h.negative[fired].sum(axis=0)
    everything = h.positive.sum(axis=0)
    count = Count(int(h.n[fired].sum()), int(positive.sum()), int(negative.sum()))
    recall = ratio(count.positive, int(everything.sum())) if h.anchored else None
    return Effect(
        list(members),
        count,
        count.precision,
        _interval(positive, positive + negative, alpha),
        recall,
        None if recall is None else _interval(positive, everything, alpha),
    )


def change(
    h: Histogram,
    live: Sequence[str],
    add: Collection[str] = (),
    drop: Collection[str] = (),
    alpha: float = 0.05,
) -> tuple[Effect, Effect]:
    """The suite as it is, and with `add` added and `drop` dropped, over the same buckets."""
    then = [name for name in live if name not in drop]
    then += [name for name in dict.fromkeys(add) if name not in then]
    return suite(h, live, alpha), suite(h, then, alpha)


def order(
    h: Histogram, candidates: Sequence[str], live: Sequence[str] = (), floor: float = 0.0
) -> list[Step]:
    """The best order of promotion: again and again the candidate whose unique precision is highest.

    It stops where none reaches the precision of the suite so far (`floor` while there is none). Ties go to
    the member that adds more positives, then to the one named first. Point estimates, no evidence.
    """
    left = [name for name in candidates if name not in live]
    if not h.known:
        return []
    positive, labelled = h.positive.sum(axis=1), (h.positive + h.negative).sum(axis=1)
    weights = np.stack([h.n, positive, labelled], axis=1)
    yes = h.yes.astype(np.float64)
    free = ~h.fired(live)
    total = weights[~free].sum(axis=0)
    unique = yes[free].T @ weights[free]  # [M, 3], kept up to date by what each promotion takes away
    steps = []
    while left:
        overall = total[1] / total[2] if total[2] else None
        columns = h.columns(left)
        n, s, labels = unique[columns].T
        own = np.divide(s, labels, out=np.full(len(left), -1.0), where=labels > 0)
        best = int(np.lexsort((np.arange(len(left)), -s, -own))[0])
        if labels[best] == 0 or own[best] < (floor if overall is None else overall):
            break
        count = Count(int(n[best]), int(s[best]), int(labels[best] - s[best]))
        total = total + unique[columns[best]]
        taken = free & h.yes[:, columns[best]]
        free &= ~taken
        unique = unique - yes[taken].T @ weights[taken]
        recall = ratio(int(total[1]), int(positive.sum())) if h.anchored else None
        steps.append(Step(left.pop(best), count, overall, total[1] / total[2], recall))
    return steps


def shapley(h: Histogram, members: Sequence[str]) -> dict[str, float] | None:
    """Each member's fair share of the suite's recall: a caught positive is shared by those who caught it.

    The Shapley value of the game "positives caught by the OR"; the shares sum to the suite's recall. None
    where recall is unknown.
    """
    positive = h.positive.sum(axis=1)
    if not h.known or not h.anchored or not positive.sum():
        return None
    yes = h.yes[:, h.columns(members)]
    each = np.divide(positive, yes.sum(axis=1), out=np.zeros(len(positive)), where=yes.any(axis=1))
    return dict(zip(members, (each @ yes / positive.sum()).tolist(), strict=True))


def all_suites(h: Histogram, members: Sequence[str]) -> NDArray[np.int64]:
    """int64[3, 2^k]: requests flagged, positives and negatives among them, of every suite.

    Column c is the suite of those members[i] whose bit i is set in c. Sums over subsets, one pass a member.
    Raises ValueError for more than 20 members.
    """
    k = len(members)
    if k > MOST:
        raise ValueError(f"all suites of {k} members are too many; at most {MOST}")
    code = (
        h.yes[:, h.columns(members)] @ (1 << np.arange(k, dtype=np.int64)) if k else np.zeros(len(h.n), int)
    )
    weights = (h.n, h.positive.sum(axis=1), h.negative.sum(axis=1))
    missed = np.stack([np.bincount(code, w, 1 << k) for w in weights])
    for i in range(k):  # missed[c] becomes the sum over patterns that are subsets of c
        pairs = missed.reshape(3, -1, 2, 1 << i)
        pairs[:, :, 1] += pairs[:, :, 0]
    return np.asarray(missed[:, -1:] - missed[:, ::-1], dtype=np.int64)  # c reversed is its complement


def redundancy(h: Histogram, member: str, members: Sequence[str]) -> Redundancy:
    """Whether the rest of the suite `members` catches what `member` does, and who most of it."""
    others = [name for name in members if name != member]
    mine = h.yes[:, h.columns([member])[0]]
    n = h.n[mine]
    theirs = h.yes[mine][:, h.columns(others)]
    shared = n @ theirs
    best = int(shared.argmax()) if len(others) else 0
    most = int(shared[best]) if len(others) else 0
    own = int(n[~theirs.any(axis=1)].sum())
    return Redundancy(int(n.sum()), own, others[best] if most else None, most)


def _interval(s: Floats, n: Floats, alpha: float) -> tuple[float, float]:
    low, high = interval(s.sum(), n.sum(), alpha, dispersion(s, n))
    return float(low), float(high)
