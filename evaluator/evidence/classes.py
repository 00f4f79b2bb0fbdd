"""Selective labels: sampling classes, and figures that are repaired by post-stratification.

In production a label often exists because the suite flagged the request. A candidate's unique set is what the
suite did not flag, so plain ratios of labelled counts are wrong where it matters most. The rate at which
labels come may depend on the pattern (who voted True) and on nothing hidden; then the labelled requests of a
pattern are a fair sample of it, and weighting each by its traffic repairs everything (Holt & Smith, "Post
stratification", 1979):

    precision = Σ N_g p̂_g / Σ N_g over the strata of a set          recall = Σ_OR N_g p̂_g / Σ_all N_g p̂_g

Patterns of one label rate form a **sampling class**: any union of parts of one class is sampled fairly, so
one ratio of pooled counts serves it, and intervals are drawn per class, not per pattern, of which most have
few labels (Jeffreys' prior in each of many thin strata pulls everything to one half).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import LABEL, Cells
from evaluator.evidence.bets import Blocks

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

_SURE = 20.0  # twice the log likelihood ratio at which two label rates are believed to differ (p < 1e-5)
_ALIKE = 1.1  # label rates closer than this factor are treated as one


@dataclass(frozen=True, slots=True)
class Strata:
    """Requests per stratum and block: what is sampled.

    yes: bool[G, M]; n, s, f: float64[G, D] requests, labelled positives, labelled negatives; fixed: int64[G],
    strata that differ in it are never in one class (revision in force, held out or not).
    """

    yes: Mask
    n: Floats
    s: Floats
    f: Floats
    fixed: Ints


@dataclass(frozen=True, slots=True)
class Estimate:
    """A repaired ratio. None where nothing at all is known of it.

    low, high: bounds, with classes that have no label at their worst and best. coverage: labelled share of
    its requests. missing: share of its requests that lie in classes without a label.
    """

    value: float | None
    low: float
    high: float
    coverage: float | None
    missing: float

    def insufficient(self, tolerance: float = 0.01) -> bool:
        """`insufficient_labels`: too much of it is in classes about which nothing is known."""
        return self.value is None or self.missing > tolerance


def strata(cells: Cells, ids: Sequence[str], start: int, end: int, block_ms: int) -> tuple[Strata, Ints]:
    """Strata (true pattern over `ids`, revision) of the window [start, end) in ms, and int64[D], the blocks.

    Only buckets that all of `ids` covered. Requests that nobody flagged are one stratum, revision −1, whose
    number follows from the volume. Raises KeyError for an unknown member.
    """
    column = {name: i for i, name in enumerate(cells.ids)}
    mine = [column[name] for name in ids]
    buckets = (cells.starts >= start) & (cells.starts < end)
    buckets &= (cells.scored[:, mine] >= cells.volume[:, None]).all(axis=1)
    blocks, block = np.unique(cells.starts[buckets] // block_ms, return_inverse=True)
    days = len(blocks)
    row = np.zeros(len(cells.starts), dtype=np.int64)
    row[buckets] = block
    revision = np.where(cells.yes[:, mine].any(axis=1), cells.revision, -1)
    packed = np.packbits(cells.yes[:, mine], axis=1)
    keys = np.column_stack([packed, revision.astype(np.int64)[:, None].view(np.uint8)])
    nobody = np.concatenate([np.zeros(packed.shape[1], np.uint8), np.array([-1]).view(np.uint8)])
    _, first, which = np.unique(np.vstack([nobody, keys]), axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    keep = buckets[cells.bucket]
    at = which[1:][cells.pattern[keep]] * days + row[cells.bucket[keep]]
    label, count = cells.state[keep] & LABEL, cells.count[keep]

    def table(chosen: Mask) -> Floats:
        flat = np.bincount(at[chosen], count[chosen], len(first) * days)
        return flat.reshape(len(first), days).astype(np.float64)

    n = table(np.ones(len(at), dtype=np.bool_))
    volume = np.bincount(block, cells.volume[buckets], days)
    n[which[0]] += np.maximum(volume - n.sum(axis=0), 0)
    yes = np.vstack([np.zeros((1, len(mine)), np.bool_), cells.yes[:, mine]])[first]
    fixed = np.concatenate([[-1], revision])[first]
    return Strata(yes, n, table(label == 1), table(label == 2), fixed), blocks


def hold_out(acted: Strata, held: Strata, on: Mask) -> Strata:
    """Held-out requests speak for all of their pattern: one stratum for both, with the held ones' labels.

    Both have the same rows; `on` bool[G]: the rows that the suite acts on. Acting may destroy or distort a
    label, so there the acted ones' labels are not used. A request is held out by chance alone, so its
    label is a fair look at its pattern; rows that are acted on are classes of their own.
    """
    on_ = on[:, None]
    return Strata(
        acted.yes,
        acted.n + held.n,
        np.where(on_, held.s, acted.s + held.s),
        np.where(on_, held.f, acted.f + held.f),
        np.where(on, acted.fixed.max(initial=0) + 1 + acted.fixed, acted.fixed),
    )


def classes(g: Strata, features: Mask | None = None) -> Ints:
    """int64[G]: the sampling class of each stratum, 0 ….

    Strata are divided as long as there is a member whose vote tells label rates apart beyond doubt: a tree
    over the columns of `yes` and of `features` bool[G, F] (give the OR of the live members, on which labels
    usually depend). It looks at which requests have labels, never at what the labels say. A stratum too small
    to have a rate of its own stays with those it is like.
    """
    columns = (g.yes if features is None else np.column_stack([features, g.yes])).astype(np.float64)
    n, labels = g.n.sum(axis=1), (g.s + g.f).sum(axis=1)
    out = np.zeros(len(n), dtype=np.int64)
    number = 0
    for fixed in np.unique(g.fixed):
        todo, leaves = [np.flatnonzero(g.fixed == fixed)], []
        while todo:
            rows = todo.pop()
            # All of them need no copy: mostly there is one class.
            mine = columns if len(rows) == len(n) else columns[rows]
            side = _split(n[rows], labels[rows], mine)
            if side is None:
                leaves.append(rows)
            else:
                todo += [rows[~side], rows[side]]
        for rows in _merge(leaves, n, labels):
            out[rows] = number
            number += 1
    return out


def estimate(
    g: Strata,
    member: Ints,
    part: Mask,
    whole: Mask | None = None,
    *,
    alpha: float = 0.05,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Precision of the set `part` bool[G]; with `whole` ⊇ part its share of the positives of `whole`: recall.

    member: the `classes`. The interval is a Bayesian one at 1 − alpha, for one look: Jeffreys beta-binomial
    draws for the unlabelled requests of each class, in and outside of `part`.
    """
    whole = part if whole is None else whole
    recall = whole is not part
    cell = np.where(part, 2 * member, 2 * member + 1)
    size = 2 * (int(member.max(initial=0)) + 1)
    n, s, f = (_sum(cell[whole], a.sum(axis=1)[whole], size) for a in (g.n, g.s, g.f))
    labels = s + f
    known = labels > 0
    requests = n.sum()
    missing = float(n[~known].sum() / requests) if requests else 1.0
    coverage = float(labels.sum() / requests) if requests else None
    inside = np.arange(size) % 2 == 0
    if not requests or not known.any():
        return Estimate(None, 0.0, 1.0, coverage, missing)
    rng = np.random.default_rng(seed)
    left = np.maximum(n - labels, 0).astype(np.int64)
    p = rng.beta(s + 0.5, f + 0.5, (draws, size))
    drawn: Floats = s + rng.binomial(left, p)
    mean = np.divide(n * s, labels, out=np.zeros(size), where=known)

    def share(positives: Floats, unknown_in: float, unknown_out: float) -> Floats:
        filled = np.where(known, positives, np.where(inside, unknown_in, unknown_out) * n)
        top = filled[..., inside].sum(axis=-1)
        below = filled.sum(axis=-1) if recall else np.asarray(requests)
        return np.asarray(np.divide(top, below, out=np.full(top.shape, np.nan), where=below > 0))

    value = _value(mean, n, known, inside, recall)
    low = share(drawn, 0.0, 1.0 if recall else 0.0)
    high = share(drawn, 1.0, 0.0)
    return Estimate(
        None if np.isnan(value) else value,
        float(np.nan_to_num(np.quantile(low, alpha / 2), nan=0.0)),
        float(np.nan_to_num(np.quantile(high, 1 - alpha / 2), nan=1.0)),
        coverage,
        missing,
    )


