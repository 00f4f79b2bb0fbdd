"""What the leading evaluator remembers, and what it leaves in the registry for the next one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from evaluator.fold import Update
from evaluator.promotion.deployer import Deployer
from evaluator.store import Store, ensure_meta, layout_of
from streams.suite import DAY, Suite
from tests.evaluator.promotion.tale import HOUR, Tale
from tests.evaluator.promotion.test_guardrails import START, steady, story
from tests.evaluator.promotion.test_registrar import T0, play
from tests.evaluator.promotion.test_steps import approved
from tests.members.registry.test_lifecycle import spec


class Leader:
    """A deployer without servers; `clock` is its own, in s."""

    def __init__(self, suite=None):
        self.clock = 1000.0
        self.deployer = Deployer(suite, None, None, "e", None, lambda: self.clock)

    def waited(self, tale):
        return self.deployer._waited(tale.registry)


class Unread:
    """A registry's log of which this evaluator, frozen for a while, has not read the end yet."""

    def __init__(self, tale):
        self.registry, self.tale, self.written = tale.registry, tale, []

    async def refresh(self):
        self.registry = self.tale.registry
        return self.registry

    async def append(self, event):
        self.written.append(event.kind)
        return self.registry


@pytest.mark.parametrize("ready", [True, False])
def test_who_did_not_listen_listens_before_it_says_that_a_host_is_silent(ready):
    """An evaluator that was frozen finds that it has waited for long, though the host has answered."""
    tale = approved("c@1")
    tale.settle()
    log, leader = Unread(tale), Leader(Suite(name="s"))
    deployer = leader.deployer
    deployer._log, deployer.leads = log, True

    async def hold(registry):
        return 1

    deployer._hold = hold
    asyncio.run(deployer.tend())
    if ready:
        assert tale.host("ready", "c@1") is None
    leader.clock += 1000
    asyncio.run(deployer.tend())
    assert ("aborted" in log.written) is not ready


@pytest.mark.parametrize("kind", ["aborted", "rolled_back"])
def test_the_cooldown_of_what_a_person_did_outlives_whoever_leads(embedded_broker, redis_server, kind):
    """A new evaluator at each look, and an empty Redis: it begins once, and ends."""

    async def scenario(place):
        async def lead():
            registrar = await place.registrar("e")
            await place.look(registrar)
            await registrar.stop()

        place.verdicts = {"c@1": "PROMOTE"}
        await lead()
        deployment = (await place.log.refresh()).deployment.id
        if kind == "rolled_back":
            await place.write("ready", "c@1", deployment=deployment)
            await lead()
        place.watermark += 30 * DAY  # the last that the registry was told is long ago
        await place.write(kind, "c@1", deployment=deployment)
        for wait in (0, DAY // 2, DAY // 2 - 1):
            place.watermark += wait
            await lead()
            assert await place.state() == "shadow"
            await place.client.flushall()
        place.watermark += 1
        await lead()
        assert await place.state() == "recommended"
        assert [each.event.kind for each in place.log.recorded].count("noticed") == 1
        assert "noticed" not in place.told

    play(embedded_broker, redis_server, scenario)


def test_a_mark_too_far_ahead_stops_nobody_once_the_logs_are_read(embedded_broker, valkey):
    """What stood in the logs when it was seen has to be folded, and two minutes to have passed since."""

    async def scenario(place):
        layout = layout_of(place.suite, 1)
        await ensure_meta(place.client, place.suite.name, layout)
        store = Store(place.client, place.suite.name, layout)
        registrar = await place.registrar("e")
        clock = [1000.0]
        registrar._deployer._clock = lambda: clock[0]
        await place.write("approved", "c@1", override=True, watermark=T0 + 20_000 * DAY)
        place.logs = {"votes:0": 150, "labels:0": 20}
        await place.look(registrar)
        place.logs = {"votes:0": 9000}  # what comes after is not waited for
        clock[0] += 10_000
        await place.look(registrar)
        assert await place.state() == "approved"
        gap = Update("votes:0", 140, 140, layout, declare_gap=True)  # the last ten are marks of transactions
        assert await store.apply(0, gap) is None
        await place.look(registrar)
        clock[0] += 119
        await place.look(registrar)
        assert await place.state() == "approved"
        clock[0] += 1
        await place.look(registrar)
        assert await place.state() == "deploying"
        assert [each.event.kind for each in (await read(place)).recorded][-3:] == [
            "noticed",
            "queued",
            "deploying",
        ]

    async def read(place):
        await place.log.refresh()
        return place.log

    play(embedded_broker, valkey, scenario)


def test_a_leader_waits_by_its_own_clock_from_its_own_first_sight():
    """Anew for each step of a deployment, and for each leader."""
    tale, leader = Tale(["a@1"], ["c@1"]), Leader()
    assert leader.waited(tale) == 0
    assert tale.person("approved", "c@1", override=True) is None
    leader.clock += 500
    tale.settle()
    assert leader.waited(tale) == 0
    leader.clock += 100
    assert leader.waited(tale) == 100_000
    assert Leader().waited(tale) == 0
    assert tale.host("ready", "c@1") is None
    leader.clock += 1
    assert leader.waited(tale) == 101_000
    tale.settle()
    assert leader.waited(tale) == 0
    leader.clock += 2.5
    assert leader.waited(tale) == 2500


@pytest.mark.parametrize(("swapped", "breached"), [(START, True), (START + DAY, False)])
def test_what_was_before_the_swap_is_not_held_against_the_member(swapped, breached):
    """While the store is filled anew, event time may be before it where votes already show its revision."""
    tale = Tale(["a@1"], ["c@1"])
    tale.watermark = swapped
    tale.bake("c@1")
    members = [spec("a@1", "live"), spec("c@1")]
    cells = story(steady, failed=200)  # from START on
    history = SimpleNamespace(cells=lambda ids, first: cells, revision=2)
    deployer = Leader(Suite(name="s", member=members)).deployer
    answering, trouble = deployer._watch(tale.registry, history, START - HOUR)
    assert answering == swapped
    assert (trouble is not None) == breached
