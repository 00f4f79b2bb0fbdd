"""What following the registry comes down to, without a broker."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from members.deploying import LiveRoster
from members.following import Following
from members.ownership import Owned
from members.panel import Panel
from members.registry.events import EVALUATORS, Event
from members.registry.lifecycle import Deployment, Registry, draft, fold
from members.sharing import Marks, ShadowRoster
from members.swapping import steps
from streams.errors import Unavailable
from streams.settings import Host
from streams.suite import Suite
from streams.watermark import Watermark
from tests.members.hosting import until
from tests.members.panels import FEATURES, batch, spec


class Log:
    """A registry's log that nobody else writes to."""

    heard: float | None = None

    def __init__(self, *events: Event) -> None:
        self.registry = Registry()
        for offset, event in enumerate(events):
            self.registry, ignored = fold(self.registry, offset, event)
            assert ignored is None

    async def start(self) -> None: ...

    async def append(self, event: Event) -> None:
        self.registry, ignored = fold(self.registry, self.registry.applied, event)
        assert ignored is None

    async def found(self, suite: Suite, who: str) -> None: ...


def events(*members: Any) -> list[Event]:
    return [Event(kind="founded", at=0, who="w", why="y", members=list(members))]


def founded(*members: Any) -> Log:
    return Log(*events(*members))


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (["a"], ""),
        (["a", "b"], "+b@1"),
        ([], "-a@1"),
        (["other a"], "a@1 (another loader)"),
    ],
)
def test_a_suite_file_that_says_something_else(
    declared: list[str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line tells how it differs and what to run; descriptions and stages may differ."""
    caplog.set_level(logging.INFO)
    specs = [spec(name[-1], "Raises" if " " in name else "Above") for name in declared]
    text = [each.model_copy(update={"owner": "another", "stage": "live"}) for each in specs]
    following = Following(founded(spec("a", "Above")), None, name="h", owned={}, under_way=list)  # type: ignore[arg-type]
    asyncio.run(following._read(Suite(name="s", member=text)))
    told = [text for record in caplog.records if "members plan" in (text := record.getMessage())]
    line = f"the suite file's members are not those of the registry, which count ({says}): "
    assert told == ([line + "run `chorus members plan`"] if says else [])


def test_slow_while_baking() -> None:
    """A member whose usual time is above its budget is refused, once; a few slow batches are no reason."""

    async def run() -> list[Event]:
        log = founded(spec("m", "Above", budget_ms=5).model_copy(update={"stage": "live"}))
        panel = Panel([], Host(), FEATURES)
        roster = LiveRoster(log, panel, recent=lambda: None, name="h", owned={}, under_way=list)  # type: ignore[arg-type]
        await roster.open(Suite(name="s", features=FEATURES))
        baking = Deployment(id="d", member="m@1", began=0, revision=1)
        log.registry = log.registry.model_copy(update={"deployment": baking})
        for _ in range(19):
            await roster.crew.vote(batch([1.0]))
        (seat,) = panel.view(["m@1"]).seats
        assert len(seat.pace) == 19
        seat.pace.extend([0.1] * 9 + [9.0] * 10)
        roster.step()
        assert roster._reports == []
        seat.pace.append(9.0)
        roster.step()
        roster.step()
        return roster._reports

    (report,) = asyncio.run(run())
    assert (report.kind, report.member, report.deployment) == ("refused", "m@1", "d")
    assert report.why == "slow while baking: 9.0 ms for 256 requests, where 5 ms are allowed"


async def write(log: Log, kind: Any, member: str, who: str = "w", **more: Any) -> None:
    token = log.registry.token if kind in EVALUATORS else None
    await log.append(draft(log.registry, kind, member, who=who, why="y", at=0, token=token, **more))


async def baking(log: Log) -> None:
    """m@1 is in the OR, and may still be rolled back."""
    if "m@1" not in log.registry.entries:
        await write(log, "added", "m@1", spec=spec("m", "Above"))
    await write(log, "approved", "m@1", override=True)
    await write(log, "queued", "m@1")
    await write(log, "deploying", "m@1", deployment="d")
    await write(log, "ready", "m@1", deployment="d")
    await write(log, "swapped", "m@1", deployment="d")


def live_roster(log: Any, owned: dict[int, Owned] | None = None) -> LiveRoster:
    return LiveRoster(
        log, Panel([], Host(), FEATURES), recent=lambda: None, name="h",
        owned={} if owned is None else owned, under_way=list,
    )  # fmt: skip


def live(name: str) -> Any:
    return spec(name, "Above").model_copy(update={"stage": "live"})


async def swapped(roster: LiveRoster) -> None:
    """It answers as the registry says by now."""

    def there() -> bool:
        roster.step()
        return roster.crew.revision == roster.registry.revision

    await until(there)


def test_a_member_that_bakes_holds_up_no_start() -> None:
    """A host begins as before the swap, and takes the member in when that is ready; it is on record that the
    host was started anew before the member is asked for anything, however long that takes."""

    class Away(Log):
        away = True

        async def append(self, event: Event) -> None:
            if self.away:
                raise Unavailable("no")
            await super().append(event)

    async def run() -> None:
        log, did, gate = Away(*events(live("a"))), list[str](), asyncio.Event()
        log.away = False
        await baking(log)
        log.away = True
        roster = live_roster(log)
        prepare = roster.panel.prepare

        async def tried(_: Any) -> str:
            await gate.wait()
            did.append("tried")
            return ""

        async def prepared(spec: Any) -> Any:
            did.append(f"starts {len(log.registry.deployment.starts['h'])}")  # type: ignore[union-attr]
            return await prepare(spec)

        roster._tried, roster.panel.prepare = tried, prepared  # type: ignore[method-assign]
        await asyncio.wait_for(roster.open(Suite(name="s", features=FEATURES)), 20)
        assert (roster.ids, roster.crew.revision) == (("a@1",), 1)
        roster.step()
        assert did == []
        gate.set()
        await until(lambda: did == ["tried"])
        roster.step()
        assert (roster.ids, did) == (("a@1",), ["tried"])
        log.away = False
        await swapped(roster)
        assert (roster.ids, did) == (("a@1", "m@1"), ["tried", "starts 1"])

    asyncio.run(run())


@pytest.mark.parametrize("state", ["retired", "back_to_shadow"])
def test_nobody_who_was_put_out_while_a_member_baked_comes_back_with_a_start(state: Any) -> None:
    """The host begins with the latest revision of which nobody has been put out since."""

    async def run() -> None:
        log = founded(live("a"))
        await baking(log)
        await write(log, "promoted", "m@1", deployment="d")
        await write(log, "added", "n@1", spec=spec("n", "Above").model_copy(update={"replaces": "a@1"}))
        for kind in ("approved", "queued", "deploying", "ready", "swapped"):
            more = {"override": True} if kind == "approved" else {}
            await write(log, kind, "n@1", deployment="e", **more)
        for left, revision in ((("a@1", "m@1"), 2), (("a@1",), 1)):
            roster = live_roster(log)
            await roster.open(Suite(name="s", features=FEATURES))
            assert (roster.ids, roster.crew.revision) == (left, revision)
            if len(left) > 1:
                await write(log, state, "m@1")

    asyncio.run(run())


def test_where_every_earlier_revision_has_one_who_was_put_out_the_baking_member_is_waited_for() -> None:
    """b@1 was put out while m@1 baked: no earlier revision is left, and b@1 does not answer again."""

    async def run() -> None:
        log = founded(live("a"), live("b"))
        await baking(log)
        await write(log, "retired", "b@1")
        roster = live_roster(log)
        await roster.open(Suite(name="s", features=FEATURES))
        assert (roster.ids, roster.crew.revision) == (("a@1", "m@1"), 3)
        assert len(log.registry.deployment.starts["h"]) == 1  # type: ignore[union-attr]

    asyncio.run(run())


def test_what_a_host_refused_while_it_bakes_does_not_come_back_before_it_is_rolled_back() -> None:
    """That it passes another trial is no reason: it would end the host once more."""

    async def run() -> None:
        log = founded(live("a"))
        await baking(log)
        log.registry = log.registry.model_copy(
            update={"deployment": log.registry.deployment.model_copy(update={"starts": {"h": {"x": ""}}})}  # type: ignore[union-attr]
        )
        roster = live_roster(log)
        await roster.open(Suite(name="s", features=FEATURES))
        assert [each.kind for each in roster._reports] == ["refused"]
        roster.step()
        assert not roster._preparing
        assert roster.crew.revision == 1
        await write(log, "rolled_back", "m@1", deployment="d")
        roster.step()
        assert (roster.ids, roster.crew.revision) == (("a@1",), 3)

    asyncio.run(run())


def test_two_hosts_of_one_name_are_not_one_that_ended_twice() -> None:
    """A start of a process that still runs, or of another machine, is not counted; one that has ended is."""

    async def run(process: str) -> list[Event]:
        log = founded(live("a"))
        await baking(log)
        await write(log, "ready", "m@1", who="h", deployment="d", revision=2, process=process)
        roster = live_roster(log)

        async def tried(_: Any) -> str:
            return ""

        roster._tried = tried  # type: ignore[method-assign]
        await roster.open(Suite(name="s", features=FEATURES))
        reports = roster._reports
        if not reports:
            await swapped(roster)
        assert (roster.ids == ("a@1", "m@1")) == (not reports)
        starts = log.registry.deployment.starts["h"]  # type: ignore[union-attr]
        assert len(starts) == 2 - len(reports)
        return reports

    here = socket.gethostname()
    assert asyncio.run(run(f"{here}:{os.getppid()}")) == []
    assert asyncio.run(run("elsewhere:1")) == []
    for ended in (f"{here}:{2**22 + 1}", f"{here}:{os.getpid()}", ""):  # no pid is as high as that
        (report,) = asyncio.run(run(ended))
        assert (report.kind, report.why) == ("refused", "this host ended 2 times while it was baking")


class Recorded:
    def __init__(self, start: int, end: int, revision: int) -> None:
        self.start, self.end, self.revision = start, end, revision


def test_a_swap_while_recorded_answers_are_repeated() -> None:
    """The revision begins behind them: they go out as they were recorded."""

    async def run() -> None:
        log, owned = founded(live("a"), live("b")), Owned(0, Watermark(1, 1), position=10)
        recorded: Any = Recorded(0, 20, 1)
        owned.replay.add(recorded)
        roster = live_roster(log, {0: owned})
        await roster.open(Suite(name="s", features=FEATURES))
        await roster._send()
        await write(log, "retired", "b@1")
        roster.step()
        assert owned.steps == [(10, 1), (20, 2)]
        await roster._send()
        assert steps(log.registry, 0) == [(0, 1), (20, 2)]

    asyncio.run(run())


def test_a_partition_is_taken_over_with_the_registry_of_now() -> None:
    """What its last host has reported is known; a registry that is away is not waited for again and again."""

    class Late(Log):
        asked, away = 0, False

        async def refresh(self) -> None:
            self.asked += 1
            if self.away:
                raise Unavailable("no")
            await write(self, "retired", "b@1")

    async def run() -> None:
        log = Late(Event(kind="founded", at=0, who="w", why="y", members=[live("a"), live("b")]))
        roster, owned = live_roster(log), Owned(0, Watermark(1, 1))
        await roster.open(Suite(name="s", features=FEATURES))
        await roster.look_up(owned)
        assert (roster.ids, roster.crew.revision) == (("a@1",), 2)
        log.away = True
        await roster.look_up(owned)
        await roster.look_up(owned)
        assert log.asked == 2

    asyncio.run(run())


def test_nothing_is_said_of_a_partition_that_went_before_the_swap_was() -> None:
    """Its next host says where the revision begins, and batches that waited for the report wait no more."""

    async def run() -> None:
        owned = {p: Owned(p, Watermark(1, 1), position=5 + p) for p in (0, 1)}
        log = founded(live("a"), live("b"))
        roster = live_roster(log, owned)
        await roster.open(Suite(name="s", features=FEATURES))
        await roster._send()
        await write(log, "retired", "b@1")
        roster.step()
        waiting = asyncio.create_task(roster.crew.announced(0))
        await asyncio.sleep(0)
        del owned[0]
        await roster._send()
        await asyncio.wait_for(waiting, 2)
        assert [of for of, reports in log.registry.servings.items() if reports[-1].revision == 2] == [1]
        assert steps(log.registry, 1) == [(0, 1), (6, 2)]

    asyncio.run(run())


def test_marks_are_written_again_before_the_broker_forgets_them() -> None:
    """A group without members loses its offsets a week after they were written."""
    written: list[Any] = []
    now = 0.0

    class Consumer:
        async def commit(self, offsets: Any) -> None:
            written.append(offsets)

    async def run() -> None:
        nonlocal now
        marks = Marks(Consumer(), "t", clock=lambda: now)
        for hour in (0, 1, 5, 24, 25):
            now = hour * 3600.0
            await marks.write({0: 3})

    asyncio.run(run())
    assert len(written) == 2


def test_marks_that_may_not_be_written_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A permission that is missing; what passes by itself is not worth a word."""

    class Consumer:
        async def commit(self, offsets: Any) -> None:
            raise errors.pop()

    marks = Marks(Consumer(), "t", clock=lambda: 0.0)
    errors = [
        GroupAuthorizationFailedError("s.acted"),
        GroupAuthorizationFailedError("s.acted"),
        KafkaError(),
    ]
    for _ in range(3):
        asyncio.run(marks.write({0: 3}))
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "lacks the permission Read on consumer group s.acted" in told[0]


def test_a_shadow_host_acts_on_a_report_once_that_is_kept() -> None:
    """Until it has looked whether to go back it reads by the reports before, and after that only once it has
    written that it did: started anew, it must not take for asked what never was."""
    written: list[Any] = []

    class Consumer:
        async def commit(self, offsets: Any) -> None:
            written.append(offsets)

    async def run() -> None:
        log, owned = founded(live("a"), spec("m", "Above")), Owned(0, Watermark(1, 1), position=50, done=50)
        panel, more = (
            Panel([spec("m", "Above")], Host(), FEATURES),
            {"share": (0, 1), "topic": "t", "group": "g"},
        )
        host: dict[str, Any] = {"name": "h", "owned": {0: owned}, "under_way": list, "kafka": None, **more}
        roster = ShadowRoster(log, panel, **host)  # type: ignore[arg-type]
        roster._marks = Marks(Consumer(), "t")

        def asked() -> Any:
            found = roster.at(0, owned.position)
            return None if found is None else (found[0].ids, found[1])

        roster.enter(owned)
        assert asked() is None
        await roster.keep([owned])
        assert asked() == (("m@1",), None)
        log.registry = log.registry.model_copy(update={"lives": {1: ("a@1",), 2: ("a@1", "m@1")}})
        await write(log, "serving", "", revision=2, positions={0: 40})
        assert asked() == (("m@1",), None)
        assert roster.news(owned)
        assert roster.back(owned) is None
        assert asked() is None
        await roster.keep([owned])
        assert asked() == ((), None)
        await write(log, "serving", "", revision=1, positions={0: 45})
        assert roster.back(owned) == 45
        assert len(written) == 2

    asyncio.run(run())


def test_a_host_that_was_ready_late_was_not_started_anew() -> None:
    """The first of several that is ready lets the member in; only starts count, and one is allowed."""

    async def run() -> None:
        log = founded(live("a"))
        await baking(log)
        await write(log, "ready", "m@1", who="h", deployment="d")

        async def tried(_: Any) -> str:
            return ""

        for crew in (("a@1", "m@1"), ("a@1",)):
            roster = live_roster(log)
            roster._tried = tried  # type: ignore[method-assign]
            await roster.open(Suite(name="s", features=FEATURES))
            if not roster._reports:
                await swapped(roster)
            assert roster.ids == crew

    asyncio.run(run())


def test_a_member_that_is_dropped_while_it_is_warmed_is_closed() -> None:
    """What it opened does not stay open with a host that runs for months."""

    async def run() -> None:
        log, closed, warming = founded(live("a")), list[Any](), asyncio.Event()
        roster = live_roster(log)
        await roster.open(Suite(name="s", features=FEATURES))

        async def tried(_: Any) -> str:
            return ""

        async def warm(*_: Any) -> None:
            warming.set()
            await asyncio.Event().wait()

        async def dismiss(seats: Any) -> None:
            closed.extend(seat.spec.id for seat in seats)

        roster._tried, roster._recent = tried, lambda: batch([1.0])  # type: ignore[method-assign]
        roster.panel.warm, roster.panel.dismiss = warm, dismiss  # type: ignore[method-assign, assignment]
        await write(log, "added", "m@1", spec=spec("m", "Above"))
        await write(log, "approved", "m@1", override=True)
        await write(log, "queued", "m@1")
        await write(log, "deploying", "m@1", deployment="d")
        roster.step()
        await asyncio.wait_for(warming.wait(), 30)
        await write(log, "aborted", "m@1", deployment="d")
        roster.step()
        await until(lambda: closed == ["m@1"])

    asyncio.run(run())