def blocks(g: Strata, member: Ints, c: Mask, o: Mask, *, claim: str = "promote") -> Blocks:
    """Post-stratified blocks [..., D] for the bets: sides c and o, disjoint bool[..., G].

    A class without labels in a block counts as the worst case for the claim ("promote": 0 on side c, 1 on
    side o; "flag": the reverse), so the bet's bounds hold. The pooled counts are of classes with labels only.
    """
    worst = {"promote": (0.0, 1.0), "flag": (1.0, 0.0)}[claim]
    ratio_c, s_c, n_c = _side(g, member, c, worst[0])
    ratio_o, s_o, n_o = _side(g, member, o, worst[1])
    return Blocks(*np.broadcast_arrays(ratio_c, ratio_o, s_c, n_c, s_o, n_o))


def _side(g: Strata, member: Ints, rows: Mask, worst: float) -> tuple[Floats, Floats, Floats]:
    """float64[..., D] each: the post-stratified ratio (nan: no label), then Σ N p̂ and Σ N where labelled."""
    columns = np.column_stack([g.n, g.s, g.f])
    parts = []
    for one in range(int(member.max(initial=-1)) + 1):
        of_it = np.flatnonzero(member == one)
        parts.append(rows[..., of_it].astype(np.float64) @ columns[of_it])
    days = g.n.shape[1]
    sums = np.stack(parts) if parts else np.zeros((0, *rows.shape[:-1], 3 * days))
    n, s, f = (sums[..., k * days : (k + 1) * days] for k in range(3))
    labels = s + f
    known = labels > 0
    p = np.divide(s, labels, out=np.full(s.shape, worst), where=known)
    total = n.sum(axis=0)
    ratio = np.divide((n * p).sum(axis=0), total, out=np.full(total.shape, np.nan), where=known.any(axis=0))
    weight = np.where(known, n, 0.0)
    return ratio, (weight * p).sum(axis=0), weight.sum(axis=0)


