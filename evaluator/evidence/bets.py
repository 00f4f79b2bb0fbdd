"""Promote and flag: an e-process from bets on blocks.

A verdict that is looked at every few seconds must hold whenever anybody looks. A bettor starts with a capital
of 1 and stakes, before each block is opened, a share λ of it on "the claim is true". If the claim is false
the capital is a supermartingale, so it ever reaches 1/α with probability at most α (Ville's inequality),
however often it is read. The stakes follow Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting" (2024).

The unit is the **block** (one cycle of buckets, by default a day), not the label: labels of one day resemble
each other. Within a block any dependence is allowed; what must hold is that its expected ratio, given the
blocks before, obeys the null hypothesis.

    promote   X = c − a·o + d     B = a − d     log_e = the minimum of the bets       (the null: a union)
    flag      X = a·o − c − d     B = 1 + d     log_e = logmeanexp of the bets        (an intersection)

with (a, d) = (1, margin) and (0.8, 0), which together mean "no less than, up to δ = min(margin, 0.2·p_o)".
Arrays have shape [..., B]: any leading axes (candidates, simulated streams), blocks last, oldest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RELATIVE = 0.2  # the margin as a share of the suite's precision, for suites of low precision
_STAKES = np.array([1.0, 4.0])  # gaps that are aimed at, as multiples of g
_CAP = 0.95  # of the stake that could lose everything


@dataclass(frozen=True, slots=True)
class Blocks:
    """What both sides did in each block. All arrays float64[..., B].

    Promotion: c is the candidate's unique set, o the suite's OR-positive set. Flag: c is the live member's
    unique set, o the rest of the OR. The two sets must be disjoint.

    `c`, `o` are precisions in [0, 1], nan where a side has no label: that block is not bet on. Where labels
    are selective they are post-stratified ratios. A class without labels then counts as the worst case for
    the claim: promote 0 in c and 1 in o, flag 1 in c and 0 in o.

    `s_*`, `n_*` are positives and labels, used for pooled precisions (the veto) and for the scale of a stake.
    Where labels are selective give weighted positives and weights (Σ N_g·p̂_g and Σ N_g), so that the pooled
    precisions are repaired too.
    """

    c: Floats
    o: Floats
    s_c: Floats
    n_c: Floats
    s_o: Floats
    n_o: Floats

    @classmethod
    def from_counts(cls, s_c: ArrayLike, n_c: ArrayLike, s_o: ArrayLike, n_o: ArrayLike) -> Blocks:
        """Blocks in which every label counts alike."""
        sc, nc, so, no = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (s_c, n_c, s_o, n_o)))
        return cls(_ratio(sc, nc), _ratio(so, no), sc, nc, so, no)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool[..., B]: both sides have labels."""
        return np.isfinite(self.c) & np.isfinite(self.o)


@dataclass(frozen=True, slots=True)
class Bet:
    """One bettor against one null hypothesis.

    x:      float64[..., B]     what the stakes are multiplied with; 0 where `used` is False
    used:   bool[..., B]        the block was bet on
    stakes: float64[K, ..., B]  λ, set before the block was opened
    next_stakes: float64[K, ...] λ of the block to come
    log_e:  float64[..., B]     log capital after each block
    """

    x: Floats
    used: NDArray[np.bool_]
    stakes: Floats
    next_stakes: Floats
    log_e: Floats


@dataclass(frozen=True, slots=True)
class Evidence:
    """The capital after each block, and what a reader needs to judge it.

    log_e: float64[..., B]; `veto` bool[..., B]: the pooled precisions say otherwise, so it must not be
    believed now; `under` bool[..., B]: because of the floor, among others. `pooled_*` float64[..., B]:
    precision over all labels of usable blocks so far (nan before the first), `difference` = pooled_c −
    pooled_o. `averaged_*` float64[...]: the mean of the usable blocks' precisions. They differ when blocks of
    many labels are unlike those of few: show both. `delta` float64[..., B]: min(margin, 0.2·pooled_o).
    """

    log_e: Floats
    veto: NDArray[np.bool_]
    pooled_c: Floats
    pooled_o: Floats
    difference: Floats
    delta: Floats
    averaged_c: Floats
    averaged_o: Floats
    usable: NDArray[np.int64]
    bets: tuple[Bet, ...]
    every: bool  # all bets must be won (promote), not their average (flag)
    under: NDArray[np.bool_]

    @property
    def final(self) -> Floats:
        """float64[...]: log capital now; 0 before the first block."""
        return self.log_e[..., -1] if self.log_e.shape[-1] else np.zeros(self.log_e.shape[:-1])

    @property
    def final_veto(self) -> NDArray[np.bool_]:
        """bool[...]: must not be believed now; True before the first block."""
        return self.veto[..., -1] if self.veto.shape[-1] else np.ones(self.veto.shape[:-1], dtype=np.bool_)

    def crossing(self, alpha: float, *, veto: bool = True) -> NDArray[np.int64]:
        """int64[...]: first block after which log_e ≥ ln(1/alpha) and, if `veto`, no veto; −1: never."""
        there = self.log_e >= math.log(1 / alpha)
        if veto:
            there &= ~self.veto
        if not there.shape[-1]:
            return np.full(there.shape[:-1], -1, dtype=np.int64)
        return np.where(there.any(-1), there.argmax(-1), -1)


