"""What `chorus members apply` would do: the suite file against the registry. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from members.registry.events import Kind
from members.registry.lifecycle import IN_THE_OR, Entry, Registry, differing, unlike
from streams.suite import MemberSpec, Suite

What = Literal[
    "add", "describe", "deploy", "back_to_shadow", "withdraw", "retire",
    "conflict", "wait", "drift", "by_hand",
]  # fmt: skip
#: Events with the specs that they carry.
Steps = tuple[tuple[Kind, MemberSpec | None], ...]
#: What a person has to resolve, or to know; nothing is written for it.
NOTES = frozenset(("conflict", "wait", "drift", "by_hand"))


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the plan. steps: the events that it takes, in order, with the spec that they carry.

    fields: name → (what the registry has, what the file says). detail: one sentence.
    """

    what: What
    member: str
    detail: str
    steps: Steps = ()
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def approves(self) -> bool:
        """Whether it puts the member on its way into the OR."""
        return any(kind == "approved" for kind, _ in self.steps)


def plan(declared: Suite, registry: Registry) -> list[Change]:
    """The changes in the order in which they are made, notes last.

    Stopping between two steps of a change leaves what the next plan completes. What was registered by a
    single command, and never stood in the file, is not for the file to retire.
    """
    found: list[Change] = []
    for spec in declared.member:
        entry = registry.entries.get(spec.id)
        found += _absent(spec) if entry is None else _present(spec, entry)
    for name, entry in registry.entries.items():
        if name not in declared.members and entry.state != "retired":
            found += _left(name, entry, _successor(name, declared, registry))
    return sorted(found, key=lambda change: change.what in NOTES)


def not_there(spec: MemberSpec) -> str:
    """What is wrong with a new member that replaces one that nobody knows."""
    return f"{spec.id} replaces {spec.replaces}, which is not registered: check its id"


def added(changes: Sequence[Change]) -> list[MemberSpec]:
    """What would be registered."""
    return [spec for change in changes for kind, spec in change.steps if kind == "added" and spec is not None]


def dangling(changes: Sequence[Change], declared: Suite, registry: Registry) -> dict[str, str]:
    """Member → what is wrong with it, for those to be added that replace one that nobody knows."""
    known = {None, *registry.entries, *declared.members}
    return {spec.id: not_there(spec) for spec in added(changes) if spec.replaces not in known}


def leaving(changes: Sequence[Change], registry: Registry) -> list[str]:
    """The live members that would go, where nobody would be left in the OR; else none.

    Whoever is approved by the same changes comes later, through the slot.
    """
    out = [change.member for change in changes if change.what in ("retire", "back_to_shadow")]
    gone = [name for name in registry.live if name in out]
    return gone if len(gone) == len(registry.live) else []


def _absent(spec: MemberSpec, again: str = "") -> Iterator[Change]:
    shadow: Steps = (("added", spec.model_copy(update={"stage": "shadow"})),)
    if spec.stage == "shadow":
        yield Change("add", spec.id, f"new, as a shadow candidate of {spec.owner}{again}", shadow)
    else:
        steps: Steps = (*shadow, ("approved", None), ("described", spec))
        yield Change("add", spec.id, f"new{again}; then deployed through the slot, without evidence", steps)


def _present(spec: MemberSpec, entry: Entry) -> Iterator[Change]:
    other = unlike(entry.spec, spec)
    fields = {name: (getattr(entry.spec, name), getattr(spec, name)) for name in differing(entry.spec, spec)}
    if entry.state == "retired":
        if not entry.declared or entry.by is not None:
            yield Change("drift", spec.id, f"{_since(entry)}; take it out of the file, or bring it back")
            return
        if not other:
            yield from _absent(spec, ", again")
            return
    if other:
        names = ", ".join(sorted(other))
        detail = f"registered with another {names}: give it another version"
        yield Change("conflict", spec.id, detail, fields={name: fields[name] for name in sorted(other)})
        return
    was, now = entry.spec.stage, spec.stage
    described: Steps = (("described", spec),)
    if was != now:
        moved = _moved(spec, entry, fields)
        yield moved
        if moved.what != "wait":
            return
        spec = spec.model_copy(update={"stage": was})
        fields.pop("stage")
        described = (("described", spec),)
    if fields or not entry.declared:
        detail = "described anew" if fields else "now in the suite file"
        yield Change("describe", spec.id, detail, described, fields)
    if was == now == "shadow" and entry.state in (*IN_THE_OR, "deploying"):
        yield Change("drift", spec.id, f"the file says shadow; {_since(entry)}; left alone")
    if was == now == "live" and entry.state in ("shadow", "recommended"):
        yield Change("drift", spec.id, f"the file says live; {_since(entry)}; left alone")


def _moved(spec: MemberSpec, entry: Entry, fields: dict[str, tuple[Any, Any]]) -> Change:
    """The file's stage is another one than it was."""
    described: tuple[Kind, MemberSpec] = ("described", spec)
    if spec.stage == "live":
        if entry.state in ("shadow", "recommended"):
            detail = "approved without evidence, and deployed through the slot"
            return Change("deploy", spec.id, detail, (("approved", None), described), fields)
        return Change("describe", spec.id, f"the file has it live; {entry.state}", (described,), fields)
    if entry.state == "live":
        steps: Steps = (("back_to_shadow", None), described)
        return Change("back_to_shadow", spec.id, "out of the OR; goes on scoring", steps, fields)
    if entry.state in ("approved", "queued"):
        steps = (("aborted", None), described)
        return Change("withdraw", spec.id, f"it was {entry.state}, and stays in shadow", steps, fields)
    if entry.state in ("deploying", "baking", "displaced"):
        return Change("wait", spec.id, f"{entry.state}: apply again when that is over", fields=fields)
    return Change("describe", spec.id, "the file has it in shadow", (described,), fields)


def _left(name: str, entry: Entry, successor: str | None) -> Iterator[Change]:
    if not entry.declared:
        yield Change("by_hand", name, f"not in the file; {_since(entry)}; left alone")
    elif entry.state in ("deploying", "baking", "displaced"):
        yield Change("wait", name, f"no longer in the file, but {entry.state}: apply again when that is over")
    elif entry.state == "live" and successor is not None:
        yield Change("wait", name, f"goes out with the deployment of {successor}, which replaces it")
    else:
        detail = f"no longer in the file; it was {entry.state}"
        detail += " and leaves the OR" if entry.state == "live" else ""
        yield Change("retire", name, detail, (("retired", None),))


def _successor(name: str, declared: Suite, registry: Registry) -> str | None:
    """Who replaces the member according to the file, and is not live yet."""
    for spec in declared.member:
        entry = registry.entries.get(spec.id)
        if spec.replaces == name and spec.stage == "live" and (entry is None or entry.state != "live"):
            return spec.id
    return None


def _since(entry: Entry) -> str:
    return f"{entry.state} since {entry.who} wrote: {entry.why}"
