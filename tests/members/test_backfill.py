"""Backfills: what they write, what they leave out, and when they make way, on either broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.structs import TopicPartition

from members import backfill, careful, live_lag
from members.backfill import Backfill
from members.careful import MemberFailed, trim
from members.live_lag import Throttle
from members.registry.events import EVALUATORS, Kind
from members.registry.lifecycle import draft
from members.registry.log import RegistryLog
from members.replay import Outcome, Progress, missing, stretch
from members.standing import NotAShadow
from streams.batch import Batch
from streams.connect import make_consumer
from streams.errors import Unavailable
from streams.metrics import Metrics
from streams.records import FAILED, Votes
from streams.requests import DecodedBatch
from streams.settings import Backfill as Rules
from streams.suite import Suite, parse_suite
from tests.conftest import Broker
from tests.members.hosting import T0, RandomPanel, World, first_votes, until

DAY = 86_400_000
MEMBER = (
    '[[member]]\nname = "{}"\nversion = "1"\nstage = "{}"\nowner = "o"\nloader = "{}"\nbudget_ms = 20000\n'
)
VOTERS = "tests.members.voters_for_tests"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more comes here, and that is known sooner."""
    monkeypatch.setattr(backfill, "_QUIET", 0.2)


def suite_with(loader: str = f"{VOTERS}:Above") -> Suite:
    text = f'name = "backfill-{uuid.uuid4().hex[:8]}"\nsegments = ["c"]\n'
    text += '[features]\nwind = "float"\nc = "category"\n'
    return parse_suite(text + MEMBER.format("old", "live", loader) + MEMBER.format("new", "shadow", loader))


def world_on(broker: Broker, suite: Suite, **rules: int) -> World:
    world = World(broker.bootstrap_servers, suite)
    patience = 300 if broker.kind == "embedded" else 0
    update: dict[str, Any] = {
        "kafka": world.settings.kafka.model_copy(update={"patience": patience}),
        "backfill": Rules(check_every=50, **rules),
    }
    world.settings = world.settings.model_copy(update=update)
    return world


def covering(votes: Sequence[Votes]) -> dict[int, list[tuple[int, int]]]:
    out: dict[int, list[tuple[int, int]]] = {}
    for each in votes:
        if each.end > each.start:
            out.setdefault(each.partition, []).append((each.start, each.end))
    return out


