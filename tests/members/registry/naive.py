"""The life of a member once more, as naively as can be: what the fold is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from members.registry.events import Event

#: Kind → where it may be written, and where it leads ("." stays; "-": the member is not there).
TABLE = {
    "added": ("- retired", "shadow"),
    "described": ("shadow recommended approved queued deploying baking live displaced", "."),
    "recommended": ("shadow", "recommended"),
    "approved": ("shadow recommended", "approved"),
    "queued": ("approved", "queued"),
    "reranked": ("queued", "."),
    "deploying": ("queued", "deploying"),
    "swapped": ("deploying", "baking"),
    "promoted": ("baking", "live"),
    "superseded": ("recommended approved queued", "shadow"),
    "aborted": ("recommended approved queued deploying", "shadow"),
    "rolled_back": ("baking live", "shadow"),
    "retired": ("shadow recommended approved queued live", "retired"),
    "back_to_shadow": ("live retired", "shadow"),
}
#: Kinds that count with a token only.
ONLY_EVALUATORS = (
    "recommended",
    "queued",
    "reranked",
    "deploying",
    "swapped",
    "promoted",
    "superseded",
    "noticed",
)


@dataclass
class Slot:
    """Who is being deployed, instead of whom, and what hosts said."""

    id: str
    member: str
    out: str | None
    ready: bool = False
    refused: bool = False
    swapped: bool = False
    precision: float | None = None


@dataclass
class Naive:
    """States and counters, changed in place. `offer` says whether an event counts."""

    state: dict[str, str] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    what: dict[str, str] = field(default_factory=dict)
    came: dict[str, str] = field(default_factory=dict)
    put_out: dict[str, str] = field(default_factory=dict)
    out_by: dict[str, str] = field(default_factory=dict)
    revisions: list[frozenset[str]] = field(default_factory=list)
    slot: Slot | None = None
    token: int = 0
    adopted: float | None = None
    #: when each fell back, and the last roll-back (""): event time, or "?"
    fell: dict[str, int | str] = field(default_factory=dict)

    @property
    def live(self) -> frozenset[str]:
        return frozenset(name for name, state in self.state.items() if state in ("live", "baking"))

    def offer(self, offset: int, event: Event) -> bool:
        if event.kind in ("ready", "refused", "serving"):
            return self._report(event)
        if event.expected != len(self.revisions):
            return False
        if event.token is None and event.kind in ONLY_EVALUATORS:
            return False
        if event.token is not None and event.token < self.token:
            return False
        if event.kind == "founded":
            counts = not self.revisions
            if counts:
                for spec in event.members:
                    self.state[spec.id] = "live" if spec.stage == "live" else "shadow"
                    self.last[spec.id], self.what[spec.id] = offset, spec.loader
                self.revisions.append(self.live)
        elif event.kind == "noticed":
            now = event.watermark
            counts = bool(self.revisions) and now is not None
            if counts and now is not None:
                self.fell = {n: now if at == "?" else min(now, int(at)) for n, at in self.fell.items()}
        else:
            counts = self._legal(event)
            if counts:
                before = self.live
                self._do(offset, event)
                self.last[event.member] = offset
                if self.live != before:
                    self.revisions.append(self.live)
        if counts and event.token is not None:
            self.token = event.token
        return counts

    def _report(self, event: Event) -> bool:
        if event.kind == "serving":
            return event.revision is not None and 1 <= event.revision <= len(self.revisions)
        slot = self.slot
        if slot is None or slot.id != event.deployment or slot.member != event.member:
            return False
        if event.kind == "refused":
            slot.refused = True
            return True
        slot.ready = True
        return True

    def _legal(self, event: Event) -> bool:
        name, kind, slot = event.member, event.kind, self.slot
        now = self.state.get(name, "-")
        if not self.revisions or now not in TABLE[kind][0].split():
            return False
        if event.after != self.last.get(name):
            return False
        if kind in ("added", "described"):
            spec = event.spec
            return spec is not None and spec.id == name and spec.loader == self.what.get(name, spec.loader)
        if kind == "approved" and now == "shadow":
            return event.override
        if kind == "deploying":
            return slot is None and event.deployment != ""
        if now in ("deploying", "baking") and (slot is None or slot.id != event.deployment):
            return False
        if kind == "swapped":
            assert slot is not None
            return slot.ready and not slot.refused and (slot.out is None or self.state[slot.out] == "live")
        if kind == "rolled_back" and now == "live":
            return name in self.came
        return True

    def _do(self, offset: int, event: Event) -> None:
        name, kind = event.member, event.kind
        now, to = self.state.get(name), TABLE[kind][1]
        if kind in ("added", "described"):
            assert event.spec is not None
            self.what[name] = event.spec.loader
        if kind == "deploying":
            out = {"a@2": "a@1", "b@1": "a@1", "d@1": "b@1"}.get(name)
            self.slot = Slot(event.deployment, name, out if out and self.state.get(out) == "live" else None)
            self.slot.precision = event.suite_precision
        if kind == "swapped":
            assert self.slot is not None
            self.slot.swapped = True
            self.adopted = self.slot.precision if self.adopted is None else self.adopted
            self.came[name] = self.slot.id
            self.put_out.pop(name, None)
            if self.slot.out:
                self.state[self.slot.out] = "displaced"
                self.last[self.slot.out] = offset
                self.put_out[name], self.out_by[self.slot.out] = self.slot.out, name
        if kind in ("promoted", "aborted", "rolled_back") and now in ("deploying", "baking"):
            self.slot = None
        if kind == "promoted" and name in self.put_out:
            self.state[self.put_out[name]] = "retired"
            self.last[self.put_out[name]] = offset
        old = self.put_out.get(name, "")
        if kind == "rolled_back" and self.out_by.get(old) == name:
            assert self.state[old] in ("displaced", "retired")
            self.state[old] = "live"
            self.last[old] = offset
        if kind in ("rolled_back", "back_to_shadow", "retired"):
            self.came.pop(name, None)
            self.put_out.pop(name, None)
        if kind in ("added", "retired", "back_to_shadow"):
            self.out_by.pop(name, None)
        if kind in ("superseded", "aborted", "rolled_back", "back_to_shadow"):
            self.fell[name] = "?" if event.watermark is None else event.watermark
        if kind == "rolled_back":
            self.fell[""] = self.fell[name]
        if to != ".":
            self.state[name] = to
