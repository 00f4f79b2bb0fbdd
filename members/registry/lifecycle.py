"""The life of a member as a fold of the registry's events: pure, and the same for every reader.

An event that is not legal where it stands is ignored, with the reason; it changes nothing. So two writers who
met cannot both win: the second one's `expected` or `after` is no longer true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from members.registry.events import EVALUATORS, REPORTS, Event, Kind, Serving, Spec
from members.registry.marks import notice
from streams.suite import MemberSpec, Suite

#: `displaced`: out of the OR while the member that replaces it is baking.
State = Literal[
    "shadow", "recommended", "approved", "queued", "deploying", "baking", "live", "displaced", "retired"
]
IN_THE_OR = frozenset(("baking", "live"))

#: Kind → the states that it may be written in (None: the member is not there), and the state after it
#: (None: the same). Everything else is ignored.
TRANSITIONS: Mapping[Kind, tuple[frozenset[State | None], State | None]] = {
    "added": (frozenset((None, "retired")), "shadow"),
    "described": (
        frozenset(
            ("shadow", "recommended", "approved", "queued", "deploying", "baking", "live", "displaced")
        ),
        None,
    ),
    "recommended": (frozenset(("shadow",)), "recommended"),
    "approved": (frozenset(("recommended", "shadow")), "approved"),
    "queued": (frozenset(("approved",)), "queued"),
    "reranked": (frozenset(("queued",)), None),
    "deploying": (frozenset(("queued",)), "deploying"),
    "swapped": (frozenset(("deploying",)), "baking"),
    "promoted": (frozenset(("baking",)), "live"),
    "superseded": (frozenset(("recommended", "approved", "queued")), "shadow"),
    "aborted": (frozenset(("recommended", "approved", "queued", "deploying")), "shadow"),
    "rolled_back": (frozenset(("baking", "live")), "shadow"),
    "retired": (frozenset(("shadow", "recommended", "approved", "queued", "live")), "retired"),
    "back_to_shadow": (frozenset(("live", "retired")), "shadow"),
}
#: Kinds in the words of a sentence that says what cannot be done.
_SAID: Mapping[Kind, str] = {
    "aborted": "declined or aborted",
    "rolled_back": "rolled back",
    "back_to_shadow": "put back to shadow",
}
#: What may change in the description of a version; anything else makes another version.
DESCRIPTIVE = frozenset(("stage", "owner", "team", "contact", "description", "tags"))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Entry(_Frozen):
    """One member. position: offset of its last event; since: ms, when it came into its state, by the writer;
    who, why: of the last event that was not a mere description.

    ordinal: its place among all that were ever added. deployment: the last one that put it into the OR.
    replaced: whom it put out then; by: who put it out, or superseded it. fell_back: event time (ms) at which
    it last came back to shadow, `untimed` while nobody has said; by_hand: a person sent it there, or it was
    rolled back, so that only a person may approve it again.
    declared: the suite file had it, so that leaving the file retires it; of a retired one: that did it.
    labels_through: ms that labels had come to when it was recommended. place, gain: in the queue, and what it
    was expected to add, as it was last told at revision `judged`.
    """

    spec: Spec
    state: State
    ordinal: int
    position: int
    since: int
    who: str
    why: str
    watermark: int | None = None
    override: bool = False
    deployment: str = ""
    replaced: str | None = None
    by: str | None = None
    fell_back: int | None = None
    untimed: bool = False
    by_hand: bool = False
    declared: bool = False
    labels_through: int | None = None
    place: int | None = None
    gain: float | None = None
    judged: int | None = None


class Deployment(_Frozen):
    """Who has the slot. began: ms on the writer's clock; swapped: event time (ms) of the swap, when there was
    one, and `revision` the one that it made. precision: of the OR before it, where that was known. ready,
    refused: what hosts reported (host → why). starts: host → its reports that it was started anew while the
    member was baking (id → process)."""

    id: str
    member: str
    began: int
    replaces: str | None = None
    swapped: int | None = None
    revision: int | None = None
    precision: float | None = None
    ready: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    starts: dict[str, dict[str, str]] = {}


class Registry(_Frozen):
    """All members at one offset of the log (`applied`, the next one to read).

    lives: revision → ids of the live members; servings: requests partition → what hosts reported of it, in
    the order of the log, of which the later ones count (members/swapping.py). token: the highest that a
    slot's holder has shown; rolled_back: event time (ms) of the last roll-back, `untimed` while nobody has
    said. adopted: the OR's precision before the first deployment that put a member in and knew it.
    """

    revision: int = 0
    applied: int = 0
    entries: dict[str, Entry] = {}
    deployment: Deployment | None = None
    token: int = 0
    lives: dict[int, tuple[str, ...]] = {}
    servings: dict[int, tuple[Serving, ...]] = {}
    rolled_back: int | None = None
    untimed: bool = False
    adopted: float | None = None

    @property
    def live(self) -> tuple[str, ...]:
        """Ids of the members in the OR."""
        return tuple(name for name, entry in self.entries.items() if entry.state in IN_THE_OR)

    @property
    def shadow(self) -> tuple[str, ...]:
        """Ids of the members that score and never act."""
        out = ("retired", *IN_THE_OR)
        return tuple(name for name, entry in self.entries.items() if entry.state not in out)

    @property
    def served(self) -> int:
        """The latest revision that some host has reported to answer with; 0 before any has."""
        return max((each.revision for reports in self.servings.values() for each in reports), default=0)

    def suite(self, declared: Suite) -> Suite:
        """The suite file's settings with the registry's members, or the file's own before it was founded.

        Where the file has no `policy.floor`, it is the precision at adoption.
        """
        if not self.revision:
            return declared
        specs = []
        for entry in self.entries.values():
            if entry.state != "retired":
                stage = "live" if entry.state in IN_THE_OR else "shadow"
                specs.append(entry.spec.model_copy(update={"stage": stage}))
        if declared.policy.floor is None and self.adopted is not None:
            policy = declared.policy.model_copy(update={"floor": self.adopted})
            declared = declared.model_copy(update={"policy": policy})
        return declared.with_members(specs)


def draft(registry: Registry, kind: Kind, member: str, *, who: str, why: str, at: int, **more: Any) -> Event:
    """An event that expects the registry to be as it is here."""
    entry = registry.entries.get(member)
    after = entry.position if entry is not None and kind not in REPORTS else None
    fields = {"expected": registry.revision, "after": after, **more}
    return Event(kind=kind, member=member, who=who, why=why, at=at, **fields)


def fold(registry: Registry, offset: int, event: Event) -> tuple[Registry, str | None]:
    """The registry after the event at `offset`, and why it was ignored (None: it was not)."""
    after = registry.model_copy(update={"applied": offset + 1})
    if event.kind in REPORTS:
        return _report(after, event)
    if event.expected != registry.revision:
        return after, f"it expected revision {event.expected} of the suite, which is at {registry.revision}"
    if event.token is None and event.kind in EVALUATORS:
        return after, f"{event.kind} is for the evaluator that holds the deployment slot: it shows a token"
    if event.token is not None and event.token < registry.token:
        return after, f"its writer has lost the deployment slot (token {event.token} < {registry.token})"
    if event.token is not None:
        after = after.model_copy(update={"token": event.token})
    if event.kind == "founded":
        return _found(registry, after, offset, event)
    if event.kind == "noticed":
        return notice(registry, after, event)
    entry = registry.entries.get(event.member)
    if problem := _illegal(registry, entry, event):
        return registry.model_copy(update={"applied": offset + 1}), problem
    return _apply(after, entry, offset, event), None


def _found(before: Registry, after: Registry, offset: int, event: Event) -> tuple[Registry, str | None]:
    if before.revision:
        return before.model_copy(update={"applied": offset + 1}), "the suite was founded before"
    entries = {
        spec.id: _enter(event, offset, spec, "live" if spec.stage == "live" else "shadow", ordinal)
        for ordinal, spec in enumerate(event.members)
    }
    return _next_revision(after.model_copy(update={"entries": entries})), None


def _enter(event: Event, offset: int, spec: MemberSpec, state: State, ordinal: int) -> Entry:
    return Entry(
        spec=spec, state=state, ordinal=ordinal, position=offset, since=event.at, who=event.who,
        why=event.why, watermark=event.watermark, declared=event.declared or event.kind == "founded",
    )  # fmt: skip


def _illegal(registry: Registry, entry: Entry | None, event: Event) -> str | None:
    """Why the event may not be, or None."""
    name, kind = event.member, event.kind
    state = entry.state if entry is not None else None
    legal, _ = TRANSITIONS[kind]
    if not registry.revision:
        return "the suite has not been founded yet"
    if state not in legal:
        from_ = ", ".join(sorted(each or "not registered" for each in legal))
        said = _SAID.get(kind, kind)
        return f"{name} is {state or 'not registered'}, and cannot be {said}: that goes from {from_}"
    if event.after != (entry.position if entry is not None else None):
        return f"{name} has changed since this was written"
    if kind == "added":
        return _unlike(entry, event)
    assert entry is not None
    if kind == "described":
        return _unlike(entry, event)
    if kind == "approved" and state == "shadow" and not event.override:
        return f"{name} is not recommended: only an override promotes it without evidence"
    if kind == "deploying":
        return _busy(registry, event)
    deployment = registry.deployment
    holds = deployment is not None and deployment.id == event.deployment
    if state in ("deploying", "baking") and not holds:
        return f"{event.deployment or 'no deployment'} does not hold the slot"
    if kind == "swapped":
        assert deployment is not None
        if not deployment.ready or deployment.refused:
            return f"no host has {name} ready, or one refuses it"
        out = deployment.replaces
        if out is not None and (out not in registry.entries or registry.entries[out].state != "live"):
            return f"{out}, which {name} replaces, is not live any more"
    if kind == "rolled_back" and state == "live" and not entry.deployment:
        return f"{name} was never deployed, so there is nothing to roll back: send it back to shadow"
    return None


def _busy(registry: Registry, event: Event) -> str | None:
    if registry.deployment is not None:
        return f"{registry.deployment.member} holds the deployment slot"
    return None if event.deployment else "a deployment needs an id"


def _unlike(entry: Entry | None, event: Event) -> str | None:
    """Whether the spec is another one than the id already stands for."""
    if event.spec is None or event.spec.id != event.member:
        return f"the spec of {event.member} is missing"
    if entry is None:
        return None
    if other := unlike(entry.spec, event.spec):
        names = ", ".join(sorted(other))
        return f"{event.member} is registered with another {names}: give it another version"
    return None


def unlike(old: MemberSpec, new: MemberSpec) -> set[str]:
    """Names of the fields in which `new` is another member than `old`, not just described otherwise."""
    other = differing(old, new) - DESCRIPTIVE
    if (new.trained_through or 0) > (old.trained_through or 0):
        # less of its history may speak for it: nothing that was said gets better
        other -= {"trained_through"}
    return other


def differing(one: MemberSpec, other: MemberSpec) -> set[str]:
    """Names of the fields in which two specs differ."""
    return {name for name in MemberSpec.model_fields if getattr(one, name) != getattr(other, name)}


def _apply(registry: Registry, entry: Entry | None, offset: int, event: Event) -> Registry:
    name, kind = event.member, event.kind
    if entry is None:
        assert event.spec is not None
        new = _enter(event, offset, event.spec, "shadow", len(registry.entries))
        return registry.model_copy(update={"entries": {**registry.entries, name: new}})
    _, to = TRANSITIONS[kind]
    change: dict[str, Any] = {"position": offset}
    if kind != "described":  # or who describes an approved member would be taken for who approved it
        change |= {"who": event.who, "why": event.why}
    if kind in ("added", "retired") or entry.state == "retired":
        change["declared"] = event.declared
    elif event.declared:
        change["declared"] = True
    if to is not None:
        change |= {"state": to, "since": event.at, "watermark": event.watermark}
        change |= {"place": None, "gain": None} if to not in ("queued", "deploying") else {}
    if kind in ("added", "described"):
        change["spec"] = event.spec
    if kind in ("added", "recommended", "approved"):
        change |= {"override": event.override, "by": None}
    if kind in ("queued", "reranked") and event.evidence:
        told = {name: event.evidence.get(name) for name in ("place", "gain")}
        change |= {**told, "judged": event.evidence.get("revision")}
    if kind == "recommended" and event.evidence:
        change["labels_through"] = event.evidence.get("labels_through")
    if kind in ("superseded", "aborted", "rolled_back", "back_to_shadow"):
        change |= {"by": event.by, "fell_back": event.watermark, "override": False}
        change["untimed"] = event.watermark is None
        change["by_hand"] = entry.by_hand or event.token is None or kind == "rolled_back"
    elif kind == "queued":  # not before: whoever approved it may not have been entitled to
        change["by_hand"] = False
    deployment, entries, more = registry.deployment, dict(registry.entries), dict[str, Any]()
    held = deployment is not None and deployment.member == name
    if kind == "deploying":
        out = entry.spec.replaces
        standing = entries.get(out) if out else None
        deployment = Deployment(
            id=event.deployment, member=name, began=event.at,
            replaces=out if standing is not None and standing.state == "live" else None,
            precision=event.suite_precision,
        )  # fmt: skip
    elif kind == "swapped":
        assert deployment is not None
        change |= {"deployment": deployment.id, "replaced": deployment.replaces}
        if registry.adopted is None:  # it stays when the member is rolled back: the OR is as it was before it
            more["adopted"] = deployment.precision
        if deployment.replaces is not None:
            _move(entries, deployment.replaces, "displaced", offset, event, by=name)
        went_in = {"swapped": event.watermark, "revision": registry.revision + 1}
        deployment = deployment.model_copy(update=went_in)
    elif kind in ("promoted", "aborted", "rolled_back") and held:
        deployment = None
    if kind == "promoted" and entry.replaced is not None:
        _move(entries, entry.replaced, "retired", offset, event, by=name)
    if kind == "retired":  # by whoever put it out before, it is not any more
        change["by"] = None
    if kind in ("rolled_back", "back_to_shadow", "retired"):
        if kind == "rolled_back":
            more |= {"rolled_back": event.watermark, "untimed": event.watermark is None}
            _restore(entries, entry, offset, event)
        change |= {"replaced": None, "deployment": ""}
    entries[name] = entry.model_copy(update=change)
    after = registry.model_copy(update={"entries": entries, "deployment": deployment, **more})
    return _next_revision(after) if after.live != registry.live else after


def _move(entries: dict[str, Entry], name: str, state: State, offset: int, event: Event, by: str) -> None:
    entries[name] = entries[name].model_copy(
        update={
            "state": state, "position": offset, "since": event.at, "who": event.who, "why": event.why,
            "by": by, "watermark": event.watermark,
        }
    )  # fmt: skip


def _restore(entries: dict[str, Entry], entry: Entry, offset: int, event: Event) -> None:
    """Whom the member had put out comes back with the same step, unless it has gone another way since."""
    old = entries.get(entry.replaced) if entry.replaced else None
    if old is not None and old.state in ("displaced", "retired") and old.by == entry.spec.id:
        _move(entries, old.spec.id, "live", offset, event, by=entry.spec.id)


def _next_revision(registry: Registry) -> Registry:
    number = registry.revision + 1
    lives = {**registry.lives, number: registry.live}
    return registry.model_copy(update={"revision": number, "lives": lives})


def _report(registry: Registry, event: Event) -> tuple[Registry, str | None]:
    """What a host says is a fact: it expects nothing, and is ignored where it is about something past."""
    if event.kind == "serving":
        if event.revision is None or event.revision not in registry.lives:
            return registry, f"there is no revision {event.revision} of the suite"
        servings = dict(registry.servings)
        for partition, at in event.positions.items():
            report = Serving(registry.applied - 1, at, event.revision, event.until.get(partition))
            before = servings.get(partition, ())
            if not before or before[-1][1:] != report[1:]:  # the same report twice is one
                servings[partition] = (*before, report)
        return registry.model_copy(update={"servings": servings}), None
    deployment = registry.deployment
    if deployment is None or (deployment.id, deployment.member) != (event.deployment, event.member):
        return registry, f"{event.member} is not being deployed as {event.deployment}"
    if event.kind == "ready":
        ready = tuple(sorted({*deployment.ready, event.who}))
        update: dict[str, Any] = {"ready": ready}
        # It had it in the OR already, and begins again. One that was merely late names no revision.
        if deployment.revision is not None and event.revision == deployment.revision:
            mine = {**deployment.starts.get(event.who, {}), event.id: event.process}  # twice the same is one
            update = {"starts": {**deployment.starts, event.who: mine}}
    else:
        update = {"refused": {**deployment.refused, event.who: event.why}}
    return registry.model_copy(update={"deployment": deployment.model_copy(update=update)}), None
