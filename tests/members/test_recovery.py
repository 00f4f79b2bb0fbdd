"""Taking a partition over: decisions that were recorded are repeated, never made anew."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from members import recovery
from members.batches import Scorer
from members.host import HostService
from members.recovery import Replay
from tests.members.conftest import Place
from tests.members.hosting import World, check_decisions, suite, until
from tests.streams.test_votes import frame


class Gone(Exception):
    """A host that is no more."""


def kill(host: HostService) -> None:
    """Forget what it has, so that stopping commits nothing: as if the process had been killed."""
    host._owned.clear()


async def crash(world: World, host: HostService, after: int) -> None:
    """Let a host die between the votes record and the decisions of a batch, `after` batches from now."""
    left = after

    def between() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Gone

    host._scorer.between = between
    await world.send(800)
    await until(lambda: host.crashed)
    kill(host)
    await host.stop()


@pytest.mark.parametrize(("crashes", "holdout"), [(1, 0.0), (3, 0.0), (2, 0.3)])
def test_crash_between_votes_and_decisions(place: Place, crashes: int, holdout: float) -> None:
    """A member that answers at random cannot drift from the decisions, though its host dies in between."""

    async def run() -> None:
        async with World(place.servers, suite(f"crash{crashes}", holdout=holdout)) as world:
            await world.send(300)
            await world.host()
            await world.answered()
            for _ in range(crashes):
                await crash(world, world.hosts[-1], after=3)
                await world.host()
            await world.answered()
            last = world.hosts[-1]
            # In a transaction there are no votes without their decisions.
            assert (last._metrics.replayed._value.get() > 0) == (not world.transactional)
            check_decisions(world, await world.decisions(), await world.votes())

    asyncio.run(run())


def test_nothing_is_committed_before_it_is_answered(place: Place) -> None:
    """A host that dies before its first decision leaves everything to its successor."""

    async def run() -> None:
        async with World(place.servers, suite("early")) as world:
            host = await world.host()
            await crash(world, host, after=0)
            assert await world.decisions() == []
            second = await world.host()
            await world.answered()
            assert (second._metrics.replayed._value.get() > 0) == (not world.transactional)
            check_decisions(world, await world.decisions(), await world.votes())

    asyncio.run(run())


def test_a_hello_that_is_not_shown_is_said_again(
    embedded_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that acknowledges a record and does not show it holds nobody up for ever."""

    async def run() -> None:
        said = []

        async def unheard(scorer: Scorer, owned: Any, crew: Any) -> str:
            said.append(await hello(scorer, owned, crew))
            return said[-1] if len(said) > 2 else "what was lost"

        hello = Scorer.hello
        monkeypatch.setattr(Scorer, "hello", unheard)
        monkeypatch.setattr(recovery, "_SILENT", 0.3)
        async with World(embedded_broker.bootstrap_servers, suite("lost")) as world:
            await world.send(20)
            await world.host()
            await world.answered()
            assert len(said) > 2
            check_decisions(world, await world.decisions(), await world.votes())

    asyncio.run(run())


def test_replay_against_a_model() -> None:
    """Over any records in any order: the first that covers a position stands there, and stretches fit."""
    rng = random.Random(0)
    for _ in range(300):
        begin = rng.randrange(20)
        replay, model = Replay(begin), {}
        for _ in range(rng.randrange(8)):
            start = rng.randrange(40)
            votes = frame(["*"], start, start + rng.randrange(15))
            replay.add(votes)
            for position in range(max(begin, votes.start), votes.end):
                model.setdefault(position, votes)
        at = begin
        while at < 60:
            end = at + rng.randrange(1, 20)
            pieces = replay.split(at, end)
            assert [first for first, _, _ in pieces] == [at, *(stop for _, stop, _ in pieces[:-1])]
            assert pieces[-1][1] == end
            for first, stop, votes in pieces:
                assert first < stop
                assert all(model.get(position) is votes for position in range(first, stop))
            replay.forget(end)
            at = end
        assert not replay
