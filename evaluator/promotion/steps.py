"""What is to be done next for a suite: one pure function of what the registry and the evidence say.

It returns one event for the registry at a time; whoever holds the deployment slot writes it, and asks again.
Nothing here waits: while one member is being deployed all others are still judged, recommended and approved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from members.registry.events import LONGEST, Event
from members.registry.lifecycle import Registry, draft
from members.registry.marks import WAITING, ahead, untimed
from streams.suite import Policy
from streams.times import format_duration

#: Who writes what no person has asked for.
WHO = "chorus"
#: ms of the leader's own clock within which a live host has to have a new member ready, or to answer with it.
READY_WITHIN = 120_000
#: A gain that has fallen below this share of what it was is worth telling.
_FALLEN = 0.8
#: Labels from which on a precision that no verdict rests on is known well enough to be held to for good.
_LABELS = 100


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment. Event times (watermark, labels_through) and `now`, the wall clock, in ms.

    waited: ms that this leader has seen the deployment as it stands, by a clock that only goes forward.
    watermark: None while nothing is known; then only what hosts report is acted on. complete: the evidence
    holds all that stood in the logs when it was found to be behind what was decided.
    verdicts: their documents, judged against the registry's present live members; gains: by candidate, the
    positives a day that it alone would catch, None where no label says so; answering: event time since which
    requests are answered with the member that is baking, as far as votes have shown; breach: what the
    guardrails say of it.
    """

    registry: Registry
    policy: Policy
    watermark: int | None
    labels_through: int | None
    now: int
    token: int
    waited: int = 0
    complete: bool = False
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gains: Mapping[str, float | None] = field(default_factory=dict)
    answering: int | None = None
    breach: str | None = None


def next_step(view: View) -> Event | None:
    """The next event, or None where there is nothing to do."""
    later = view.watermark is not None and ahead(view.registry, view.watermark, view.labels_through)
    behind = view.watermark is None or (later and not view.complete)
    known = replace(view, watermark=None) if behind else view  # or it would be taken for the present
    for event in (*_reported(known), *_hurting(known)):
        return event
    if view.watermark is None or behind:
        return None
    if later or untimed(view.registry):
        return _noticed(view)
    for steps in (_deployment, _fallen, _reranked, _approvals, _start, _recommend):
        for event in steps(view, view.watermark):
            return event
    return None


def ranked(view: View) -> list[str]:
    """Ids of the queued members, in the order in which they will be deployed: by expected gain."""
    queued = [name for name, entry in view.registry.entries.items() if entry.state == "queued"]
    gains = {name: view.gains.get(name) for name in queued}
    return sorted(queued, key=lambda name: (-(gains[name] or 0.0), view.registry.entries[name].ordinal))


def _noticed(view: View) -> Event:
    """Event time is here: the logs have been read, so that what bears a later mark does so by mistake."""
    why = "event time, for what fell back without knowing it, or bears a later mark than there is"
    return _draft(view, "noticed", "", why, evidence={"labels_through": view.labels_through})


def _draft(view: View, kind: Any, member: str, why: str, **more: Any) -> Event:
    return draft(
        view.registry, kind, member, who=WHO, why=why[:LONGEST], at=view.now, watermark=view.watermark,
        token=view.token, **more,
    )  # fmt: skip


def _reported(view: View) -> Iterator[Event]:
    """The one that holds the slot goes back, because hosts say so, or say nothing: that needs no evidence."""
    deployment = view.registry.deployment
    if deployment is None:
        return
    name, known = deployment.member, {"deployment": deployment.id}
    refusal = "; ".join(f"{host}: {why}" for host, why in deployment.refused.items())
    limit = format_duration(READY_WITHIN)
    if deployment.revision is None:
        out = deployment.replaces
        if refusal:
            yield _draft(view, "aborted", name, refusal, **known)
        elif out is not None and view.registry.entries[out].state != "live":
            yield _draft(view, "aborted", name, f"{out}, which it replaces, is not live any more", **known)
        elif not deployment.ready and view.waited > READY_WITHIN:
            why = f"no live host had it ready within {limit}: is `chorus serve` running?"
            yield _draft(view, "aborted", name, why, **known)
    elif refusal:
        yield _draft(view, "rolled_back", name, refusal, **known)
    # A later revision takes its place where somebody else went out meanwhile.
    elif view.registry.served < deployment.revision and view.waited > READY_WITHIN:
        why = (
            f"no live host has answered with it within {limit}: is `chorus serve` running, or does it end it?"
        )
        yield _draft(view, "rolled_back", name, why, **known)


def _hurting(view: View) -> Iterator[Event]:
    """The one that bakes goes back: what it did since it went in needs no older evidence."""
    deployment = view.registry.deployment
    if deployment is not None and deployment.revision is not None and view.breach:
        yield _draft(view, "rolled_back", deployment.member, view.breach, deployment=deployment.id)


def _deployment(view: View, watermark: int) -> Iterator[Event]:
    """The one that holds the slot goes on."""
    deployment = view.registry.deployment
    if deployment is None:
        return
    name, known = deployment.member, {"deployment": deployment.id}
    if deployment.revision is None:
        if deployment.ready:
            why = f"loaded, warmed and checked by {', '.join(deployment.ready)}"
            yield _draft(view, "swapped", name, why, replaces=deployment.replaces, **known)
    elif view.answering is not None and watermark - view.answering >= view.policy.bake:
        why = f"{format_duration(view.policy.bake)} of event time within all guardrails"
        yield _draft(view, "promoted", name, why, **known)


