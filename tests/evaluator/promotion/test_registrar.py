"""The registry within evaluators, on a broker and a Redis: viewed, acted on, and told about."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest
from pydantic import SecretStr

from evaluator.history import History
from evaluator.keys import registry_key, slot_keys
from evaluator.promotion.notices import TYPES, Notices
from evaluator.promotion.registrar import Registrar, registry_log
from evaluator.rebuild import rebuild
from evaluator.registry_view import read_view, write_view
from evaluator.status import status_of
from members.registry.events import Event
from members.registry.lifecycle import Registry, draft
from members.registry.log import Conflict
from streams.connect import make_producer, ping_broker, redis_client, until_available
from streams.errors import Unavailable
from streams.settings import Kafka, Redis, Settings
from streams.suite import DAY, parse_suite
from streams.topics import Topics, create_topics

HEAD = 'name = "{}"\nwindows = ["1d"]\n[policy]\nmode = "auto"\nbake = "1h"\n'
MEMBER = '[[member]]\nname = "{}"\nversion = "1"\nstage = "{}"\nowner = "o"\nloader = "m:C"\n'
T0 = 100 * DAY


async def until(condition, seconds=20):
    """Wait until `await condition()`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


class Place:
    """A suite with one live member and one candidate, its registry, and evaluators that follow it."""

    def __init__(self, broker, redis) -> None:
        self.suite = parse_suite(
            HEAD.format(f"reg-{uuid.uuid4().hex[:8]}")
            + MEMBER.format("a", "live")
            + MEMBER.format("c", "shadow")
        )
        kafka = Kafka(
            bootstrap_servers=broker.bootstrap_servers, session_timeout=2000, fetch_max_wait=20, partitions=1
        )
        self.settings = Settings(kafka=kafka, redis=Redis(url=SecretStr(redis.url)))
        self.alerts: list[dict] = []
        self.letters: list[int] = []
        self.watermark = T0
        self.verdicts: dict[str, str] = {}
        self.precision: float | None = None
        self.logs = {"votes:0": 7}
        self.started: list[Registrar] = []

    async def __aenter__(self):
        await until_available(lambda: ping_broker(self.settings.kafka))
        await create_topics(self.suite, self.settings.kafka)
        self.client = redis_client(self.settings.redis)
        self.history = History(self.client, self.suite.name)
        self.log = registry_log(self.suite, self.settings)
        await self.log.start()
        await self.log.found(self.suite, "test")
        return self

    async def __aexit__(self, *_):
        for each in self.started:
            await each.stop()
        await self.log.stop()
        await self.client.aclose()

    async def alert(self, key, value):
        self.alerts.append(json.loads(value))

    async def letter(self, record, error):
        self.letters.append(record.offset)

    async def ends(self):
        return self.logs

    async def registrar(self, name):
        found = Registrar(
            self.suite, registry_log(self.suite, self.settings), self.client, name,
            send_alert=self.alert, send_letter=self.letter, ends=self.ends,
        )  # fmt: skip
        await found.start()
        self.started.append(found)
        return found

    async def look(self, registrar):
        """What the evaluator does with a status, judged from the store as it is now."""
        await until(self.shown)
        await self.history.refresh()
        told = {"reasons": ["believed"], "reference_precision": self.precision}
        members = [
            {"id": name, "verdict": {"state": state, **told}, "unique": {}, "covered": []}
            for name, state in self.verdicts.items()
        ]  # fmt: skip
        window = {"view": "latest", "start": 0, "end": 1, "members": members}
        status = {"watermark": self.watermark, "labels_through": self.watermark, "windows": [window]}
        await registrar.look(status, self.history)

    async def shown(self):
        """Whether the view in Redis is the registry as it is now."""
        return await read_view(self.client, self.suite.name) == await self.log.refresh()

    async def write(self, kind, member, **more):
        registry = await self.log.refresh()
        at, who = 1, more.pop("who", "ana")
        return await self.log.append(draft(registry, kind, member, who=who, why="so be it", at=at, **more))

    async def state(self, member="c@1"):
        return (await self.log.refresh()).entries[member].state

    @property
    def told(self):
        return [alert["data"]["event"] for alert in self.alerts]


