"""Hold-out: who is let through is chance, and yet always the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from evaluator.evidence.reviews import drawn
from members.decisions import decisions
from members.holdout import chance, held_out
from streams.batch import Batch
from streams.requests import DecodedBatch
from tests.members.hosting import World, check_decisions, suite
from tests.streams.brokers import Broker, embedded_broker

IDS = [f"r-{i}" for i in range(50_000)]
#: As they were when this was written.
PINNED = [0.902908683152222, 0.6954191819318053, 0.724157094766403]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with embedded_broker() as running:
        yield running


def test_it_is_uniform_over_ids() -> None:
    """Consecutive ids are as good as random ones, and neighbours have nothing to do with each other."""
    numbers = np.array([chance(each) for each in IDS])
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 4 / np.sqrt(len(IDS))
    assert 0 <= numbers.min() < numbers.max() < 1


def test_it_is_not_the_draw_for_reviews() -> None:
    """Those held out are asked for a review as often as all others."""
    out = held_out(IDS, np.ones(len(IDS), dtype=np.bool_), 0.2)
    asked = np.array([drawn(each, 0.2) for each in IDS])
    assert (out & asked).mean() == pytest.approx(0.04, abs=0.004)


def test_it_never_changes() -> None:
    """These are the numbers of these ids for ever: other values would make recorded hold-outs wrong."""
    assert [chance(each) for each in ("r-101", "é", "")] == pytest.approx(PINNED, abs=1e-15)


def test_only_the_flagged_are_held_out_and_more_at_a_larger_share() -> None:
    """Of the flagged a share q; none at 0; who is held out at q is at any larger share."""
    flagged = np.arange(len(IDS)) % 2 == 0
    few, many = held_out(IDS, flagged, 0.01), held_out(IDS, flagged, 0.05)
    assert not held_out(IDS, flagged, 0.0).any()
    assert not (few & ~many).any()
    assert not (many & ~flagged).any()
    assert many[flagged].mean() == pytest.approx(0.05, abs=0.005)
    assert few.tolist() == [bool(f) and chance(i) < 0.01 for i, f in zip(IDS, flagged, strict=True)]


def test_the_decision_says_so() -> None:
    """Flagged, held out and quiet requests side by side, with the chance that each had."""
    n = 3
    decoded = DecodedBatch(
        np.arange(n), ["a", "b", "100% %d"], np.zeros(n, np.int64), [()], Batch(np.arange(n), {}), []
    )
    rows = decisions(decoded, [["x@1"], ["x@1"], []], [True, False, False], [False, True, False], 1, 0, 0.01)
    found = [json.loads(value) for _, value in rows]
    assert [each["request_id"] for each in found] == decoded.ids
    assert [each["judgement"] for each in found] == [True, False, False]
    assert [each["held_out"] for each in found] == [False, True, False]
    assert [each["probability"] for each in found] == [0.01, 0.01, 0.0]
    assert [each["fired"] for each in found] == [["x@1"], ["x@1"], []]


def test_a_host_holds_out(broker: Broker) -> None:
    """Decisions and votes agree on who was held out; shadow hosts know nothing of it."""

    async def run() -> None:
        async with World(broker.servers, suite("holding", shadow=1, holdout=0.4)) as world:
            await world.send(400)
            await world.host()
            await world.answered()
            shadow = await world.host("shadow")
            await shadow.stop()
            votes, made = await world.votes(), await world.decisions()
            check_decisions(world, made, votes)
            places = {(v.partition, v.start + p) for v in votes for p in v.held}
            assert places == {(d["partition"], d["offset"]) for d in made if d["held_out"]}
            assert 20 < len(places) < 200
            assert {v.holdout for v in votes if v.stage == "live"} == {0.4}
            assert not any(v.held or v.holdout for v in votes if v.stage == "shadow")

    asyncio.run(run())
