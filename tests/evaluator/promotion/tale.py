"""A registry that is told what people, hosts and the holder of the slot write, without a broker."""

from __future__ import annotations

from typing import Any

from evaluator.promotion.steps import View, next_step
from members.registry.events import EVALUATORS, Event
from members.registry.lifecycle import Registry, draft, fold
from streams.suite import DAY, MemberSpec, Policy

HOUR = 3_600_000
T0 = 100 * DAY
#: More events than any look at a few members may lead to.
BOUND = 60


def spec(name: str, stage: str = "shadow", replaces: str | None = None) -> MemberSpec:
    base, _, version = name.partition("@")
    fields: dict[str, Any] = {"owner": "ana", "loader": "m:C", "replaces": replaces, "stage": stage}
    return MemberSpec(name=base, version=version, **fields)


def verdict(state: str = "PROMOTE", *reasons: str, **more: Any) -> dict[str, Any]:
    return {"state": state, "reasons": list(reasons) or ["believed"], "twin": None, **more}


class Tale:
    """One suite: its registry, the present moment, and what the evidence says.

    live, shadow: ids; replaces: id → whom it replaces; the rest goes into the policy.
    """

    def __init__(
        self, live: list[str], shadow: list[str], replaces: dict[str, str] | None = None, **policy: Any
    ) -> None:
        self.registry, self.offset = Registry(), 0
        self.policy = Policy(**{"bake": "1h", "cooldown": "1d", **policy})
        self.watermark: int | None = T0
        self.labels: int | None = T0
        self.now, self.token = 10 * HOUR, 1
        self.clock, self.met, self.complete = 0, 0, False
        self.verdicts: dict[str, dict[str, Any]] = {}
        self.gains: dict[str, float | None] = {}
        self.answering: int | None = None
        self.breach: str | None = None
        self.told: list[Event] = []
        out = replaces or {}
        specs = [
            *(spec(n, "live", out.get(n)) for n in live),
            *(spec(n, "shadow", out.get(n)) for n in shadow),
        ]
        assert self.offer(Event(kind="founded", at=0, who="ana", why="first", members=specs)) is None

    def offer(self, event: Event) -> str | None:
        """Append the event; why it was ignored, None where it counts."""
        before = self.slot
        self.registry, ignored = fold(self.registry, self.offset, event)
        self.offset += 1
        if self.slot != before:
            self.met = self.clock
        if ignored is None:
            self.told.append(event)
        return ignored

    @property
    def slot(self) -> tuple[str, int | None] | None:
        """The deployment as it stands."""
        slot = self.registry.deployment
        return None if slot is None else (slot.id, slot.revision)

    def wait(self, ms: int) -> None:
        """The leader waits, by its own clock."""
        self.clock += ms

    def person(self, kind: Any, member: str, who: str = "ben", **more: Any) -> str | None:
        """A person writes, where a deployment is under way about that one; or what only an evaluator may."""
        slot = self.registry.deployment
        more = {"deployment": slot.id if slot else "", "watermark": self.watermark, **more}
        if kind in EVALUATORS:
            more = {"token": self.token, **more}
        return self.offer(draft(self.registry, kind, member, who=who, why="because", at=self.now, **more))

    def host(self, kind: Any, member: str = "", why: str = "so it is", **more: Any) -> str | None:
        slot = self.registry.deployment
        more = {"deployment": slot.id if slot else "", **more}
        return self.offer(draft(self.registry, kind, member, who="live-0", why=why, at=self.now, **more))

    def serve(self) -> None:
        """The present revision answers, from the present moment on."""
        assert self.host("serving", revision=self.registry.revision, positions={0: self.offset}) is None
        self.answering = self.watermark

    def view(self) -> View:
        return View(
            registry=self.registry, policy=self.policy, watermark=self.watermark, labels_through=self.labels,
            now=self.now, token=self.token, verdicts=self.verdicts, gains=self.gains,
            answering=self.answering, breach=self.breach,
            waited=self.clock - self.met, complete=self.complete,
        )  # fmt: skip

    def step(self) -> Event | None:
        return next_step(self.view())

    def settle(self) -> list[str]:
        """Write what is due until nothing is, or the suite has changed; ``member kind`` of each event."""
        out, revision = [], self.registry.revision
        while self.registry.revision == revision and (event := self.step()) is not None:
            assert self.offer(event) is None, event
            out.append(f"{event.member} {event.kind}".strip())
            assert len(out) < BOUND, out
        return out

    def later(self, ms: int) -> None:
        """Event time passes."""
        assert self.watermark is not None
        self.watermark += ms
        self.labels = self.watermark

    def states(self) -> dict[str, str]:
        return {name: entry.state for name, entry in self.registry.entries.items()}

    def bake(self, member: str) -> None:
        """By hand and at once into the OR, where it is answering."""
        assert self.person("approved", member, override=True) is None
        assert self.settle() == [f"{member} queued", f"{member} deploying"]
        assert self.host("ready", member) is None
        assert self.settle() == [f"{member} swapped"]
        self.serve()

    def deploy(self, member: str) -> None:
        self.bake(member)
        self.later(self.policy.bake)
        assert f"{member} promoted" in self.settle()

    @property
    def last(self) -> Event:
        return self.told[-1]