def one_after_the_other(ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The range that they cover, each where the one before it ended."""
    assert [start for start, _ in ranges[1:]] == [end for _, end in ranges[:-1]]
    return ranges[0][0], ranges[-1][1]


async def fill(world: World, since: int = 0, **more: Any) -> Outcome:
    more.setdefault("panel", RandomPanel(1))
    filling = Backfill(world.suite, world.settings, "new@1", since=since, **more)
    return await asyncio.wait_for(filling.run(), 90)


def covered_by(votes: Sequence[Votes]) -> Any:
    """What the store would say is covered, of records that follow each other."""

    async def read() -> Mapping[int, Sequence[int]]:
        return {p: [min(a for a, _ in r), max(b for _, b in r)] for p, r in covering(votes).items()}

    return read


def test_every_position_is_voted_on_once(broker: Broker) -> None:
    """Bad records included; in the end it says that there is nothing more. A second one does nothing."""

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            await world.send(650)
            await world.send(1, partition=1, value=b"junk")
            await world.send(50)
            told: list[Progress] = []
            outcome = await fill(world, tell=told.append)
            assert outcome.finished
            assert outcome.requests == 700
            votes = await world.votes()
            assert {v.stage for v in votes} == {"shadow"}
            assert {m for v in votes for m in v.members} == {"new@1"}
            ranges = covering(votes)
            assert [one_after_the_other(ranges[p]) for p in (0, 1)] == [(0, 350), (0, 351)]
            last = {v.partition: v for v in votes}
            assert all(v.idle and v.start == v.end for v in last.values())
            assert told[-1].done == told[-1].total
            assert told[-1].requests == 700
            again = await fill(world, covered=covered_by(votes))
            assert again.finished
            assert again.requests == 0
            assert len(await world.votes()) == len(votes)

    asyncio.run(run())


def test_what_lies_before_the_instant_is_not_claimed(broker: Broker) -> None:
    """It begins with the block that the instant lies in; older requests are neither asked nor covered."""

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            start = T0 - T0 % DAY
            for i in range(300):
                at = start + i // 100 * DAY + i
                request = {"request_id": f"r{i}", "timestamp": at, "features": {"wind": 0.5}}
                await world.send(1, partition=0, value=json.dumps(request).encode())
            outcome = await fill(world, since=start + DAY + DAY // 2)
            assert outcome.since == start + DAY
            assert outcome.requests == 200
            votes = await world.votes()
            assert one_after_the_other(covering(votes)[0]) == (100, 300)
            newest = await fill(world, since=None, back=100, covered=covered_by(votes))
            assert newest.since == start + 2 * DAY

    asyncio.run(run())


def test_only_what_is_missing_is_done(broker: Broker) -> None:
    """Ranges that the member has covered are not read again; on between and behind them it votes."""

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            await world.send(600)

            async def covered() -> Mapping[int, Sequence[int]]:
                return {0: [0, 120, 150, 200, 250, 300], 1: [0, 100]}

            outcome = await fill(world, covered=covered)
            ranges = covering(await world.votes())
            assert ranges[0] == [(120, 150), (200, 250)]
            assert one_after_the_other(ranges[1]) == (100, 300)
            assert outcome.requests == 80 + 200

    asyncio.run(run())


def test_one_that_was_stopped_goes_on(broker: Broker) -> None:
    """Together they have voted on every position; what was committed is not done again."""

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            await world.send(2000)
            panel = RandomPanel(1)
            first = Backfill(world.suite, world.settings, "new@1", since=0, panel=panel)
            vote, asked = panel.vote, []

            async def counting(batch: Any) -> Any:
                asked.append(len(batch))
                if sum(asked) > 600:
                    first.stop()
                return await vote(batch)

            panel.vote = counting  # type: ignore[method-assign]
            stopped = await asyncio.wait_for(first.run(), 90)
            assert not stopped.finished
            assert 0 < stopped.requests < 2000
            votes = await world.votes()
            rest = await fill(world, covered=covered_by(votes))
            assert rest.finished
            assert stopped.requests + rest.requests == 2000
            assert len(first_votes(await world.votes(), "shadow")) == 2000

    asyncio.run(run())


def test_progress_is_kept_by_the_broker(kafka: Broker) -> None:
    """Without a word from the store it goes on where it was; for an earlier instant it begins anew."""

    async def run() -> None:
        async with world_on(kafka, suite_with()) as world:
            await world.send(300)
            assert (await fill(world, since=DAY)).requests == 300
            await world.send(40)
            assert (await fill(world, since=2 * DAY)).requests == 40
            assert (await fill(world, since=0)).requests == 340

    asyncio.run(run())


def test_a_member_that_fails_ends_it(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with the reason, and nothing is written of what it failed on."""
    monkeypatch.setattr(careful, "AGAIN", (0.0, 0.0))

    async def run() -> None:
        async with world_on(broker, suite_with(f"{VOTERS}:Raises")) as world:
            await world.send(300)
            with pytest.raises(MemberFailed, match=r"new@1 failed 3 times .*ValueError: no idea"):
                await fill(world, panel=None)
            assert await world.votes() == []

    asyncio.run(run())


def test_a_member_that_cannot_be_loaded_ends_it(embedded_broker: Broker) -> None:
    """At once, and with the reason."""

    async def run() -> None:
        async with world_on(embedded_broker, suite_with("nowhere:Nothing")) as world:
            with pytest.raises(MemberFailed, match=r"new@1 cannot be loaded: .*nowhere"):
                await fill(world, panel=None)

    asyncio.run(run())


class Moody(RandomPanel):
    """Fails on every other batch."""

    turns = 0

    async def vote(self, batch: Any) -> Any:
        self.turns += 1
        ballot = await super().vote(batch)
        if self.turns % 2:
            ballot.failed[:] = True
            ballot.abstain[:] = True
        return ballot


def test_a_member_that_fails_now_and_then_is_asked_again(
    embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No failure is ever written: the first record that covers a position would stand for good."""
    monkeypatch.setattr(careful, "AGAIN", (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))

    async def run() -> None:
        async with world_on(embedded_broker, suite_with()) as world:
            await world.send(400)
            assert (await fill(world, panel=Moody(1))).requests == 400
            votes = await world.votes()
            assert len(first_votes(votes, "shadow")) == 400
            assert not any(FAILED in flat[1::2] for v in votes for flat in v.states)

    asyncio.run(run())


@asynccontextmanager
async def answered_up_to(world: World, *offsets: int) -> AsyncIterator[Callable[..., Any]]:
    """Live hosts that have answered the partitions up to there, or as far as what is yielded is told."""
    live = make_consumer(world.settings.kafka, group=f"{world.suite.name}.live")
    live.subscribe([world.topics.requests])
    await live.start()
    places = [TopicPartition(world.topics.requests, p) for p in (0, 1)]
    await until(lambda: len(live.assignment()) == 2)

    async def move(*offsets: int) -> None:
        await live.commit(dict(zip(places, offsets, strict=True)))

    await move(*offsets)
    try:
        yield move
    finally:
        await live.stop()


def test_it_makes_way_while_the_live_hosts_are_behind(broker: Broker) -> None:
    """It pauses, says so, and goes on once they have caught up. Hosts that have stopped hold nothing up."""

    async def run() -> None:
        async with world_on(broker, suite_with(), max_lag=100) as world:
            for _ in range(10):  # the embedded broker's end of the log is low by the last batch
                await world.send(40)
            async with answered_up_to(world, 0, 0) as move:
                told: list[Progress] = []
                metrics = Metrics()
                filling = asyncio.create_task(fill(world, tell=told.append, metrics=metrics))
                await until(lambda: any(progress.throttled for progress in told))
                assert metrics.registry.get_sample_value("chorus_backfill_throttled") == 1
                assert told[-1].requests == 0
                assert (told[-1].live_lag or 0) > 100
                await move(200, 200)
                assert (await filling).requests == 400
                assert not told[-1].throttled
                assert metrics.registry.get_sample_value("chorus_backfill_throttled") == 0

    asyncio.run(run())


def test_it_does_not_overtake_the_live_hosts(broker: Broker) -> None:
    """They may still answer that, and with the candidate if it is promoted: it waits for them there."""

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            for _ in range(10):
                await world.send(40)
            async with answered_up_to(world, 120, 200) as move:
                told: list[Progress] = []
                filling = asyncio.create_task(fill(world, tell=told.append))
                await until(lambda: bool(told) and told[-1].requests == 320 and told[-1].throttled)
                await move(150, 200)
                await until(lambda: told[-1].requests == 350)
                assert not filling.done()
                ranges = covering(await world.votes())
                assert [one_after_the_other(ranges[p]) for p in (0, 1)] == [(0, 150), (0, 200)]
                await move(200, 200)
                assert (await filling).requests == 400

    asyncio.run(run())


def test_it_ends_where_live_hosts_that_have_stopped_have_come(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may go on from there with the candidate; nobody waits for them, and it is told."""
    monkeypatch.setattr(live_lag, "_STILL", 0.5)  # the embedded broker does not tell who has left
    monkeypatch.setattr(live_lag, "_GONE", 0.5)

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            for _ in range(10):
                await world.send(40)
            async with answered_up_to(world, 120, 200):
                pass
            outcome = await fill(world)
            assert (outcome.finished, outcome.requests) == (True, 320)
            assert outcome.partitions()["0"]["to"] == 120
            assert outcome.early == [0]

    asyncio.run(run())


class Forbidden:
    """An admin client to which one group is not shown."""

    def __init__(self, admin: Any, group: str) -> None:
        self._admin, self._group = admin, group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._admin, name)

    async def list_consumer_group_offsets(self, group: str, **more: Any) -> Any:
        if group == self._group:
            raise GroupAuthorizationFailedError(f"Unable to get coordinator id for {group}")
        return await self._admin.list_consumer_group_offsets(group, **more)


def test_one_that_may_not_see_the_live_hosts_ends(
    embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can never know what they have answered, and says which permission is missing."""

    async def run() -> None:
        async with world_on(embedded_broker, suite_with()) as world:
            await world.send(40)
            connect, group = backfill.admin_client, f"{world.suite.name}.live"

            async def client(kafka: Any) -> Any:
                return Forbidden(await connect(kafka), group)

            monkeypatch.setattr(backfill, "admin_client", client)
            with pytest.raises(Unavailable, match=f"lacks the permission Read on consumer group {group}:"):
                await fill(world)

    asyncio.run(run())


def test_one_that_cannot_look_any_more_ends(embedded_broker: Broker) -> None:
    """What it knows of the live hosts would stand still, and it would wait for them for ever."""

    async def run() -> None:
        async with world_on(embedded_broker, suite_with()) as world:
            for _ in range(10):
                await world.send(40)
            told: list[Progress] = []

            async def covered() -> Mapping[int, Sequence[int]]:
                if told and told[-1].throttled:
                    raise ValueError("no idea what is covered")
                return {}

            async with answered_up_to(world, 120, 120):
                with pytest.raises(ValueError, match="no idea what is covered"):
                    await fill(world, covered=covered, tell=told.append)

    asyncio.run(run())


def test_a_candidate_that_is_swapped_in_ends_it(broker: Broker) -> None:
    """With one sentence, at the next look; and nothing is written that the live hosts have not answered."""

    async def run() -> None:
        async with world_on(broker, suite_with()) as world:
            for _ in range(10):
                await world.send(40)
            kafka = world.settings.kafka
            async with answered_up_to(world, 50, 50), RegistryLog(kafka, world.suite.name) as registry:
                await registry.found(world.suite, "test")
                told: list[Progress] = []
                filling = asyncio.create_task(fill(world, tell=told.append))
                await until(lambda: bool(told) and told[-1].requests == 100)
                for kind in ("approved", "queued", "deploying", "ready", "swapped"):
                    more: dict[str, Any] = {"override": True} if kind == "approved" else {}
                    now, kind_ = registry.registry, cast("Kind", kind)
                    more["token"] = now.token if kind in EVALUATORS else None
                    event = draft(now, kind_, "new@1", who="t", why="y", at=1, deployment="d", **more)
                    await registry.append(event)
                with pytest.raises(NotAShadow, match=r"new@1 is baking by now, and only a shadow"):
                    await filling
                assert len(first_votes(await world.votes(), "shadow")) == 100
                with pytest.raises(NotAShadow):
                    await fill(world, covered=covered_by(await world.votes()))
                assert len(first_votes(await world.votes(), "shadow")) == 100

    asyncio.run(run())


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (0, (0, 5)),
        (5, (9, 20)),
        (7, (9, 20)),
        (9, (9, 20)),
        (19, (19, 20)),
        (25, (30, None)),
        (40, (40, None)),
    ],
)
def test_stretches_between_what_is_covered(at: int, expected: tuple[int, int | None]) -> None:
    """The next one that is open, from a position in or outside of one."""
    assert stretch([5, 9, 20, 30], at) == expected


def test_what_is_missing_is_counted() -> None:
    """Only the open positions count."""
    assert missing([5, 9, 20, 30], 0, 40) == 5 + 11 + 10
    assert missing([5, 9, 20, 30], 6, 8) == 0
    assert missing([], 3, 8) == 5


def test_the_throttle_lets_go_late() -> None:
    """It pauses above the bound and goes on at half of it; where nobody runs live it never does."""
    throttle = Throttle(100)
    assert [throttle.update(lag) for lag in (50, 100, 101, 80, 51, 50, 80)] == [False] * 2 + [True] * 3 + [
        False
    ] * 2
    throttle.update(500)
    assert not throttle.update(None)


def decoded(times: list[int]) -> DecodedBatch:
    n = len(times)
    offsets = np.arange(10, 10 + 2 * n, 2)  # every other position holds no request
    batch = Batch(np.array(times), {})
    return DecodedBatch(offsets, [str(t) for t in times], np.zeros(n, np.int64), [()], batch, [])


@pytest.mark.parametrize(
    ("times", "kept", "start", "end"),
    [
        ([5, 6, 7], [5, 6, 7], 9, 20),
        ([1, 6, 7], [6, 7], 12, 20),
        ([6, 7, 1], [6, 7], 9, 13),
        ([1, 6, 1, 7, 1], [6, 1, 7], 12, 17),
        ([1, 2], [], 20, 20),
        ([], [], 9, 20),
    ],
)
def test_old_requests_are_cut_off_at_the_edges(
    times: list[int], kept: list[int], start: int, end: int
) -> None:
    """Between young ones they are scored as well, so that the log does not fall into single records."""
    batch, first, last = trim(decoded(times), 9, 20, since=5)
    assert batch.times.tolist() == kept
    assert (first, last) == (start, end)
