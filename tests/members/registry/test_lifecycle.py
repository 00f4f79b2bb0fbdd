"""The life of a member: its table of transitions, and the fold against a naive model of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from members.registry.events import EVALUATORS, REPORTS, Event, decode_event, encode_event
from members.registry.lifecycle import TRANSITIONS, Registry, draft, fold
from streams.suite import MemberSpec
from tests.members.registry.naive import TABLE, Naive

REPLACES = {"a@2": "a@1", "b@1": "a@1", "d@1": "b@1"}
NAMES = ["a@1", "a@2", "b@1", "c@1", "d@1"]
DECIDED = sorted(TABLE)
ENDS = ["rolled_back", "retired", "back_to_shadow"]


def spec(name: str, stage: str = "shadow", **more: Any) -> MemberSpec:
    base, _, version = name.partition("@")
    fields = {"owner": "ana", "loader": "m:C", "replaces": REPLACES.get(name), **more}
    return MemberSpec(name=base, version=version, stage=stage, **fields)


def founded(live: list[str], shadow: list[str]) -> Event:
    specs = [*(spec(name, "live") for name in live), *(spec(name) for name in shadow)]
    return Event(kind="founded", at=0, who="ana", why="first", members=specs)


class Story:
    """A log that grows: `tell` writes what the registry expects, whoever writes it."""

    def __init__(self, live: list[str], shadow: list[str]) -> None:
        self.registry, self.offset, self.why = Registry(), 0, None
        self.offer(founded(live, shadow))

    def offer(self, event: Event) -> str | None:
        self.registry, self.why = fold(self.registry, self.offset, event)
        self.offset += 1
        return self.why

    def tell(self, kind: Any, member: str, **more: Any) -> str | None:
        if kind in ("added", "described"):
            more = {"spec": spec(member), **more}
        slot = self.registry.deployment
        if kind == "deploying":
            more = {"deployment": f"d{self.offset}", **more}
        elif slot is not None:
            more = {"deployment": slot.id, **more}
        if kind in EVALUATORS:
            more = {"token": self.registry.token, **more}
        more = {"who": "ben", "why": "because", **more}
        return self.offer(draft(self.registry, kind, member, at=self.offset, **more))

    def deploy(self, member: str, *, to: str = "promoted") -> None:
        steps = ["recommended", "approved", "queued", "deploying", "ready", "swapped", "promoted"]
        for kind in steps[: steps.index(to) + 1]:
            assert self.tell(kind, member) is None

    def states(self) -> dict[str, str]:
        return {name: entry.state for name, entry in self.registry.entries.items()}


def test_the_table_is_the_one_of_the_naive_model():
    """Every kind of event that is not a host's report has its row, with the same states."""
    mine = {
        kind: (
            frozenset(None if each == "-" else each for each in where.split()),
            None if to == "." else to,
        )
        for kind, (where, to) in TABLE.items()
    }
    assert dict(TRANSITIONS) == mine


@pytest.mark.parametrize("kind", DECIDED)
def test_every_state_that_is_not_in_the_row_ignores_it(kind):
    """From each reachable state the event counts where its row says so, and changes nothing elsewhere."""
    reach: dict[str, list[str]] = {
        "shadow": [], "recommended": ["recommended"], "approved": ["recommended", "approved"],
        "queued": ["recommended", "approved", "queued"],
        "deploying": ["recommended", "approved", "queued", "deploying", "ready"],
        "baking": ["recommended", "approved", "queued", "deploying", "ready", "swapped"],
        "live": ["recommended", "approved", "queued", "deploying", "ready", "swapped", "promoted"],
        "retired": ["retired"],
    }  # fmt: skip
    for state, steps in reach.items():
        story = Story(["c@1"], ["a@1"])
        for step in steps:
            assert story.tell(step, "a@1") is None
        assert story.states()["a@1"] == state
        before = story.registry
        ignored = story.tell(kind, "a@1", override=True)
        assert (ignored is None) == (state in TABLE[kind][0].split()), (state, ignored)
        if ignored is not None:
            assert story.registry == before.model_copy(update={"applied": story.offset})
            assert f"a@1 is {state}" in ignored


