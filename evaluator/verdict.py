"""From evidence to a verdict: one pure function, with machine-readable reasons.

A missing answer holds; it never promotes. An error, a gap or a stalled feed never yields PROMOTE, REJECT or
FLAG.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["PROMOTE", "HOLD", "REJECT", "FLAG", "OK", "INCONCLUSIVE"]

#: Share of what a candidate flags below which it has nothing of its own.
OWN_SHARE = 0.01
#: Requests that a candidate must have flagged before it can be called redundant.
OWN_LEAST = 100
#: Share of a set that may lie in classes that never had a label.
UNLABELLED = 0.01


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim about one member, as the evidence stands.

    log_e: log e-value now; threshold: what it has to reach; reached: end of the block (ms) after which it
    first did, without a veto and with the span it needs, None when it has not; veto: the pooled precisions
    say otherwise now; under: those and the floor. needed: labels (estimate, low, high), blocks likewise; None
    is "not at this rate".
    """

    log_e: float
    threshold: float
    reached: int | None
    veto: bool
    labels_needed: tuple[float | None, float | None, float | None] = (None, None, None)
    blocks_needed: tuple[float | None, float | None, float | None] = (None, None, None)
    under: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one member. Precisions are over mature, covered blocks; block and spans in ms.

    pooled weighs every request alike, averaged every block. missing: the share of its unique set in
    classes that were never labelled; coverage: the labelled share of its unique set. twin: who flags most of
    what is not its own. starved: labels have stopped coming. dependent: labels of one block resemble each
    other although they were declared independent. offered: ms of mature blocks that there are.
    reference_labels: of what it is compared with.
    """

    stage: Literal["live", "shadow"]
    block: int
    blocks: int
    span: int
    min_span: int
    flagged: float
    own: float
    pooled: float | None
    averaged: float | None
    reference: float | None
    averaged_reference: float | None
    interval: tuple[float, float] | None
    coverage: float | None
    missing: float
    twin: str | None
    starved: bool
    dependent: bool
    promote: Claim | None
    against: Claim | None
    lowest: bool = True
    no_floor: bool = False
    offered: int = 0
    reference_labels: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, why, and the numbers behind it. `since`: end of the block (ms) at which it was reached.

    time_needed, time_range: ms of event time that the missing blocks take, and the span that is still short.
    """

    state: State
    reasons: tuple[str, ...]
    since: int | None = None
    e_value: float | None = None
    log_e: float | None = None
    threshold: float | None = None
    labels_needed: int | None = None
    labels_range: tuple[int | None, int | None] = (None, None)
    blocks_needed: int | None = None
    blocks_range: tuple[int | None, int | None] = (None, None)
    time_needed: int | None = None
    time_range: tuple[int | None, int | None] = (None, None)
    blocks: int = 0
    span: int = 0
    unique_precision: float | None = None
    averaged_unique_precision: float | None = None
    interval: tuple[float, float] | None = None
    reference_precision: float | None = None
    averaged_reference_precision: float | None = None
    reference_labels: int = 0
    label_coverage: float | None = None
    twin: str | None = None
    decay: dict[str, Any] | None = field(default=None)

    def document(self) -> dict[str, Any]:
        """As it stands in the status document."""
        return asdict(self)


def judge(facts: Facts) -> Verdict:
    """The verdict on one member."""
    if facts.dependent:  # what was believed rests on a declaration that is false
        return _say(facts, "INCONCLUSIVE", _doubts(facts), facts.promote or facts.against)
    if facts.stage == "live":
        return _live(facts)
    promote, against = facts.promote, facts.against
    redundant = (
        facts.span >= facts.min_span and facts.flagged >= OWN_LEAST and facts.own < OWN_SHARE * facts.flagged
    )
    if promote and promote.reached is not None:
        return _say(facts, "PROMOTE", ["believed"], promote)
    if against and against.reached is not None:
        return _say(facts, "REJECT", ["worse_than_the_suite"], against)
    if redundant:
        return _say(facts, "REJECT", ["redundant"], promote)
    if doubts := _doubts(facts):
        return _say(facts, "INCONCLUSIVE", doubts, promote)
    return _say(facts, "HOLD", _waits(facts, promote), promote)


