"""What applying a suite file would do, and that doing it leaves nothing to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.registry.events import EVALUATORS, Event
from members.registry.lifecycle import Registry, draft, fold
from members.registry.plan import NOTES, added, dangling, leaving, plan
from streams.suite import MemberSpec, Suite


def spec(name: str, stage: str = "shadow", **more: Any) -> MemberSpec:
    base, _, version = name.partition("@")
    return MemberSpec(name=base, version=version, stage=stage, **{"owner": "ana", "loader": "m:C", **more})


def suite(*specs: MemberSpec) -> Suite:
    return Suite(name="s", member=list(specs))


class Desk:
    """A registry that events are written to, each as of the registry before it."""

    def __init__(self, *specs: MemberSpec) -> None:
        self.registry = Registry()
        self.write(Event(kind="founded", at=0, who="x", why="y", members=list(specs)))

    def write(self, event: Event) -> None:
        self.registry, ignored = fold(self.registry, self.registry.applied, event)
        assert ignored is None

    def tell(self, kind: Any, member: str, **more: Any) -> None:
        slot = self.registry.deployment
        deployment = "d" if kind == "deploying" else slot.id if slot else ""
        token = self.registry.token if kind in EVALUATORS else None
        more = {"deployment": deployment, "token": token, **more}
        self.write(draft(self.registry, kind, member, who="eva", why="because", at=1, **more))

    def go(self, member: str, *kinds: Any) -> None:
        for kind in kinds:
            self.tell(kind, member)

    def apply(self, declared: Suite, *, steps: int | None = None) -> None:
        """Carry the plan out, or its first `steps` events."""
        left = steps
        for change in plan(declared, self.registry):
            for kind, carried in () if change.what in NOTES else change.steps:
                if left == 0:
                    return
                self.tell(kind, change.member, spec=carried, declared=True, override=kind == "approved")
                left = None if left is None else left - 1

    def plan(self, *specs: MemberSpec) -> list[tuple[str, str]]:
        return [(change.what, change.member) for change in plan(suite(*specs), self.registry)]

    @property
    def states(self) -> dict[str, str]:
        return {name: entry.state for name, entry in self.registry.entries.items()}


UP = ("recommended", "approved", "queued", "deploying", "ready", "swapped")


def test_a_file_that_says_what_is_there_changes_nothing():
    """Founding from a file and applying it are the same."""
    specs = (spec("a@1", "live"), spec("b@1"))
    assert Desk(*specs).plan(*specs) == []


def test_new_ones_come_in_shadow_and_live_ones_go_through_the_slot():
    """stage = "live" is an override: it is approved, and waits for its deployment like any other."""
    desk = Desk(spec("a@1", "live"))
    declared = suite(spec("a@1", "live"), spec("b@1"), spec("c@1", "live"))
    desk.apply(declared)
    assert desk.states == {"a@1": "live", "b@1": "shadow", "c@1": "approved"}
    assert desk.registry.entries["c@1"].override
    assert plan(declared, desk.registry) == []


@pytest.mark.parametrize(
    ("ways", "stage", "what", "state"),
    [
        ((), "live", "deploy", "approved"),
        (("recommended",), "live", "deploy", "approved"),
        (UP[:3], "live", "describe", "queued"),
        (UP, "live", "describe", "baking"),
    ],
)
def test_shadow_to_live(ways, stage, what, state):
    """Who is not on the way yet is approved; for the others the file only catches up."""
    desk = Desk(spec("a@1"))
    desk.go("a@1", *ways)
    assert desk.plan(spec("a@1", stage)) == [(what, "a@1")]
    desk.apply(suite(spec("a@1", stage)))
    assert desk.states == {"a@1": state}
    assert desk.plan(spec("a@1", stage)) == []


def test_live_to_shadow():
    """A live one goes back; one that only waits is withdrawn; one that is just going in has to wait."""
    desk = Desk(spec("a@1", "live"), spec("b@1"), spec("c@1"))
    desk.apply(suite(spec("a@1", "live"), spec("b@1", "live"), spec("c@1", "live")))
    desk.go("c@1", *UP[2:])
    after = suite(spec("a@1"), spec("b@1"), spec("c@1", owner="ben"))
    told = [(change.what, change.member) for change in plan(after, desk.registry)]
    assert told == [("back_to_shadow", "a@1"), ("withdraw", "b@1"), ("describe", "c@1"), ("wait", "c@1")]
    desk.apply(after)
    assert desk.states == {"a@1": "shadow", "b@1": "shadow", "c@1": "baking"}
    assert [change.what for change in plan(after, desk.registry)] == ["wait"]
    desk.go("c@1", "promoted")
    desk.apply(after)
    assert desk.states["c@1"] == "shadow"


def test_what_evidence_or_people_decided_is_left_alone():
    """The file has not changed its mind, so it does not undo a promotion, a roll-back or a retirement."""
    specs = (spec("a@1"), spec("b@1", "live"), spec("c@1"))
    desk = Desk(*specs)
    desk.go("a@1", *UP, "promoted")
    desk.go("b@1", "back_to_shadow")
    desk.go("c@1", "retired")
    assert desk.plan(*specs) == [("drift", "a@1"), ("drift", "b@1"), ("drift", "c@1")]


def test_what_leaves_the_file_is_retired_and_what_comes_back_is_added():
    """Only what the file once had; never what is just being deployed; and not what a person registered."""
    desk = Desk(spec("a@1", "live"), spec("b@1"), spec("c@1"))
    desk.tell("added", "d@1", spec=spec("d@1"))
    desk.go("c@1", *UP)
    assert desk.plan() == [("retire", "a@1"), ("retire", "b@1"), ("wait", "c@1"), ("by_hand", "d@1")]
    desk.apply(suite())
    assert desk.states == {"a@1": "retired", "b@1": "retired", "c@1": "baking", "d@1": "shadow"}
    assert desk.plan(spec("b@1")) == [("add", "b@1"), ("wait", "c@1"), ("by_hand", "d@1")]
    desk.apply(suite(spec("b@1"), spec("d@1")))
    assert desk.states["b@1"] == "shadow"
    assert ("retire", "d@1") in desk.plan()


def test_a_replaced_member_goes_out_with_the_swap_and_not_before():
    """A file that exchanges storm@1 for a live storm@2 leaves storm@1 in until storm@2 is."""
    desk = Desk(spec("storm@1", "live"))
    declared = suite(spec("storm@2", "live", replaces="storm@1"))
    assert desk.plan(*declared.member) == [("add", "storm@2"), ("wait", "storm@1")]
    desk.apply(declared)
    assert desk.states == {"storm@1": "live", "storm@2": "approved"}
    desk.go("storm@2", *UP[2:], "promoted")
    assert desk.states == {"storm@1": "retired", "storm@2": "live"}
    assert plan(declared, desk.registry) == []


def test_another_classifier_under_an_old_id_is_a_conflict():
    """It is told, with both values, and nothing is planned for it."""
    desk = Desk(spec("a@1", params={"x": 1}))
    (change,) = plan(suite(spec("a@1", "live", params={"x": 2})), desk.registry)
    assert (change.what, change.steps) == ("conflict", ())
    assert change.fields == {"params": ({"x": 1}, {"x": 2})}
    assert "give it another version" in change.detail


def test_what_speaks_against_a_plan():
    """A new member that replaces one that nobody knows, and live ones without whom nobody is left."""
    desk = Desk(spec("a@1", "live"), spec("b@1", "live"))
    declared = suite(spec("a@1"), spec("c@1"), spec("d@1", replaces="c@1"), spec("e@1", replaces="z@9"))
    changes = plan(declared, desk.registry)
    assert [each.id for each in added(changes)] == ["c@1", "d@1", "e@1"]
    assert dangling(changes, declared, desk.registry) == {
        "e@1": "e@1 replaces z@9, which is not registered: check its id"
    }
    assert leaving(changes, desk.registry) == ["a@1", "b@1"]
    more = suite(spec("a@1"), spec("c@1", "live"), spec("b@1", "live"))
    assert leaving(plan(more, desk.registry), desk.registry) == []
    assert leaving([], Desk(spec("a@1")).registry) == []


NAMES = ["a@1", "a@2", "b@1", "c@1"]
SPECS = st.builds(
    spec,
    st.sampled_from(NAMES),
    st.sampled_from(["shadow", "live"]),
    owner=st.sampled_from(["ana", "ben"]),
    replaces=st.sampled_from([None, "a@1"]),
)
SUITES = st.lists(SPECS, unique_by=lambda each: each.id, max_size=4).map(lambda specs: suite(*specs))


@settings(max_examples=150, deadline=None)
@given(SUITES, st.lists(SUITES, min_size=1, max_size=3), st.data())
def test_after_an_apply_there_is_nothing_to_do(first, later, data):
    """Whatever happened between; and an apply that was cut short is completed by the next one."""
    desk = Desk(*first.member)
    for declared in later:
        for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=2)):
            way = {"shadow": UP, "live": ("back_to_shadow",), "retired": ("back_to_shadow",)}
            way |= {"approved": UP[2:], "queued": UP[3:], "baking": ("promoted",)}
            kinds = way.get(desk.states.get(name, ""), ())
            if desk.registry.deployment is not None and "deploying" in kinds:
                kinds = kinds[: kinds.index("deploying")]
            desk.go(name, *kinds[: data.draw(st.integers(1, 8))])
        desk.apply(declared, steps=data.draw(st.none() | st.integers(0, 3)))
        desk.apply(declared)
        assert [change for change in plan(declared, desk.registry) if change.what not in NOTES] == []
