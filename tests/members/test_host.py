"""The member host on a real broker."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from members.host import HostService
from members.ownership import Owned, group_of
from streams.records import ABSTAINED, FAILED
from streams.suite import parse_suite
from streams.watermark import Watermark
from tests.members.conftest import Place
from tests.members.hosting import (
    T0,
    RandomPanel,
    World,
    check_decisions,
    first_votes,
    settings,
    suite,
    until,
)
from tests.streams.brokers import embedded_broker


def test_live(place: Place) -> None:
    """Votes, decisions and dead letters of a live host agree; a restart goes on where it stopped."""

    async def run() -> None:
        async with World(place.servers, suite("live")) as world:
            await world.send(250)
            await world.send(1, partition=1, value=b"junk")
            await world.send(50)
            first = await world.host()
            await world.answered()
            await first.stop()
            second = await world.host()
            await world.send(20)
            await world.answered()
            votes, decisions = await world.votes(), await world.decisions()
            check_decisions(world, decisions, votes, bad=1)
            assert len(decisions) == sum(world.sent) - 1  # nothing was decided twice
            covered = [(v.partition, v.start, v.end) for v in votes if v.end > v.start]
            for p in (0, 1):
                ranges = sorted(each[1:] for each in covered if each[0] == p)
                assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
            assert [v.hello != "" for v in votes].count(True) == 4
            letters = [json.loads(record.value) for record in await world.read(world.topics.dead_letters)]
            assert [(each["reason"], each["origin"]["offset"]) for each in letters] == [("malformed", 125)]
            junk = next(v for v in votes if v.partition == 1 and v.start <= 125 < v.end)
            runs = [tuple(junk.runs[i : i + 3]) for i in range(0, len(junk.runs), 3)]
            assert [run for run in runs if run[1] == -1] == [(1, -1, 0)]
            assert {decision["revision"] for decision in decisions} == {1}
            assert min(decision["time"] for decision in decisions) == T0
            assert world.transactional == place.transactions
            assert second._metrics.replayed._value.get() == 0

    asyncio.run(run())


def test_shadow(place: Place) -> None:
    """A shadow host writes votes only, in a group of its own, and skips what is bad."""

    async def run() -> None:
        async with World(place.servers, suite("shadow", shadow=2)) as world:
            await world.send(99)
            await world.send(1, value=b"junk")
            await world.host("shadow")
            await world.answered()
            votes = await world.votes()
            assert {v.stage for v in votes} == {"shadow"}
            assert {tuple(v.members) for v in votes} == {("shadow0@1", "shadow1@1")}
            assert not any(v.hello for v in votes)
            assert len(first_votes(votes, "shadow")) == 100
            assert await world.decisions() == []
            assert await world.read(world.topics.dead_letters) == []

    asyncio.run(run())


def test_no_live_members(place: Place) -> None:
    """A suite without live members answers False to everything."""

    async def run() -> None:
        async with World(place.servers, suite("nobody", live=0)) as world:
            await world.send(10)
            await world.host()
            await world.answered()
            decisions = await world.decisions()
            assert [decision["judgement"] for decision in decisions] == [False] * 10
            check_decisions(world, decisions, await world.votes())

    asyncio.run(run())


REAL = """
name = "real"
[features]
wind = "float"
[[member]]
name = "windy"
version = "1"
stage = "live"
owner = "o"
loader = "tests.members.hosting:Windy"
[[member]]
name = "broken"
version = "1"
stage = "live"
owner = "o"
loader = "tests.members.hosting:Broken"
"""


def test_real_members(place: Place) -> None:
    """Members of a real panel answer; one that fails abstains as failed, and the OR goes on without it."""

    async def run() -> None:
        async with World(place.servers, parse_suite(REAL)) as world:
            await world.send(100)
            bare = {"request_id": "bare", "timestamp": T0, "features": {}}
            await world.send(1, value=json.dumps(bare).encode())
            host = await world.host(real=True)
            await world.answered()
            decisions, votes = await world.decisions(), await world.votes()
            check_decisions(world, decisions, votes)
            fired = {decision["request_id"]: decision["fired"] for decision in decisions}
            assert fired["bare"] == []
            assert fired["0-0"] == []
            assert fired["1-49"] == ["windy@1"]
            assert sum(decision["judgement"] for decision in decisions) == 49
            scored = [v for v in votes if v.end > v.start]
            assert all(v.states[2] == [v.end - v.start, FAILED] for v in scored)
            windy = next(v for v in scored if v.partition == 0 and v.end == 51)
            assert windy.states[1][-2:] == [1, ABSTAINED]
            assert host._metrics.member_events.labels("broken@1", "error")._value.get() > 0

    asyncio.run(run())


def test_idle(place: Place) -> None:
    """A partition with nothing new is told idle once, also one that never had a request."""

    async def run() -> None:
        async with World(place.servers, suite("idle")) as world:
            await world.send(10, partition=0)
            host = await world.host()
            await until(lambda: len(host._owned) == 2 and all(o.idle_told for o in host._owned.values()))
            await until(lambda: not host._batches)
            await world.send(1, partition=0)
            await world.answered()
            await until(lambda: all(o.idle_told for o in host._owned.values()) and not host._batches)
            idle = [(v.partition, v.start, v.end, v.watermark) for v in await world.votes() if v.idle]
            assert sorted(idle, key=lambda row: row[:2]) == [
                (0, 10, 10, T0 + 9000),
                (0, 11, 11, T0 + 9000),
                (1, 0, 0, None),
            ]

    asyncio.run(run())


def test_two_hosts(place: Place) -> None:
    """Hosts that come and go share the partitions; nothing is lost and no decision drifts."""

    async def run() -> None:
        async with World(place.servers, suite("two")) as world:
            await world.send(200)
            first = await world.host()
            second = await world.host(wait=False)
            await world.send(200)
            await until(lambda: len(first._owned) == 1 and len(second._owned) == 1)
            await world.send(200)
            await world.answered()
            await first.stop()
            await world.send(200)
            await world.answered()
            check_decisions(world, await world.decisions(), await world.votes())

    asyncio.run(run())


def test_broker_goes_silent() -> None:
    """A broker that is away for longer than a session pauses the host; nothing is lost."""

    async def run() -> None:
        with embedded_broker() as broker:
            async with World(broker.servers, suite("silent")) as world:
                host = await world.host()
                await world.send(300)
                await until(lambda: sum(world.positions()) > 0)
                broker.pause()
                await asyncio.sleep(3)  # longer than the session: the time is what is tested
                broker.go_on()
                await world.send(300)
                await world.answered()
                assert not host.crashed
                check_decisions(world, await world.decisions(), await world.votes())

    asyncio.run(run())


def test_groups() -> None:
    """Each set of candidates has a group of its own, whatever their order; long ones are hashed."""
    assert group_of("s", "live", ["a@1"]) == "s.live"
    assert group_of("s", "shadow", ["b@1", "a@1"]) == "s.shadow.a@1+b@1"
    long = group_of("s", "shadow", [f"member{i}@1" for i in range(50)])
    assert len(long) < 40


def test_a_mark_is_not_kept_before_the_offset_that_went_back() -> None:
    """A shadow host that goes back while an older offset is being committed would skip it after a crash."""

    async def run() -> None:
        owned, kept = {p: Owned(p, Watermark(1, 1), position=100, done=100) for p in (0, 1)}, []

        async def commit(_: object) -> None:
            owned[0].position = owned[0].done = 60  # what `arrange` does, in the host's own task
            owned[0].mark = 3

        async def keep(each: list[Owned]) -> None:
            kept.append([one.partition for one in each])

        host: Any = HostService(
            suite("marks"), settings("nowhere"), stage="shadow", members=[], name="h", panel=RandomPanel(0)
        )
        host._owned, host._committed = owned, {0: 50, 1: 50}
        host._consumer = SimpleNamespace(commit=commit)
        host._roster = SimpleNamespace(keep=keep, ids=[])
        host._scorer = SimpleNamespace(show_watermarks=lambda *_: None, shared_votes=False)
        await host._commit(force=True)
        assert kept == [[1]]

    asyncio.run(run())
