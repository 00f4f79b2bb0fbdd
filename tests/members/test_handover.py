"""The hand-over between live and shadow hosts against a model: one partition that moves between live hosts of
any revision, which report late, wrongly or not at all; a shadow host reads ahead, behind and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from members.recovery import Replay
from members.registry.events import Event
from members.registry.lifecycle import Entry, Registry, fold
from members.swapping import Steps, answers, missed, reported, shadowed, steps, steps_of, unsaid
from streams.suite import MemberSpec

M = "m@1"


@dataclass
class Recorded:
    start: int
    end: int
    revision: int


@dataclass
class Owner:
    """A live host that has the partition. said: the answers of these revisions do not wait for the report."""

    revision: int
    position: int
    steps: Steps
    replay: Replay
    waived: set[int] = field(default_factory=set)


class Partition:
    """`votes`: offset → the revision that answered it; `asked`: where the shadow host asked m."""

    def __init__(self) -> None:
        spec = MemberSpec(name="m", version="1", owner="o", loader="a:b")
        entry = Entry(spec=spec, state="shadow", ordinal=0, position=0, since=0, who="w", why="y")
        self.registry = Registry(revision=1, applied=1, entries={M: entry}, lives={1: ()})
        self.votes: list[int] = []
        self.committed = 0
        self.late: list[tuple[int, int, int]] = []
        self.lied = False
        self.asked: set[int] = set()
        self.position = self.mark = self.kept_position = self.kept_mark = 0
        self.take_over(1)

    # -- the registry

    def change(self, *_: int) -> None:
        """m goes into the OR, or out of it."""
        revision = self.registry.revision + 1
        live = () if M in self.registry.lives[revision - 1] else (M,)
        lives = {**self.registry.lives, revision: live}
        self.registry = self.registry.model_copy(update={"revision": revision, "lives": lives})

    def tell(self, at: int, revision: int, until: int | None = None) -> None:
        event = Event(
            kind="serving", at=0, who="h", why="y", revision=revision, positions={0: at},
            until={} if until is None else {0: until},
        )  # fmt: skip
        self.registry, ignored = fold(self.registry, self.registry.applied, event)
        assert ignored is None

    # -- the live hosts

    def take_over(self, revision: int, *_: int) -> None:
        """A host of some revision goes on from what is committed, and repeats what is recorded after it."""
        replay = Replay(self.committed)
        for at in range(self.committed, len(self.votes)):
            recorded: Any = Recorded(at, at + 1, self.votes[at])
            replay.add(recorded)
        revision = 1 + revision % self.registry.revision
        mine = answers(replay, self.committed, revision)
        self.owner = Owner(revision, self.committed, mine, replay)

    def lose(self, revision: int, *_: int) -> None:
        """The partition goes; what was answered without a report is reported when that can be."""
        if self.lied:
            self.correct()
        old = self.owner
        rest = unsaid(self.registry, 0, old.steps)
        ends = [at for at, _ in rest[1:]] + [old.position]
        for (at, of), until in zip(rest, ends, strict=False):
            if of in old.waived and at < until:
                self.late.append((at, of, until))
        self.take_over(revision)

    def swap(self, revision: int, *_: int) -> None:
        owner = self.owner
        owner.revision = max(owner.revision, 1 + revision % self.registry.revision)
        before = [step for step in owner.steps if step[0] < owner.position]
        owner.steps = steps_of([*before, *answers(owner.replay, owner.position, owner.revision)])

    def report(self, *_: int) -> None:
        """The next thing that is to be said."""
        for at, revision in unsaid(self.registry, 0, self.owner.steps)[:1]:
            self.tell(at, revision)

    def report_late(self, *_: int) -> None:
        if self.late:
            self.tell(*self.late.pop(0))

    def waive(self, *_: int) -> None:
        self.owner.waived.add(self.owner.revision)

    def answer(self, n: int, *_: int) -> None:
        owner = self.owner
        for _i in range(n):
            if owner.position < len(self.votes):  # recorded by an earlier host
                owner.position += 1
                continue
            missing = any(revision == owner.revision for _, revision in unsaid(self.registry, 0, owner.steps))
            if missing and owner.revision not in owner.waived:
                return
            self.votes.append(owner.revision)
            owner.position += 1

    def commit(self, n: int, *_: int) -> None:
        self.committed = max(self.committed, self.owner.position - n % 4)

    def lie(self, n: int, revision: int) -> None:
        """Another host, which believes that it has the partition, says something of what is the owner's."""
        self.tell(self.owner.steps[0][0] + n, 1 + revision % self.registry.revision)
        self.lied = True

    def correct(self) -> None:
        """The owner says all that is to be said."""
        rounds = 0
        while unsaid(self.registry, 0, self.owner.steps):
            self.report()
            rounds += 1
            assert rounds < 200
        self.lied = False

    # -- the shadow host

    def look(self, *_: int) -> None:
        """Act on what was reported: go back, and keep that, before anything is read by the new reports."""
        latest = reported(self.registry, 0)
        if latest > self.mark:
            back = missed(self.registry, (M,), 0, self.mark, self.position)
            self.position = self.position if back is None else back
            self.mark = latest
            self.kept_position, self.kept_mark = self.position, self.mark

    def read(self, n: int, *_: int) -> None:
        """It may be ahead of the live hosts."""
        for _i in range(n):
            stairs = steps(self.registry, 0, self.mark)
            ids, _until = shadowed(self.registry, (M,), stairs, self.position)
            self.asked |= {self.position} if ids else set()
            self.position += 1

    def keep(self, *_: int) -> None:
        self.kept_position = self.position

    def restart(self, *_: int) -> None:
        self.position, self.mark = self.kept_position, self.kept_mark

    def settle(self) -> None:
        """Everything that is due happens."""
        while self.late:
            self.report_late()
        self.correct()
        self.look()
        self.read(max(0, len(self.votes) - self.position))


OPS = (
    "change", "lose", "swap", "report", "report_late", "waive", "answer", "answer", "commit", "lie",
    "look", "read", "read", "keep", "restart",
)  # fmt: skip
story = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 7), st.integers(0, 7)), max_size=60)


#: A host takes m in, and loses the partition to one without m before the shadow host has acted on it.
NEWS = ["report", "change", "swap", "report", "read", "lose", "report", "look", "answer"]


@settings(max_examples=400, deadline=None)
@example([(op, {"swap": 1, "read": 5, "answer": 5}.get(op, 0), 0) for op in NEWS])
@given(story)
def test_no_offset_is_left_out(told: list[tuple[str, int, int]]) -> None:
    """Wherever m was not in the OR that answered, the shadow host has asked it, whatever the order."""
    world = Partition()
    for op, n, other in told:
        getattr(world, op)(n, other)
    world.answer(5)
    world.settle()
    said = steps(world.registry, 0)
    for at, revision in enumerate(world.votes):
        assert M in world.registry.lives[revision] or at in world.asked, (at, said)
        if at >= world.owner.steps[0][0]:
            assert [of for start, of in said if start <= at][-1] == revision