def _live(facts: Facts) -> Verdict:
    against = facts.against
    if against and against.reached is not None and not against.veto:
        if facts.lowest:
            return _say(facts, "FLAG", ["worse_than_the_rest"], against)
        return _say(facts, "OK", ["another_is_lower"], against)
    if doubts := _doubts(facts):
        return _say(facts, "INCONCLUSIVE", doubts, against)
    return _say(facts, "OK", ["not_worse"] if facts.blocks else ["no_evidence_yet"], against)


def _doubts(facts: Facts) -> list[str]:
    """Why nothing can be said, whatever the numbers are."""
    out = []
    if facts.no_floor:
        out.append("empty_suite_needs_a_floor")
    if facts.starved:
        out.append("labels_starved")
    if facts.own > 0 and facts.missing > UNLABELLED:
        out.append("insufficient_labels")
    if facts.dependent:
        out.append("dependent_outcomes")
    if not out and not facts.span and facts.offered >= facts.min_span:
        out.append("no_common_coverage")
    if not out and not facts.blocks and facts.own > 0 and facts.span >= facts.min_span:
        out.append("insufficient_labels")
    return out


def _waits(facts: Facts, promote: Claim | None) -> list[str]:
    """What a candidate on HOLD waits for."""
    if facts.span and not facts.own:
        return ["nothing_of_its_own_yet"]
    if promote is None or not facts.blocks:
        return ["no_evidence_yet"]
    out = []
    if promote.log_e < promote.threshold:
        out.append("needs_labels" if promote.labels_needed[0] is not None else "not_at_this_rate")
    elif facts.span < facts.min_span:
        out.append("min_span")
    if promote.veto:
        out.append("pooled_precision_is_lower")
        if promote.under:
            out.append("below_the_floor")
    return out or ["min_span"]


def _say(facts: Facts, state: State, reasons: list[str], claim: Claim | None) -> Verdict:
    waiting = state in ("HOLD", "INCONCLUSIVE") and claim is not None
    labels = claim.labels_needed if claim and waiting else (None, None, None)
    blocks = claim.blocks_needed if claim and waiting else (None, None, None)
    return Verdict(
        state=state,
        reasons=tuple(reasons),
        since=claim.reached if claim and state in ("PROMOTE", "REJECT", "FLAG") else None,
        e_value=math.exp(min(claim.log_e, 700.0)) if claim else None,
        log_e=claim.log_e if claim else None,
        threshold=claim.threshold if claim else None,
        labels_needed=_up(labels[0]),
        labels_range=(_up(labels[1]), _up(labels[2])),
        blocks_needed=_up(blocks[0]),
        blocks_range=(_up(blocks[1]), _up(blocks[2])),
        time_needed=_time(facts, claim, blocks[0]),
        time_range=(_time(facts, claim, blocks[1]), _time(facts, claim, blocks[2])),
        blocks=facts.blocks,
        span=facts.span,
        unique_precision=facts.pooled,
        averaged_unique_precision=facts.averaged,
        interval=facts.interval,
        reference_precision=facts.reference,
        averaged_reference_precision=facts.averaged_reference,
        reference_labels=round(facts.reference_labels),
        label_coverage=facts.coverage,
        twin=facts.twin if "redundant" in reasons else None,
    )


def _time(facts: Facts, claim: Claim | None, blocks: float | None) -> int | None:
    """ms that so many blocks take, and at least what the span lacks. None where nothing is missing but a veto
    stands: no more of the same would lift it."""
    needed = _up(blocks)
    if needed is None or (not needed and claim is not None and claim.veto):
        return None
    return max(needed * facts.block, facts.min_span - facts.span, 0)


def _up(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else math.ceil(value)