def promote(
    blocks: Blocks, *, margin: float = 0.05, floor: float | None = None, empty_suite: bool = False
) -> Evidence:
    """Evidence that the candidate's unique precision is no less than the suite's precision, up to δ.

    With `floor` also that it is no less than the floor, up to min(margin, 0.2·floor); this bet and its veto
    need no labels of the suite. `empty_suite`: there is no live member, the floor alone decides (ValueError
    without one).
    """
    if empty_suite and floor is None:
        raise ValueError("a suite without live members needs a floor to promote against")
    bets = [] if empty_suite else _pair(blocks, margin, sign=1.0)
    under = np.zeros(blocks.c.shape, dtype=np.bool_)
    if floor is not None and floor > 0:
        d = min(margin, RELATIVE * floor)
        seen = np.isfinite(blocks.c)
        bets.append(bet(blocks.c - floor + d, seen, bound=floor - d, aim=np.asarray(d)))
        under = ~(_pooled(blocks.s_c, blocks.n_c, seen) >= floor - d)
    elif empty_suite:
        raise ValueError("a floor of 0 promotes anything into an empty suite")
    log_e = np.minimum.reduce([b.log_e for b in bets])
    return _evidence(blocks, log_e, bets, margin, every=True, under=under, against_suite=not empty_suite)


def flag(blocks: Blocks, *, margin: float = 0.05) -> Evidence:
    """Evidence that the member's unique precision is less than the precision of the rest, by more than δ."""
    bets = _pair(blocks, margin, sign=-1.0)
    log_e = logmeanexp(np.stack([b.log_e for b in bets]))
    under = np.zeros(blocks.c.shape, dtype=np.bool_)
    return _evidence(blocks, log_e, bets, margin, every=False, under=under, against_suite=True)


def bet(x: Floats, used: NDArray[np.bool_], *, bound: float, aim: Floats) -> Bet:
    """Bet that the mean of x is above 0, when x ≥ −bound; its null: E[x | blocks before] ≤ 0 in every block.

    x: float64[..., B], anything where not `used`. aim: the gap g hoped for, float64 that broadcasts to
    [..., B + 1]; its entry b may depend on the blocks before b only. A bound ≤ 0 means that x cannot lose.
    """
    x = np.where(used, x, 0.0)
    m = _before(used.astype(np.float64))  # [..., B + 1]: usable blocks before each one, and before the next
    centre = _before(x)[..., :-1] / (10 + m[..., :-1])
    v = (0.3 + _before(np.where(used, (x - centre) ** 2, 0.0))) / (3 + m)
    g = aim * _STAKES.reshape(-1, *(1,) * x.ndim)
    stakes = g / (v + g**2)
    if bound > 0:
        stakes = np.minimum(_CAP / bound, stakes)
    log_e = logmeanexp(np.cumsum(np.log1p(stakes[..., :-1] * x), axis=-1))
    return Bet(x, used, stakes[..., :-1], stakes[..., -1], log_e)


def logmeanexp(a: Floats) -> Floats:
    """log of the mean of exp(a) over the first axis: the capital of bettors who shared the money alike."""
    top = a.max(axis=0)
    out: Floats = top + np.log(np.exp(a - top).mean(axis=0))
    return out


def _pair(blocks: Blocks, margin: float, *, sign: float) -> list[Bet]:
    """The bets (1, margin) and (0.8, 0), for (sign 1) or against (sign −1) the c side."""
    used = blocks.usable
    with np.errstate(invalid="ignore"):
        absolute = sign * (blocks.c - blocks.o + margin)
        relative = sign * (blocks.c - (1 - RELATIVE) * blocks.o)
    s_o, n_o = (_before(np.where(used, a, 0.0)) for a in (blocks.s_o, blocks.n_o))
    aim = np.clip(RELATIVE * (s_o + 1) / (n_o + 2), 0.005, 0.05)
    bounds = (1 - margin, 1 - RELATIVE) if sign > 0 else (1 + margin, 1.0)
    return [
        bet(absolute, used, bound=bounds[0], aim=np.asarray(margin)),
        bet(relative, used, bound=bounds[1], aim=aim),
    ]


def _evidence(
    blocks: Blocks,
    log_e: Floats,
    bets: Sequence[Bet],
    margin: float,
    *,
    every: bool,
    under: NDArray[np.bool_],
    against_suite: bool,
) -> Evidence:
    used = blocks.usable if against_suite else np.isfinite(blocks.c)
    pooled_c = _pooled(blocks.s_c, blocks.n_c, used)
    pooled_o = _pooled(blocks.s_o, blocks.n_o, used)
    difference = pooled_c - pooled_o
    delta = np.minimum(margin, RELATIVE * pooled_o)
    veto = under
    if against_suite:  # nan (nothing to compare yet) vetoes
        veto = veto | ~((difference >= -delta) if every else (difference <= -delta))
    count = used.sum(-1)
    return Evidence(
        log_e=log_e,
        veto=veto,
        pooled_c=pooled_c,
        pooled_o=pooled_o,
        difference=difference,
        delta=delta,
        averaged_c=_ratio(np.where(used, blocks.c, 0.0).sum(-1), count),
        averaged_o=_ratio(np.where(blocks.usable, blocks.o, 0.0).sum(-1), blocks.usable.sum(-1)),
        usable=np.asarray(count, dtype=np.int64),
        bets=tuple(bets),
        every=every,
        under=under,
    )


def _pooled(s: Floats, n: Floats, used: NDArray[np.bool_]) -> Floats:
    return _ratio(np.cumsum(np.where(used, s, 0.0), axis=-1), np.cumsum(np.where(used, n, 0.0), axis=-1))


def _before(a: Floats) -> Floats:
    """Sums over the blocks before each one, and over all: float64[..., B + 1]."""
    out = np.zeros((*a.shape[:-1], a.shape[-1] + 1))
    np.cumsum(a, axis=-1, out=out[..., 1:])
    return out


def _ratio(s: ArrayLike, n: ArrayLike) -> Floats:
    n = np.asarray(n, dtype=np.float64)
    out: Floats = np.divide(s, n, out=np.full(n.shape, np.nan), where=n > 0)
    return out