def test_a_replacement_goes_in_by_one_step_and_comes_out_by_one():
    """While it bakes the old one is displaced; promoted, the old one is retired; rolled back, it is live."""
    story = Story(["a@1", "c@1"], ["a@2"])
    story.deploy("a@2", to="swapped")
    assert story.states() == {"a@1": "displaced", "c@1": "live", "a@2": "baking"}
    assert story.registry.lives == {1: ("a@1", "c@1"), 2: ("c@1", "a@2")}
    assert story.tell("promoted", "a@2") is None
    assert story.states() == {"a@1": "retired", "c@1": "live", "a@2": "live"}
    assert story.registry.revision == 2
    assert story.tell("rolled_back", "a@2") is None
    assert story.states() == {"a@1": "live", "c@1": "live", "a@2": "shadow"}
    assert story.registry.revision == 3
    assert story.tell("rolled_back", "a@2") is not None


def test_whoever_was_retired_by_a_person_does_not_come_back_with_a_roll_back():
    """A member that went its own way after it had been replaced stays where it is."""
    story = Story(["a@1"], ["a@2"])
    story.deploy("a@2")
    for kind in ("back_to_shadow", "recommended", "superseded", "retired"):
        assert story.tell(kind, "a@1", by="a@2" if kind == "superseded" else None) is None
    assert story.tell("rolled_back", "a@2") is None
    assert story.states() == {"a@1": "retired", "a@2": "shadow"}


def test_the_first_of_two_writers_wins():
    """Both wrote for the same registry; the second one's event is ignored, and says why."""
    story = Story(["a@1", "c@1"], [])
    one, two = (draft(story.registry, "retired", name, who="ben", why="old", at=1) for name in ("a@1", "c@1"))
    assert story.offer(one) is None
    assert story.offer(two) == "it expected revision 1 of the suite, which is at 2"
    same = [draft(story.registry, "described", "c@1", who=w, why="w", at=2, spec=spec("c@1")) for w in "pq"]
    assert story.offer(same[0]) is None
    assert story.offer(same[1]) == "c@1 has changed since this was written"


def test_a_holder_that_has_lost_the_slot_writes_nothing():
    """A token below the highest that was seen is ignored; an ignored event does not raise it."""
    story = Story(["a@1"], ["b@1"])
    assert story.tell("promoted", "b@1", token=9) is not None
    assert story.registry.token == 0
    assert story.tell("recommended", "b@1", token=7) is None
    assert "lost the deployment slot" in (story.tell("approved", "b@1", token=6) or "")
    assert story.tell("approved", "b@1", token=7) is None


def test_one_that_describes_an_approved_member_has_not_approved_it():
    """A description leaves the name and the reason of who decided."""
    story = Story(["a@1"], ["b@1"])
    assert story.tell("recommended", "b@1") is None
    assert story.tell("approved", "b@1", who="eva", why="good") is None
    assert story.tell("described", "b@1", who="ben", why="new team", spec=spec("b@1", team="x")) is None
    entry = story.registry.entries["b@1"]
    assert (entry.who, entry.why, entry.spec.team, entry.position) == ("eva", "good", "x", 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"loader": "m:D"}, "b@1 is registered with another loader: give it another version"),
        ({"threshold": 0.5, "params": {"x": 1}}, "another params, threshold"),
        ({"owner": "eva", "team": "t", "stage": "live", "tags": ["x"]}, None),
        ({"trained_through": 2000}, None),
        ({"trained_through": 500}, "another trained_through"),
    ],
)
def test_a_version_stays_the_classifier_that_it_is(change, sentence):
    """Only its description may change, and its training data only to have seen more."""
    story = Story(["a@1"], [])
    assert story.tell("added", "b@1", spec=spec("b@1", trained_through=1000)) is None
    told = story.tell("described", "b@1", spec=spec("b@1", **{"trained_through": 1000, **change}))
    assert (told is None) if sentence is None else (told is not None and sentence in told)


def test_the_suite_file_is_remembered():
    """What the file had is `declared`; what it took away, too, until a person brings it back."""
    story = Story(["a@1"], ["b@1"])
    assert story.tell("added", "c@1") is None
    assert story.tell("retired", "b@1", declared=True) is None
    entries = story.registry.entries
    assert [entries[name].declared for name in ("a@1", "b@1", "c@1")] == [True, True, False]
    assert story.tell("back_to_shadow", "b@1") is None
    assert story.tell("retired", "a@1") is None
    assert story.tell("described", "c@1", declared=True) is None
    entries = story.registry.entries
    assert [entries[name].declared for name in ("a@1", "b@1", "c@1")] == [False, False, True]


