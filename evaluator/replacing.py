"""What a candidate that replaces a member is judged by: what the swap gains against what it loses. Pure.

The swap turns the suite S into S′. In general the gain S′∖S is compared with the loss S∖S′
(evidence/replacement.py). Where one of the two has been empty in all that was seen, that has no other side:

- a **sharpened** member gains nothing, and is better for what it no longer flags: the claim is the one that
  flags a member, about the loss: it is surely less precise than what is left;
- a **widened** one loses nothing: the claim is the one that promotes a candidate, about the gain.

Which of the three is bet on is seen in the data, so the latter two pay ln 2 for the choice.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.evidence.bets import Blocks, Evidence, flag, promote
from evaluator.evidence.replacement import replace
from evaluator.tables import BlockTables, Sets, compare, sets
from streams.suite import Policy

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Swap:
    """The evidence for a swap, and against it, over D blocks.

    labels: float64[D], of the set that the claim is about; own: what the candidate flags and no live member
    but the replaced one does (one row).
    """

    evidence: Evidence
    against: Evidence
    labels: Floats
    own: Sets


def judge_swap(
    tables: BlockTables, mine: Mask, old: Mask, others: Mask, usable: Mask, policy: Policy
) -> Swap:
    """mine, old, others: bool[P], what the candidate, the replaced member and any other live one flags;
    usable: bool[D], the blocks that may be bet on."""
    gain, loss = mine & ~others & ~old, old & ~others & ~mine
    before, after = others | old, others | mine
    won, gone, own, was, left = (
        sets(tables, each[:, None]) for each in (gain, loss, mine & ~others, before, after)
    )
    margin, floor = policy.margin, policy.floor
    gains, loses = (bool(each.requests[0][usable].sum()) for each in (won, gone))
    if loses and not gains:
        evidence = _paid(flag(_blocks(gone, left, usable, "flag"), margin=margin))
        against = promote(_blocks(gone, left, usable, "promote"), margin=margin)
        return Swap(evidence, against, gone.labels[0], own)
    if gains and not loses:
        evidence = _paid(promote(_blocks(won, was, usable, "promote"), margin=margin, floor=floor))
        against = flag(_blocks(won, was, usable, "flag"), margin=margin)
        return Swap(evidence, against, won.labels[0], own)
    gained = np.where(usable, won.side(0.0)[1][0], np.nan)
    lost = np.where(usable, gone.side(1.0)[1][0], np.nan)
    blocks = _blocks(won, gone, usable, "promote")
    evidence = replace(blocks, gained, lost, margin=margin, floor=floor)
    against = flag(_blocks(won, gone, usable, "flag"), margin=margin)
    return Swap(evidence, against, won.labels[0], own)


def with_own(mine: Sets, k: int, own: Sets) -> Sets:
    """`mine` with row k as a swap sees it."""
    n, s, marked = mine.n.copy(), mine.s.copy(), mine.marked.copy()
    n[k], s[k], marked[k] = own.n[0], own.s[0], own.marked[0]
    return Sets(n, s, marked)


def _blocks(c: Sets, o: Sets, usable: Mask, claim: str) -> Blocks:
    """The one row that each of the two has."""
    both = compare(c, o, usable[:, None], claim)
    return Blocks(*(getattr(both, name)[0] for name in ("c", "o", "s_c", "n_c", "s_o", "n_o")))


def _paid(evidence: Evidence) -> Evidence:
    return dataclasses.replace(evidence, log_e=evidence.log_e - math.log(2))
