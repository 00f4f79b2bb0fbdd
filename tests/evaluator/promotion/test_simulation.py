"""A random world of evidence, hosts, people and leaders that die, and what must always hold in it."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evaluator.promotion.steps import READY_WITHIN, WHO, next_step
from members.registry.events import EVALUATORS, Event
from members.registry.lifecycle import TRANSITIONS, draft
from members.registry.marks import ahead, untimed
from streams.suite import DAY
from tests.evaluator.promotion.tale import BOUND, HOUR, Tale, spec, verdict

REPLACES = {"a@2": "a@1", "a@3": "a@1", "b@1": "a@1"}
TWINS = {"c@1": "d@1", "d@1": "c@1"}
CANDIDATES = ["a@2", "a@3", "b@1", "c@1", "d@1"]
NAMES = ["a@1", *CANDIDATES]
STATES = ["PROMOTE", "PROMOTE", "PROMOTE", "HOLD", "REJECT", "INCONCLUSIVE"]
#: What takes a member out, or declines it.
OUT = ("aborted", "superseded", "rolled_back", "back_to_shadow", "retired")
CHANGES_LIVE = ("swapped", "rolled_back", "retired", "back_to_shadow")


class Worlds(RuleBasedStateMachine):
    """Rules happen in any order; `believes` is what the evidence would say of each in an OR without twins."""

    def __init__(self) -> None:
        super().__init__()
        self.tale = Tale([], [])
        self.believes: dict[str, str] = {}
        self.stale: list[Event] = []
        self.declined: set[str] = set()  # by a person, or rolled back: only a person brings them back
        self.asked: set[str] = set()  # overridden by a person since they fell back
        self.fell: dict[str, int] = {}  # rolled back at, event time

    @initialize(
        live=st.sets(st.sampled_from(NAMES[:2])),
        mode=st.sampled_from(["advise", "auto", "auto"]),
        approvers=st.sampled_from([[], ["eva"]]),
    )
    def found(self, live: set[str], mode: Any, approvers: list[str]) -> None:
        shadow = [name for name in NAMES if name not in live]
        self.tale = Tale(sorted(live), shadow, REPLACES, mode=mode, approvers=approvers)

    # -- the world as it is

    @property
    def time(self) -> int:
        assert self.tale.watermark is not None
        return self.tale.watermark

    def judge(self) -> None:
        """The evidence against the present OR; a twin of a live member is redundant."""
        tale, live = self.tale, self.tale.registry.live
        tale.verdicts = {}
        for name, state in self.believes.items():
            if name not in live:
                twin = TWINS.get(name)
                redundant = verdict("REJECT", "redundant", twin=twin)
                tale.verdicts[name] = redundant if twin in live else verdict(state)
        if tale.registry.deployment is None or tale.registry.deployment.revision is None:
            tale.answering = tale.breach = None

    def offer(self, event: Event) -> str | None:
        """Every event of the tale goes through here; what must hold of each is asserted here."""
        tale, before = self.tale, self.tale.registry
        ignored = tale.offer(event)
        after, name, kind = tale.registry, event.member, event.kind
        if ignored is not None:
            assert after == before.model_copy(update={"applied": tale.offset})
            return ignored
        assert event.why.strip()
        assert event.token is None or event.token >= before.token
        if after.live != before.live:
            assert kind in CHANGES_LIVE
            assert after.revision == before.revision + 1
        by_person = event.token is None
        if kind == "approved" and not by_person:
            assert name not in self.declined
            assert tale.policy.mode == "auto"
        if (
            kind == "approved"
            and by_person
            and (event.who in tale.policy.approvers or not tale.policy.approvers)
        ):
            self.declined.discard(name)
            if event.override:
                self.asked.add(name)
        if kind == "deploying" and not by_person and name not in self.asked:
            assert tale.verdicts[name]["state"] == "PROMOTE"
            for when in self.fell.values():
                assert event.watermark is not None
                assert event.watermark - when >= tale.policy.cooldown
        if kind == "promoted" and not by_person:
            assert tale.answering is not None
            assert tale.breach is None
            assert self.time - tale.answering >= tale.policy.bake
        if kind == "noticed":
            assert event.watermark is not None
            assert event.watermark <= self.time
            assert after.live == before.live
            assert tale.states() == {n: entry.state for n, entry in before.entries.items()}
            assert not untimed(after)
            assert not ahead(after, event.watermark, (event.evidence or {})["labels_through"])
        if kind in OUT:
            self.asked.discard(name)
            if (by_person and kind != "retired") or kind == "rolled_back":
                self.declined.add(name)
        if kind == "rolled_back":
            self.fell[name] = self.time
        self.judge()
        return None

    def lead(self) -> Event | None:
        """One event of the holder of the slot, which remembers nothing of the one before."""
        self.judge()
        event = self.tale.step()
        slot = self.tale.registry.deployment
        if slot is not None and slot.revision is not None and self.tale.breach:
            assert event is not None  # whatever marks there are
            assert (event.kind, event.member) == ("rolled_back", slot.member)
        if event is not None:
            ignored = self.offer(event)
            assert ignored is None, (event, ignored)
        return event

    # -- the evaluators

    @rule(events=st.integers(1, 4))
    def leads(self, events: int) -> None:
        """A few events, and then it dies or waits."""
        for _ in range(events):
            if self.lead() is None:
                return

    @rule()
    def settles(self) -> None:
        """At one moment there is an end to it."""
        for _ in range(BOUND):
            if self.lead() is None:
                return
        raise AssertionError(f"no end: {[(e.kind, e.member) for e in self.tale.told[-BOUND:]]}")

    @rule()
    def thinks(self) -> None:
        """A holder decides, and is frozen before it writes; another one has the slot from now on."""
        self.judge()
        event = self.tale.step()
        if event is not None:
            self.stale.append(event)
        self.tale.token += 1

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def thaws(self, data: st.DataObject) -> None:
        """It writes now: it counts only where nobody with a higher token has, and nothing has changed."""
        event = self.stale.pop(data.draw(st.integers(0, len(self.stale) - 1)))
        before = self.tale.registry
        moot = event.kind == "deploying" and self.tale.verdicts.get(event.member) != verdict()
        if event.token is not None and event.token < before.token:
            assert self.offer(event) is not None
        elif not moot and event.kind not in ("promoted", "deploying", "approved"):
            self.offer(event)

    @rule(blind=st.booleans())
    def rebuilds(self, blind: bool) -> None:
        """The evidence is read anew: at an earlier moment, or none, nothing is decided on it."""
        mark, tale = self.time, self.tale
        tale.watermark, whole, tale.complete = None if blind else mark - 20 * DAY, tale.complete, False
        event = next_step(tale.view())
        behind = blind or any(
            (at or 0) > mark - 20 * DAY
            for e in tale.registry.entries.values()
            if e.state != "retired"
            for at in (e.watermark, e.fell_back)
        )
        if event is not None and behind:
            assert event.kind in ("aborted", "rolled_back")
            assert event.watermark is None  # what is known then is not the present
        tale.watermark, tale.complete = mark, whole

    @rule()
    def reads(self) -> None:
        """The logs have been read to where they ended when the evidence was found to be behind."""
        self.tale.complete = True

    # -- the hosts

    @precondition(lambda self: self.tale.registry.deployment is not None)
    @rule(kind=st.sampled_from(["ready", "ready", "ready", "ready", "refused"]))
    def reports(self, kind: str) -> None:
        slot = self.tale.registry.deployment
        assert slot is not None
        self.host(kind, slot.member)

    def host(self, kind: Any, member: str = "", **more: Any) -> None:
        slot, tale = self.tale.registry.deployment, self.tale
        more = {"deployment": slot.id if slot else "", **more}
        self.offer(draft(tale.registry, kind, member, who="live-0", why="said so", at=tale.now, **more))

    @rule()
    def answers(self) -> None:
        """The present revision answers."""
        slot, tale = self.tale.registry.deployment, self.tale
        self.host("serving", revision=tale.registry.revision, positions={0: tale.offset})
        if slot is not None and slot.revision is not None and tale.answering is None:
            tale.answering = self.time

    @precondition(lambda self: self.tale.answering is not None)
    @rule()
    def hurts(self) -> None:
        self.tale.breach = "it flags 40 % of the requests"

    # -- time, evidence, people

    @rule(
        event_time=st.sampled_from([0, HOUR, HOUR, DAY, 3 * DAY]),
        clock=st.sampled_from([0, 1, READY_WITHIN]),
        stepped=st.sampled_from([0, 0, -HOUR, HOUR]),
    )
    def passes(self, event_time: int, clock: int, stepped: int = 0) -> None:
        """Event time, the leader's own clock, and that of the wall, which somebody may set."""
        self.tale.later(event_time)
        self.tale.wait(clock)
        self.tale.now = max(0, self.tale.now + clock + stepped)

    @rule()
    def succeeds(self) -> None:
        """Another evaluator leads: it waits anew for hosts."""
        self.tale.met, self.tale.complete = self.tale.clock, False
        self.tale.token += 1

    @rule(name=st.sampled_from(CANDIDATES), state=st.sampled_from(STATES), gain=st.none() | st.integers(0, 9))
    def learns(self, name: str, state: str, gain: int | None) -> None:
        self.believes[name] = state
        self.tale.gains[name] = gain
        self.judge()

    @rule(
        data=st.data(), name=st.sampled_from(NAMES), who=st.sampled_from(["eva", "ben"]),
        mark=st.sampled_from([None, None, 0, 1000 * DAY]),
    )  # fmt: skip
    def decides(self, data: st.DataObject, name: str, who: str, mark: int | None) -> None:
        """A person does what the table allows, mostly without event time, or with a wrong one."""
        registry, slot = self.tale.registry, self.tale.registry.deployment
        state = registry.entries[name].state if name in registry.entries else None
        told = None if mark is None else self.time + mark
        kinds = ("approved", "added", *(kind for kind in OUT if kind not in EVALUATORS))
        kind: Any = data.draw(
            st.sampled_from([k for k in kinds if state in TRANSITIONS[k][0]] or ["approved"])
        )
        self.offer(
            draft(
                registry, kind, name, who=who, why="I say so", at=self.tale.now, watermark=told,
                deployment=slot.id if slot else "", override=data.draw(st.booleans()),
                spec=spec(name, replaces=REPLACES.get(name)) if kind == "added" else None,
            )
        )  # fmt: skip

    # -- what holds

    @invariant()
    def one_at_a_time(self) -> None:
        states = list(self.tale.states().values())
        moving = states.count("deploying") + states.count("baking")
        assert moving == (self.tale.registry.deployment is not None)
        assert states.count("displaced") <= states.count("baking")

    def teardown(self) -> None:
        """Left alone, with hosts that do their work, everybody in the queue comes to an end."""
        tale = self.tale
        if not tale.registry.entries:
            return
        waiting = {n for n, state in tale.states().items() if state in ("approved", "queued")}
        told = len(tale.told)
        tale.breach, tale.complete = None, True
        for _ in range(8 * len(NAMES)):
            self.settles()
            slot = tale.registry.deployment
            if slot is not None and slot.revision is None:
                self.host("ready", slot.member)
            elif slot is not None:
                self.answers()
            self.passes(DAY, 1)
        assert tale.registry.deployment is None
        events = {(e.member, e.kind): e for e in tale.told[told:]}
        for name in waiting:
            state = tale.states()[name]
            if state == "queued":  # its approval stands, the evidence is still to come
                assert tale.verdicts[name]["state"] != "PROMOTE" if name in tale.verdicts else True
            else:
                ends = [
                    events.get((name, kind)) for kind in ("promoted", "superseded", "aborted", "rolled_back")
                ]
                assert any(ends), (name, state)
        if tale.policy.mode == "auto":
            for name, found in tale.verdicts.items():
                entry = tale.registry.entries[name]
                assert found["state"] != "PROMOTE" or entry.by_hand or entry.state == "retired", (name, entry)
        assert all(e.who != WHO or e.token is not None for e in tale.told if e.kind != "founded")


TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
