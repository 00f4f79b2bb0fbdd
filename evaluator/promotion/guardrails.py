"""Guardrails: what is watched while a new live member bakes, and what is too much. Pure, from counts.

All of it compares the member in the OR with itself in shadow, or with the others at the same time: labels
that are still coming are as few for the others, so that early labels do not tell against the new one alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANSWERED, LABEL, Cells
from evaluator.evidence.confidence import interval
from streams.labels import NEGATIVE, POSITIVE
from streams.suite import Policy

#: Positions, and expected or seen flags, below which a rate says nothing.
_SCORED, _FLAGS, _ERRORS = 200, 20, 20
#: Labels on either side below which precisions are not compared.
_LABELS = 30
#: Cycles (policy.block, a day) before, whose same hours the vote rate is compared with.
CYCLES = 7
#: Standard deviations by which counts must differ from what is allowed: they are looked at again and again.
_SURE = 3.3


@dataclass(frozen=True, slots=True)
class Baked:
    """Counts of one member over the buckets that were answered with it, and over those before.

    scored, failed, voted, flagged: positions; before: (flagged, voted) in shadow, in the same hours of each
    cycle before, or in all of the time before where it is shorter than a cycle.
    own, rest: (positives, labels) of requests that were answered True because of it alone, and of those on
    which another live member fired, or which the one that it replaces would have flagged alone.
    """

    scored: int
    failed: int
    voted: int
    flagged: int
    before: tuple[tuple[int, int], ...]
    own: tuple[int, int]
    rest: tuple[int, int]
    replaced: str | None = None


def answering_since(cells: Cells, revision: int, start: int) -> int | None:
    """Start (ms) of the first bucket, not before `start`, that shows an answer of `revision` or a later one.

    Requests with older timestamps than the swap's are answered too; they say nothing of when it began.
    """
    starts = cells.starts[cells.bucket[cells.revision[cells.pattern] >= revision]]
    later = starts[starts >= start]
    return int(later.min()) if len(later) else None


def answered_without(cells: Cells, revision: int, since: int) -> int:
    """How many buckets after `since` show answers of earlier revisions, and none of `revision` or later ones.

    A host that is started anew while a member bakes answers without it at first: that is no time of baking.
    """
    answered = (cells.state & ANSWERED) > 0
    with_it = cells.revision[cells.pattern] >= revision
    alone = np.setdiff1d(cells.bucket[answered & ~with_it], cells.bucket[answered & with_it])
    return int((cells.starts[alone] > since).sum())


def baked(
    cells: Cells, member: str, live: Sequence[str], since: int, *, cycle: int, replaced: str | None = None
) -> Baked | None:
    """The counts for `member`, in the OR since the event time `since`; None before a whole bucket has passed.

    cycle: ms after which vote rates come again, a day for most; replaced: whose place it has taken.
    """
    column = {name: i for i, name in enumerate(cells.ids)}
    inside: NDArray[np.bool_] = cells.starts > since
    if member not in column or not inside.any():
        return None
    m = column[member]
    mine = cells.yes[cells.pattern, m]
    others = np.any(cells.yes[:, [column[name] for name in live if name != member]], axis=1)[cells.pattern]
    old = cells.yes[cells.pattern, column[replaced]] if replaced in column else None
    answered = (cells.state & ANSWERED) > 0
    baking, label = inside[cells.bucket], cells.state & LABEL

    def labels(chosen: NDArray[np.bool_]) -> tuple[int, int]:
        positive = int(cells.count[chosen & (label == POSITIVE)].sum())
        return positive, positive + int(cells.count[chosen & (label == NEGATIVE)].sum())

    def rate(chosen: NDArray[np.bool_]) -> tuple[int, int]:
        voted = int((cells.scored[chosen, m] - cells.abstained[chosen, m]).sum())
        return int(cells.count[chosen[cells.bucket] & mine].sum()), voted

    def earlier() -> tuple[tuple[int, int], ...]:
        last = int(cells.starts[-1])
        ago = range(-((since - last) // cycle), CYCLES + 1)
        moved = [
            rate((cells.starts > since - k * cycle) & (cells.starts <= min(last - k * cycle, since - 1)))
            for k in ago
        ]
        if not any(voted for _, voted in moved):
            moved = [rate(cells.starts < since)]
        return tuple(each for each in moved if each[1] >= _SCORED)

    flagged, voted = rate(inside)
    return Baked(
        scored=int(cells.scored[inside, m].sum()),
        failed=int(cells.failed[inside, m].sum()),
        voted=voted,
        flagged=flagged,
        before=earlier(),
        own=labels(baking & answered & mine & ~others),
        rest=labels(baking & answered & others if old is None else baking & old & ~others),
        replaced=None if old is None else replaced,
    )


def breach(found: Baked | None, policy: Policy) -> str | None:
    """What is wrong, as a sentence with its numbers; None where nothing is."""
    if found is None:
        return None
    return _errors(found, policy) or _rate(found, policy) or _precision(found, policy)


def _errors(found: Baked, policy: Policy) -> str | None:
    if found.scored < _SCORED or found.failed < _ERRORS:
        return None
    share, allowed = found.failed / found.scored, policy.max_error_rate
    if found.failed <= found.scored * allowed + _SURE * math.sqrt(found.scored * allowed * (1 - allowed)):
        return None
    return (
        f"it failed on {share:.1%} of {found.scored} requests, where policy.max_error_rate is {allowed:.1%}"
    )


def _rate(found: Baked, policy: Policy) -> str | None:
    """Against the highest and the lowest of the cycles before, each as far off as chance may have put it."""
    if found.voted < _SCORED or not found.before:
        return None
    high = max((n + _SURE * math.sqrt(n + 1) + 4) / voted for n, voted in found.before)
    low = min(max(0.0, n - _SURE * math.sqrt(n)) / voted for n, voted in found.before)
    factor, expected = policy.max_rate_change, found.voted * low
    much = found.flagged > factor * found.voted * high and found.flagged >= _FLAGS
    little = found.flagged < expected / factor and expected >= _FLAGS
    if not (much or little):
        return None
    rates = sorted(n / voted for n, voted in found.before)
    span = f"{rates[0]:.2%}" if rates[0] == rates[-1] else f"{rates[0]:.2%} to {rates[-1]:.2%}"
    return (
        f"it flags {found.flagged / found.voted:.2%} of {found.voted} requests, where it was {span} in "
        f"shadow at the same hours (policy.max_rate_change is {factor:g})"
    )


def _precision(found: Baked, policy: Policy) -> str | None:
    (good, own), (right, rest) = found.own, found.rest
    if own < _LABELS or rest < _LABELS:
        return None
    reference = right / rest
    margin = min(policy.margin, 0.2 * reference)
    found_, labels = np.array([float(good), float(right)]), np.array([float(own), float(rest)])
    low, high = interval(found_, labels, 0.05, np.ones(2))
    if high[0] >= low[1] - margin:
        return None
    whose = "the others" if found.replaced is None else f"{found.replaced}, which it replaces,"
    return (
        f"of {own} labelled requests that it alone flagged {good / own:.1%} were positive (at most "
        f"{high[0]:.1%}), where {whose} had {reference:.1%} of {rest} (at least {low[1]:.1%})"
    )