def _sum(at: Ints, weights: Floats, size: int) -> Floats:
    return np.bincount(at, weights, size).astype(np.float64)


def _value(mean: Floats, n: Floats, known: Mask, inside: Mask, recall: bool) -> float:
    """The point estimate, over classes with labels."""
    top = mean[inside & known].sum()
    below = mean[known].sum() if recall else n[inside & known].sum()
    return float(top / below) if below > 0 else float("nan")


def _split(n: Floats, labels: Floats, columns: Floats) -> Mask | None:
    """The column that divides these strata best by label rate; None where none does beyond doubt."""
    if not len(n) or not columns.shape[1]:
        return None
    n1, l1 = (columns.T @ np.column_stack([n, labels])).T
    gain = _apart(n1, l1, n.sum() - n1, labels.sum() - l1)
    best = int(gain.argmax())
    return np.asarray(columns[:, best] > 0) if gain[best] > _SURE else None


def _merge(leaves: list[Ints], n: Floats, labels: Floats) -> list[Ints]:
    """Leaves of different branches that have one label rate, put together: the two most alike first."""
    while len(leaves) > 1:
        size, marked = (np.array([a[rows].sum() for rows in leaves]) for a in (n, labels))
        gain = _apart(size[:, None], marked[:, None], size, marked)
        np.fill_diagonal(gain, np.inf)
        i, j = sorted(divmod(int(gain.argmin()), len(leaves)))
        if gain[i, j] > _SURE:
            break
        leaves[i] = np.concatenate([leaves[i], leaves.pop(j)])
    return leaves


def _apart(n1: Floats, l1: Floats, n0: Floats, l0: Floats) -> Floats:
    """Twice the log likelihood ratio of two label rates against one; 0 where they are near enough."""
    gain = 2 * (_fit(l1, n1) + _fit(l0, n0) - _fit(l1 + l0, n1 + n0))
    with np.errstate(divide="ignore", invalid="ignore"):
        r1, r0 = l1 / n1, l0 / n0
        differ = np.maximum(r1, r0) > _ALIKE * np.minimum(r1, r0)
    return np.where((n1 > 0) & (n0 > 0) & differ, gain, 0.0)


def _fit(labels: Floats, n: Floats) -> Floats:
    """Log likelihood of `labels` of `n` at their own rate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.clip(labels / n, 0, 1)
        out = labels * np.log(rate) + (n - labels) * np.log1p(-rate)
    return np.asarray(np.nan_to_num(np.where((rate > 0) & (rate < 1), out, 0.0)))