def play(broker, redis, scenario):
    async def main():
        async with Place(broker, redis) as place:
            await scenario(place)

    asyncio.run(main())


def test_the_view_in_redis_is_that_of_the_log(broker, redis_server):
    """It follows, comes back after a flush, never goes back, and one that cannot be read is replaced."""

    async def scenario(place):
        name, early = place.suite.name, Registry.model_validate(place.log.registry)
        registrar = await place.registrar("e")
        await until(place.shown)
        await place.write("retired", "c@1")
        await until(place.shown)
        await write_view(place.client, name, early)
        assert await place.shown()
        await place.client.flushall()
        registrar._shown_at = 0.0  # five seconds later
        await until(place.shown)
        await place.client.hset(registry_key(name), "document", "of another version")
        assert await read_view(place.client, name) is None
        registrar._shown_at = 0.0
        await until(place.shown)

    play(broker, redis_server, scenario)


def test_one_evaluator_acts_and_another_goes_on_when_it_stops(broker, redis_server):
    """The whole way of a candidate; what hosts refuse is acted on between two looks."""

    async def scenario(place):
        one, two = await place.registrar("one"), await place.registrar("two")
        place.verdicts = {"c@1": "PROMOTE"}
        await place.look(one)
        assert await place.state() == "deploying"
        await place.look(two)
        assert (one.leads, two.leads) == (True, False)
        deployment = place.log.registry.deployment.id
        await place.write("ready", "c@1", deployment=deployment, who="live-0")
        await place.look(one)
        assert await place.state() == "baking"
        await one.stop()
        await place.look(two)
        assert two.leads
        await place.write("refused", "c@1", deployment=deployment, who="live-0")

        async def back():
            return await place.state() == "shadow"

        await until(back)
        await place.look(two)
        assert place.told == ["approved", "deploying", "rolled_back"]
        assert place.log.registry.token == 2

    play(broker, redis_server, scenario)


def test_the_floor_at_adoption_is_seen_by_all_and_kept_by_a_rebuild(broker, redis_server):
    """Noted by one evaluator, made to count by another; every reader has it, and again from Kafka alone."""

    async def scenario(place):
        one, two = await place.registrar("one"), await place.registrar("two")
        place.verdicts, place.precision = {"c@1": "PROMOTE"}, 0.62

        async def floor():
            await until(place.shown)
            await place.history.refresh()
            told = status_of(place.suite, place.history, 0)["policy"]
            assert place.history.current(place.suite).policy.floor == told["floor"]
            return told["floor"], told["floor_source"]

        await place.look(one)
        assert await place.state() == "deploying"
        assert await floor() == (None, None)
        await one.stop()
        await place.write("ready", "c@1", deployment=place.log.registry.deployment.id, who="live-0")
        place.verdicts, place.precision = {}, None
        await place.look(two)
        assert await place.state() == "baking"
        assert await floor() == (0.62, "adoption")
        await two.stop()
        await rebuild(place.suite, place.settings)
        assert await floor() == (0.62, "adoption")
        policy = place.suite.policy.model_copy(update={"floor": 0.0})
        place.suite = place.suite.model_copy(update={"policy": policy})
        assert await floor() == (0.0, "declared")

    play(broker, redis_server, scenario)


def test_a_holder_that_was_frozen_changes_nothing(broker, redis_server):
    """Its lease has gone to another one, which has written; what it decided before is ignored."""

    async def scenario(place):
        old, new = await place.registrar("old"), await place.registrar("new")
        await place.look(old)
        token = 1
        frozen = draft(
            place.log.registry,
            "recommended",
            "c@1",
            who="chorus",
            why="long ago",
            at=1,
            watermark=T0,
            token=token,
        )
        await place.client.delete(slot_keys(place.suite.name)[0])
        place.verdicts = {"c@1": "PROMOTE"}
        await place.look(new)
        before = await place.log.refresh()
        assert before.token == 2
        with pytest.raises(Conflict, match="lost the deployment slot"):
            await place.log.append(frozen)
        late = draft(
            place.log.registry, "aborted", "c@1", who="chorus", why="w", at=1, token=token,
            deployment=before.deployment.id,
        )  # fmt: skip
        with pytest.raises(Conflict, match="lost the deployment slot"):
            await place.log.append(late)
        assert (await place.log.refresh()).entries == before.entries

    play(broker, redis_server, scenario)


