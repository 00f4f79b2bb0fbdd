"""Guardrails: what is watched while a new live member bakes, and what is too much. Pure, from counts.

All of it compares the member in the OR with itself in shadow, or with the others at the same time: labels
that are still coming are as few for the others, so that early labels do not tell against the new one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANSWERED, LABEL, Cells
from evaluator.evidence.confidence import interval
from streams.labels import NEGATIVE, POSITIVE
from streams.suite import DAY, Policy

#: Positions, and expected or seen flags, below which a rate says nothing.
_SCORED, _FLAGS, _ERRORS = 200, 20, 20
#: Labels on either side below which precisions are not compared.
_LABELS = 30
_BEFORE = 7 * DAY


@dataclass(frozen=True, slots=True)
class Baked:
    """Counts of one member over the buckets that the new revision has answered, and over the days before.

    scored, failed, flagged: positions; own, rest: (positives, labels) of requests that were answered True
    because of it alone, and of those on which another live member fired.
    """

    scored: int
    failed: int
    voted: int
    flagged: int
    voted_before: int
    flagged_before: int
    own: tuple[int, int]
    rest: tuple[int, int]


def baked(cells: Cells, member: str, live: Sequence[str], revision: int) -> Baked | None:
    """The counts for `member`, live since `revision`; None before that revision has filled a bucket."""
    column = {name: i for i, name in enumerate(cells.ids)}
    if member not in column:
        return None
    newer = cells.bucket[cells.revision[cells.pattern] >= revision]
    if not len(newer):
        return None
    first = int(cells.starts[newer.min()])
    inside: NDArray[np.bool_] = cells.starts > first
    before: NDArray[np.bool_] = (cells.starts < first) & (cells.starts >= first - _BEFORE)
    if not inside.any():
        return None
    m = column[member]
    mine = cells.yes[cells.pattern, m]
    others = np.any(cells.yes[:, [column[name] for name in live if name != member]], axis=1)[cells.pattern]
    answered = (cells.state & ANSWERED) > 0
    baking, label = inside[cells.bucket], cells.state & LABEL

    def labels(chosen: NDArray[np.bool_]) -> tuple[int, int]:
        positive = int(cells.count[chosen & (label == POSITIVE)].sum())
        return positive, positive + int(cells.count[chosen & (label == NEGATIVE)].sum())

    def voted(chosen: NDArray[np.bool_]) -> int:
        return int((cells.scored[chosen, m] - cells.abstained[chosen, m]).sum())

    return Baked(
        scored=int(cells.scored[inside, m].sum()),
        failed=int(cells.failed[inside, m].sum()),
        voted=voted(inside),
        flagged=int(cells.count[baking & mine].sum()),
        voted_before=voted(before),
        flagged_before=int(cells.count[before[cells.bucket] & mine].sum()),
        own=labels(baking & answered & mine & ~others),
        rest=labels(baking & answered & others),
    )


def breach(found: Baked | None, policy: Policy) -> str | None:
    """What is wrong, as a sentence with its numbers; None where nothing is."""
    if found is None:
        return None
    return _errors(found, policy) or _rate(found, policy) or _precision(found, policy)


def _errors(found: Baked, policy: Policy) -> str | None:
    if found.scored < _SCORED or found.failed < _ERRORS:
        return None
    share = found.failed / found.scored
    if share <= policy.max_error_rate:
        return None
    return (
        f"it failed on {share:.1%} of {found.scored} requests, where policy.max_error_rate is "
        f"{policy.max_error_rate:.1%}"
    )


def _rate(found: Baked, policy: Policy) -> str | None:
    if found.voted < _SCORED or found.voted_before < _SCORED:
        return None
    expected = found.voted * found.flagged_before / found.voted_before
    factor = policy.max_rate_change
    much = found.flagged > factor * max(expected, 1.0) and found.flagged >= _FLAGS
    little = found.flagged < expected / factor and expected >= _FLAGS
    if not (much or little):
        return None
    return (
        f"it flags {found.flagged / found.voted:.2%} of the requests, where it was "
        f"{found.flagged_before / found.voted_before:.2%} in shadow (policy.max_rate_change is {factor:g})"
    )


def _precision(found: Baked, policy: Policy) -> str | None:
    (good, own), (right, rest) = found.own, found.rest
    if own < _LABELS or rest < _LABELS:
        return None
    reference = right / rest
    margin = min(policy.margin, 0.2 * reference)
    _, high = interval(np.array([float(good)]), np.array([float(own)]), 0.05, np.array([1.0]))
    if high[0] >= reference - margin:
        return None
    return (
        f"of {own} labelled requests that it alone flagged {good / own:.1%} were positive (at most "
        f"{high[0]:.1%}), where the others had {reference:.1%}"
    )