def _fallen(view: View, _: int) -> Iterator[Event]:
    """Those who waited, and whom the evidence now speaks against: told why, and by whom.

    Who is approved and only lacks evidence against the new OR keeps the approval, and waits for the rest.
    """
    revision = view.registry.revision
    for name, entry in view.registry.entries.items():
        verdict = view.verdicts.get(name)
        if entry.state not in WAITING or entry.override or verdict is None:
            continue
        if verdict["state"] in ("PROMOTE", "INCONCLUSIVE") or "no_evidence_yet" in verdict["reasons"]:
            continue  # that nothing is known speaks against nobody
        if verdict["state"] != "REJECT" and entry.state != "recommended":
            continue
        twin = verdict.get("twin")
        if "redundant" in verdict["reasons"]:
            beside = f"beside {twin}" if twin else "beside the live members"
            why = f"at revision {revision} of the suite it is redundant {beside}: hardly anything is its own"
            yield _draft(view, "superseded", name, why, by=twin)
        else:
            why = f"at revision {revision} of the suite its verdict is {_say(verdict)}"
            yield _draft(view, "superseded", name, why)


def _reranked(view: View, _: int) -> Iterator[Event]:
    """Whose prospects a change of the suite has made worse: told once for each revision."""
    order, revision = ranked(view), view.registry.revision
    for place, name in enumerate(order, 1):
        entry, gain, verdict = view.registry.entries[name], view.gains.get(name), view.verdicts.get(name)
        if entry.judged in (None, revision):
            continue
        was, gained = entry.place, entry.gain
        fell = was is not None and place > was
        lost = gained is not None and gain is not None and gain < _FALLEN * gained
        waits = not entry.override and verdict is not None and verdict["state"] != "PROMOTE"
        if not (fell or lost or waits):
            continue
        why = f"at revision {revision} of the suite it adds {_gain(gain)}"
        why += f", where it was {_gain(gained)}" if lost else ""
        why += f"; place {place} instead of {was}, behind {', '.join(order[: place - 1])}" if fell else ""
        if waits and verdict is not None:
            why += f"; its verdict is {_say(verdict)}: its approval stands, and it waits for the evidence"
        yield _draft(view, "reranked", name, why, evidence=_standing(view, place, gain))


def _approvals(view: View, _: int) -> Iterator[Event]:
    """Approved ones join the queue; in `auto` mode the evidence approves."""
    approvers, automatic = view.policy.approvers, view.policy.mode == "auto"
    for name, entry in view.registry.entries.items():
        if entry.state == "approved":
            if approvers and entry.who not in approvers and entry.who != WHO:
                why = f"{entry.who} may not approve: policy.approvers names {', '.join(approvers)}"
                yield _draft(view, "aborted", name, why)
                continue
            gain = view.gains.get(name)
            place = 1 + sum((view.gains.get(other) or 0.0) >= (gain or 0.0) for other in ranked(view))
            why = f"approved by {entry.who}; it adds {_gain(gain)}"
            yield _draft(view, "queued", name, why, evidence=_standing(view, place, gain))
        elif entry.state == "recommended" and automatic and not entry.by_hand:
            yield _draft(view, "approved", name, "policy.mode is auto, and the evidence suffices")


def _start(view: View, watermark: int) -> Iterator[Event]:
    """The first of the queue whom the evidence speaks for now gets the slot, when it is free."""
    registry = view.registry
    if registry.deployment is not None:
        return
    last = registry.rolled_back
    rested = last is None or watermark - last >= view.policy.cooldown
    for name in ranked(view):
        entry = registry.entries[name]
        verdict = view.verdicts.get(name)
        believed = verdict is not None and verdict["state"] == "PROMOTE"
        if entry.override or (rested and believed):
            replaces = entry.spec.replaces
            why = f"first in the queue; it adds {_gain(view.gains.get(name))}"
            why += f"; it replaces {replaces}" if replaces in registry.live else ""
            identity = f"{name}-{registry.revision}-{entry.position}"
            known = _precision(verdict, view.policy)
            yield _draft(view, "deploying", name, why, deployment=identity, suite_precision=known)


def _precision(verdict: Mapping[str, Any] | None, policy: Policy) -> float | None:
    """The suite's, as the verdict has it; None where too little is known for it to become the floor."""
    if verdict is None:
        return None
    known = verdict.get("span", 0) >= policy.min_span and verdict.get("reference_labels", 0) >= _LABELS
    found: float | None = verdict.get("reference_precision")
    return found if known or verdict["state"] == "PROMOTE" else None


def _recommend(view: View, watermark: int) -> Iterator[Event]:
    for name, entry in view.registry.entries.items():
        verdict = view.verdicts.get(name)
        if entry.state != "shadow" or verdict is None or verdict["state"] != "PROMOTE":
            continue
        if entry.fell_back is not None and watermark - entry.fell_back < view.policy.cooldown:
            continue
        evidence = {
            "verdict": dict(verdict),
            "gain": view.gains.get(name),
            "labels_through": view.labels_through,
        }
        yield _draft(view, "recommended", name, _because(verdict), evidence=evidence)


def _because(verdict: Mapping[str, Any]) -> str:
    own, other = verdict.get("unique_precision"), verdict.get("reference_precision")
    e_value = verdict.get("e_value")
    why = "the evidence suffices"
    if own is not None and other is not None:
        why = f"its unique precision is {own:.3f}, where the suite's precision is {other:.3f}"
    return why + (f" (e-value {e_value:.3g})" if e_value is not None else "")


def _standing(view: View, place: int, gain: float | None) -> dict[str, Any]:
    return {"place": place, "gain": gain, "revision": view.registry.revision}


def _say(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['state']} ({', '.join(verdict['reasons']).replace('_', ' ')})"


def _gain(gain: float | None) -> str:
    return "an unknown number of positives" if gain is None else f"{gain:.3g} positives a day"
