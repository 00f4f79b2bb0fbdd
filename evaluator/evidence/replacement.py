"""Replacing a member by its better version: the swap turns the suite S into S′.

What the swap gains is S′∖S, what it loses S∖S′; the two are disjoint, and everything else stays as it is. Two
claims must hold: the gain's precision is no less than the loss's, and it catches at least as many positives
per block. The second is a bet of its own on the gain's share of the disputed positives:

    X = gained/(gained + lost) − 1/2 + margin     B = 1/2 − margin

(the sequential form of McNemar's comparison, one block at a time). Equal catches are a share of 1/2.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from evaluator.evidence.bets import Blocks, Evidence, bet, promote


def replace(
    blocks: Blocks,
    gained: ArrayLike,
    lost: ArrayLike,
    *,
    margin: float = 0.05,
    floor: float | None = None,
) -> Evidence:
    """Evidence for the swap: the minimum of the bets of `promote` and of the bet on positives.

    blocks: c is the gain, o the loss. gained, lost: float64[..., B], positives per block on either side,
    estimated for all of the block (Σ N_g·p̂_g) where only some are labelled; nan where that is unknown. Blocks
    without a disputed positive are not bet on. Veto also while the gain's share of all disputed positives is
    below 1/2 − margin.
    """
    precision = promote(blocks, margin=margin, floor=floor)
    won, gone = np.broadcast_arrays(np.asarray(gained, dtype=np.float64), np.asarray(lost, dtype=np.float64))
    disputed = won + gone
    used = disputed > 0  # False for nan
    share = np.divide(won, disputed, out=np.zeros(used.shape), where=used)
    catches = bet(share - 0.5 + margin, used, bound=0.5 - margin, aim=np.asarray(margin))
    sums = np.cumsum(np.where(used, won, 0.0), -1), np.cumsum(np.where(used, disputed, 0.0), -1)
    fewer = ~((sums[0] >= (0.5 - margin) * sums[1]) & (sums[1] > 0))
    return dataclasses.replace(
        precision,
        log_e=np.minimum(precision.log_e, catches.log_e),
        veto=precision.veto | fewer,
        bets=(*precision.bets, catches),
    )
