"""Members in processes of their own."""

from __future__ import annotations

import asyncio
import time

import pytest

from streams.batch import Batch
from tests.members.panels import Bench, batch, spec

GOOD, BAD = [1.0, -1.0], [-1.0, 1.0]


async def _until_it_answers(bench: Bench, requests: Batch, member: int) -> None:
    deadline = time.monotonic() + 30
    while (await bench.panel.vote(requests)).failed[member]:
        assert time.monotonic() < deadline, bench.events
        bench.clock.now += 100
        await asyncio.sleep(0.02)


def test_it_votes_like_any_other() -> None:
    """Votes, abstentions for missing features, and errors cross the process boundary."""

    async def go() -> None:
        bench = Bench(
            spec("iso", "Above", isolate=True),
            spec("here", "Above"),
            spec("bad", "Raises", isolate=True),
            spec("text", "Returns", isolate=True, expression="batch['carrier'] == 'UA'"),
        )
        await bench.panel.load()
        ballot = await bench.panel.vote(batch([1.0, None, -1.0]))
        assert ballot.true.tolist()[:2] == [[True, False, False]] * 2
        assert ballot.abstain.tolist()[:2] == [[False, True, False]] * 2
        assert ballot.true[3].tolist() == [True] * 3
        assert ballot.failed.tolist() == [False, False, True, False]
        assert any("no idea" in detail for _, _, detail in bench.events)
        await bench.panel.close()

    asyncio.run(go())


@pytest.mark.parametrize("kind", ["Exits", "HoldsGil"])
def test_a_crash_or_a_held_interpreter_is_one_members_own(kind: str) -> None:
    """The process is gone, the others voted on the same batch, and a new process is there later."""

    async def go() -> None:
        bench = Bench(spec("a", "Above"), spec("bad", kind, isolate=True, budget_ms=100), spec("z", "Above"))
        await bench.panel.load()
        assert (await bench.panel.vote(batch(GOOD))).true.tolist() == [[True, False]] * 3
        began = time.monotonic()
        ballot = await bench.panel.vote(batch(BAD))
        assert time.monotonic() - began < 10
        assert ballot.failed.tolist() == [False, True, False]
        assert ballot.true.tolist() == [[False, True], [False, False], [False, True]]
        assert bench.kinds("bad")
        await _until_it_answers(bench, batch(GOOD), 1)
        assert bench.kinds("a") == bench.kinds("z") == []
        await bench.panel.close()

    asyncio.run(go())


def test_one_that_cannot_be_loaded() -> None:
    """Its reason comes back from the child, and the member is suspended."""

    async def go() -> None:
        bench = Bench(spec("x", "nowhere:M", isolate=True), spec("a", "Above"))
        await bench.panel.load()
        assert bench.kinds("x")[-1] == "suspended"
        assert any("nowhere" in detail for _, _, detail in bench.events)
        assert (await bench.panel.vote(batch(GOOD))).failed.tolist() == [True, False]
        await bench.panel.close()

    asyncio.run(go())