def test_reports_of_a_partition_are_kept_in_their_order():
    """With their place in the log; the same one twice in a row is one."""
    story = Story(["a@1"], [])
    for positions in ({0: 7, 1: 9}, {0: 5}, {0: 5, 1: 11}):
        assert story.tell("serving", "", revision=1, positions=positions, until={1: 20}) is None
    assert story.registry.servings == {
        0: ((1, 7, 1, None), (2, 5, 1, None)),
        1: ((1, 9, 1, 20), (3, 11, 1, 20)),
    }
    assert story.registry.served == 1
    assert story.tell("serving", "", revision=2, positions={0: 1}) == "there is no revision 2 of the suite"


class Lives(RuleBasedStateMachine):
    """Events of all kinds, most of them illegal somehow; the fold says what the naive model says."""

    def __init__(self) -> None:
        super().__init__()
        self.naive, self.registry, self.offset = Naive(), Registry(), 0
        self.log: list[tuple[int, Event]] = []
        self.old: list[Registry] = [self.registry]
        self.counted: set[int] = set()

    def offer(self, event: Event) -> bool:
        event = decode_event(encode_event(event))
        before = self.registry
        after, ignored = fold(before, self.offset, event)
        counts = self.naive.offer(self.offset, event)
        assert (ignored is None) == counts, (event, ignored)
        if ignored is not None:
            assert after == before.model_copy(update={"applied": self.offset + 1})
        elif event.kind not in (*REPORTS, "noticed"):
            self.counted.add(len(self.log))
        assert after.revision - before.revision == (
            after.live != before.live or (event.kind == "founded" and counts)
        )
        self.registry = after
        self.log.append((self.offset, event))
        self.old.append(after)
        self.offset += 1
        return counts

    @initialize(split=st.integers(0, 5))
    def found(self, split: int) -> None:
        assert self.offer(founded(NAMES[:split][::2], NAMES[:split][1::2]))

    @rule(data=st.data(), name=st.sampled_from(NAMES), loader=st.sampled_from(["m:C", "m:C", "m:C", "m:D"]))
    def write(self, data: st.DataObject, name: str, loader: str) -> None:
        """A member moves, mostly by an event that is right for where it stands."""
        now = self.naive.state.get(name, "-")
        right = [kind for kind in DECIDED if now in TABLE[kind][0].split() and kind != "described"]
        kind: Any = data.draw(st.one_of(st.sampled_from(right or DECIDED), st.sampled_from(DECIDED)))
        seen = data.draw(st.one_of(st.just(self.registry), st.just(self.registry), st.sampled_from(self.old)))
        slot, token = seen.deployment, self.registry.token
        deployment = f"d{self.offset}" if kind == "deploying" else slot.id if slot else ""
        self.offer(
            draft(
                seen, kind, name, who="ana", why="w", at=self.offset,
                token=data.draw(st.sampled_from([None, token, token, token + 1, max(0, token - 1)])),
                deployment=data.draw(st.sampled_from([deployment, deployment, deployment, "", "other"])),
                override=data.draw(st.booleans()),
                spec=spec(name, loader=loader) if kind in ("added", "described") else None,
                watermark=data.draw(st.none() | st.integers(0, 9)),
                suite_precision=data.draw(st.sampled_from([None, 0.25, 0.5])),
            )
        )  # fmt: skip

    @rule(name=st.sampled_from(NAMES), steps=st.integers(1, 8), end=st.sampled_from(ENDS))
    def onward(self, name: str, steps: int, end: str) -> None:
        """A member goes its way, as far as the slot lets it."""
        way = {
            "-": "added", "retired": "back_to_shadow", "shadow": "recommended", "recommended": "approved",
            "approved": "queued", "queued": "deploying", "deploying": "swapped", "baking": "promoted",
            "live": end,
        }  # fmt: skip
        for _ in range(steps):
            now, slot = self.naive.state.get(name, "-"), self.naive.slot
            if now == "displaced":
                return
            kind: Any = way[now]
            if now == "deploying" and slot is not None and not slot.ready:
                kind = "ready"
            event = draft(
                self.registry, kind, name, who="eva", why="w", at=self.offset,
                deployment=f"d{self.offset}" if kind == "deploying" else slot.id if slot else "",
                spec=spec(name, loader=self.naive.what.get(name, "m:C")) if kind == "added" else None,
                watermark=self.offset, token=self.registry.token if kind in EVALUATORS else None,
                suite_precision=[None, 0.0, 0.75][self.offset % 3],
            )  # fmt: skip
            if not self.offer(event):
                return

    @precondition(lambda self: self.registry.deployment is not None)
    @rule(
        kind=st.sampled_from(["ready", "ready", "ready", "refused"]),
        host=st.sampled_from("pq"),
        name=st.none() | st.sampled_from(NAMES),
    )
    def report(self, kind: Any, host: str, name: str | None) -> None:
        """A host says that it has the member, or not; sometimes of one that is not being deployed."""
        slot = self.registry.deployment
        assert slot is not None
        self.offer(Event(kind=kind, member=name or slot.member, who=host, why="w", at=1, deployment=slot.id))

    @precondition(lambda self: self.registry.deployment is not None)
    @rule(
        kind=st.sampled_from(["swapped", "promoted", "aborted", "rolled_back", "superseded", "retired"]),
        deployment=st.sampled_from(["", "other", "right"]),
    )
    def meddle(self, kind: Any, deployment: str) -> None:
        """Somebody else writes what is for the holder of the slot."""
        slot = self.registry.deployment
        assert slot is not None
        known = slot.id if deployment == "right" else deployment
        self.offer(draft(self.registry, kind, slot.member, who="x", why="w", at=1, deployment=known))

    @rule(mark=st.none() | st.integers(0, 9), more=st.sampled_from([-1, 0, 0, 1]))
    def notice(self, mark: int | None, more: int) -> None:
        """An evaluator tells the event time; nobody moves by it, and no mark is later."""
        token, before = max(0, self.registry.token + more), self.registry
        event = draft(self.registry, "noticed", "", who="x", why="w", at=1, token=token, watermark=mark)
        if self.offer(event):
            assert mark is not None
            marks = [each for e in self.registry.entries.values() for each in (e.watermark, e.fell_back)]
            assert all(each is None or each <= mark for each in marks)
            assert self.registry.entries.keys() == before.entries.keys()

    @rule(revision=st.integers(0, 9), first=st.integers(0, 99))
    def serve(self, revision: int, first: int) -> None:
        """A host says from where on a revision is served."""
        self.offer(Event(kind="serving", who="p", why="w", at=1, revision=revision, positions={0: first}))

    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """A record comes again: one that counted does not count twice."""
        at = data.draw(st.integers(0, len(self.log) - 1))
        event = self.log[at][1]
        counts = self.offer(event)
        assert not (counts and at in self.counted)

    @rule(more=st.integers(1, 5))
    def hole(self, more: int) -> None:
        """Offsets that hold no event."""
        self.offset += more

    @invariant()
    def agrees(self) -> None:
        naive, registry = self.naive, self.registry
        assert {name: entry.state for name, entry in registry.entries.items()} == naive.state
        assert {name: entry.position for name, entry in registry.entries.items()} == naive.last
        assert {revision: frozenset(ids) for revision, ids in registry.lives.items()} == dict(
            enumerate(naive.revisions, 1)
        )
        assert registry.token == naive.token
        assert registry.adopted == naive.adopted
        assert set(registry.live).isdisjoint(registry.shadow)
        if registry.revision:
            assert registry.lives[registry.revision] == registry.live
        slot = registry.deployment
        moving = [name for name, state in naive.state.items() if state in ("deploying", "baking")]
        assert moving == ([slot.member] if slot else [])
        if slot is None:
            assert naive.slot is None
            assert "displaced" not in naive.state.values()
        else:
            assert naive.slot is not None
            assert (slot.id, slot.member, slot.replaces) == (naive.slot.id, naive.slot.member, naive.slot.out)
            assert (bool(slot.ready), bool(slot.refused)) == (naive.slot.ready, naive.slot.refused)
        fell = {"": (registry.untimed, registry.rolled_back)}
        fell |= {name: (entry.untimed, entry.fell_back) for name, entry in registry.entries.items()}
        known = {name: "?" if untimed else at for name, (untimed, at) in fell.items()}
        assert {name: at for name, at in known.items() if at is not None} == naive.fell
        for name, entry in registry.entries.items():
            assert bool(entry.deployment) == (name in naive.came)
            assert entry.replaced == naive.put_out.get(name)

    def teardown(self) -> None:
        """Cut anywhere, kept as JSON, or with every record read twice, the log gives the same registry."""
        half = len(self.log) // 2
        cut = twice = Registry()
        for number, (offset, event) in enumerate(self.log):
            if number == half:
                cut = Registry.model_validate_json(cut.model_dump_json())
            cut, _ = fold(cut, offset, event)
            for _ in range(2):
                twice, _ = fold(twice, offset, event)
        assert cut == twice == self.registry
        assert Registry.model_validate_json(cut.model_dump_json()) == cut


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