def test_evidence_about_another_suite_counts_for_nothing(broker, redis_server):
    """The store was judged at a revision that is no more: nothing is decided, but what hosts said is."""

    async def scenario(place):
        registrar = await place.registrar("e")
        await place.write("approved", "c@1", override=True)
        await place.look(registrar)
        assert await place.state() == "deploying"
        await until(place.shown)
        await place.history.refresh()
        deployment = place.log.registry.deployment.id
        await place.write("ready", "c@1", deployment=deployment)
        await place.write("retired", "a@1")
        status = {"watermark": T0, "labels_through": T0, "windows": []}
        await registrar.look(status, place.history)
        assert await place.state() == "deploying"
        await place.look(registrar)
        assert await place.state() == "baking"

    play(broker, redis_server, scenario)


def test_notices_are_sent_once_and_again_with_the_same_id_after_a_crash(broker, valkey):
    """A crash between sending and committing; bad records go to dead letters, ignored events to nobody."""

    async def scenario(place):
        name, kafka = place.suite.name, place.settings.kafka
        await place.write("approved", "c@1", override=True)
        with pytest.raises(Conflict):
            await place.write("promoted", "c@1")
        producer = make_producer(kafka)
        await producer.start()
        bad = await producer.send_and_wait(Topics(name).members, b"{}", partition=0)
        await producer.stop()
        await place.write("aborted", "c@1")

        async def crash(offset):
            raise Unavailable("it died here")

        for round_ in range(3):
            async with registry_log(place.suite, place.settings) as log:
                if round_ == 0:
                    log.commit = crash
                notices = Notices(name, log, place.alert, place.letter)
                try:
                    await notices.tell()
                    await notices.tell()
                except Unavailable:
                    assert round_ == 0
        assert place.told == ["approved", "aborted"] * 2
        ids = [alert["id"] for alert in place.alerts]
        assert ids[:2] == ids[2:]
        assert len(set(ids)) == 2
        assert place.letters == [bad.offset] * 2
        first = place.alerts[0]
        assert (first["type"], first["subject"]) == ("chorus.candidate.approved", "c@1")
        assert (first["data"]["who"], first["data"]["why"]) == ("ana", "so be it")

    play(broker, valkey, scenario)


def test_the_place_of_notices_is_committed_again_now_and_then(embedded_broker, valkey):
    """The broker forgets a place that is not: every notice since the beginning would be sent again."""

    async def scenario(place):
        async with registry_log(place.suite, place.settings) as log:
            noted: list[int] = []
            commit = log.commit

            async def count(offset):
                noted.append(offset)
                await commit(offset)

            log.commit = count
            notices = Notices(place.suite.name, log, place.alert, place.letter)
            await notices.tell()
            await notices.tell()
            assert noted == [log.registry.applied]
            notices._committed -= 3600.0
            await notices.tell()
            assert noted == [log.registry.applied] * 2
            assert await log.committed() == log.registry.applied

    play(embedded_broker, valkey, scenario)


def test_a_notice_says_how_a_deployment_was_completed():
    """There are four ways; every kind that is told of is one of the registry."""
    completions = {kind: how for kind, (_, how) in TYPES.items() if how}
    assert completions == {
        "superseded": "Superseded", "promoted": "Promoted", "aborted": "Aborted", "rolled_back": "RolledBack",
    }  # fmt: skip
    assert set(TYPES) <= set(Event.model_fields["kind"].annotation.__args__[0].__args__)
