"""A condition of a host that has gone ends by itself, once, and not while anybody says that it lasts."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from pydantic import SecretStr

from evaluator.alerting.alert import Alert, decode_alert
from evaluator.alerting.conditions import still_firing
from evaluator.alerting.reading import read_alerts
from evaluator.alerting.unheard import Heard, Unheard, end_of
from evaluator.alerting.wording import description, summary
from evaluator.service import EvaluatorService
from members.alarms import LAGGING, SUSPENDED, Alarms
from streams.connect import make_producer
from streams.settings import Kafka, Redis, Settings
from streams.suite import parse_suite
from streams.topics import Topics, create_topics
from tests.evaluator.alerting.alerts import FLAGGED, Record, alert

WHERE = {"host": "live-0", "instance": "pod-1", "stage": "live"}


def read(event: dict[str, Any]) -> Alert:
    return decode_alert(Record(json.dumps(event).encode()), "storms")


def test_what_is_repeated_lasts_and_what_is_not_is_over():
    """Only what hosts say; each host for itself; what has ended is not ended again."""
    heard = Heard(60.0)
    here, there = alert(SUSPENDED, "a@1", **WHERE), alert(SUSPENDED, "a@1", **{**WHERE, "host": "live-1"})
    lags, ended = alert(LAGGING, "live-0", **WHERE), alert(SUSPENDED, "b@1", **WHERE)
    for one in (here, there, lags, ended, alert(FLAGGED, "c@1")):
        heard.hear(one, 0.0)
    heard.hear(alert(SUSPENDED, "b@1", "resolved", **WHERE), 1.0)
    heard.hear(there, 50.0)
    assert heard.unheard(60.0) == []
    assert heard.unheard(61.0) == [here, lags]
    heard.hear(read(end_of(here, 60.0, 0)), 61.0)
    assert heard.unheard(61.0) == [lags]
    assert heard.unheard(111.0) == [there, lags]


def test_the_end_says_why_and_is_one_event_whoever_says_it():
    """It belongs to the condition that it ends, with nothing of what was the matter then."""
    fired = alert(SUSPENDED, "a@1", why="no module", **WHERE)
    ended = read(end_of(fired, 360.0, 1_772_366_400_000))
    assert (ended.status, ended.fingerprint) == ("resolved", fired.fingerprint)
    assert ended.id == read(end_of(fired, 60.0, 0)).id
    assert summary(ended) == "a@1 of suite storms is no longer suspended on live-0"
    assert description(ended).startswith("Nothing was heard of it for 6m: the host has gone, or does not")


class Place:
    """A suite's `alerts`, hosts that say on it what lasts, and evaluators that listen."""

    def __init__(self, servers: str, patience: int) -> None:
        self.suite = parse_suite(f'name = "u{uuid.uuid4().hex[:8]}"\n')
        self.kafka = Kafka(bootstrap_servers=servers, patience=patience, fetch_max_wait=20, partitions=1)
        self.topic = Topics(self.suite.name).alerts
        self.producer: Any = None
        self.tasks: list[asyncio.Task[None]] = []
        self.services: list[Unheard] = []

    async def send(self, key: bytes, value: bytes) -> None:
        await self.producer.send_and_wait(self.topic, value, key=key)

    def host(self, *suspended: str, name: str = "live-0") -> asyncio.Task[None]:
        """To cancel it is a kill -9: it says nothing more."""
        alarms = Alarms(self.suite.name, name, "live", lag_after=1000, repeat=0.2)
        for member in suspended:
            alarms.suspended(member, "no module", time.time_ns() // 1_000_000)
        self.tasks.append(asyncio.create_task(alarms.run(self.send)))
        return self.tasks[-1]

    async def evaluator(self, leads: list[bool]) -> Unheard:
        service = Unheard(self.suite.name, self.kafka, self.send, lambda: leads[0], silence=3.0, every=0.05)
        await service.start()
        self.services.append(service)
        return service

    async def told(self) -> list[tuple[str, str, str]]:
        """(host, member, status), each event once."""
        alerts = {one.id: one for one in await read_alerts(self.kafka, self.suite.name)}
        return [(one.data["host"], one.subject, one.status) for one in alerts.values()]

    async def firing(self) -> set[tuple[str, str]]:
        """What `chorus alerts` shows as firing."""
        alerts = await read_alerts(self.kafka, self.suite.name)
        return {(one.data["host"], one.subject) for one, _ in still_firing(alerts)}

    async def until_firing(self, *wanted: tuple[str, str]) -> None:
        deadline = time.monotonic() + 60
        while (found := await self.firing()) != set(wanted):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def placed(broker: Any):
    place = Place(broker.bootstrap_servers, int(broker.env.get("CHORUS_KAFKA__PATIENCE", "0")))
    await create_topics(place.suite, place.kafka)
    place.producer = make_producer(place.kafka)
    await place.producer.start()
    try:
        yield place
    finally:
        for task in place.tasks:
            task.cancel()
        await asyncio.gather(*place.tasks, return_exceptions=True)
        for service in place.services:
            await service.stop()
        await place.producer.stop()


def test_what_a_killed_host_left_is_ended_by_the_leader(broker):
    """Restarted sound, or not at all; another host's stays, and so does that of one that is still broken."""

    async def scenario():
        async with placed(broker) as place:
            killed, other = place.host("a@1", "b@1"), place.host("a@1", name="live-1")
            await place.until_firing(("live-0", "a@1"), ("live-0", "b@1"), ("live-1", "a@1"))
            leads, follows = [True], [False]
            first = await place.evaluator(leads)
            await place.evaluator(follows)
            killed.cancel()
            place.host("b@1")  # under its old name again, with one member mended
            await place.until_firing(("live-0", "b@1"), ("live-1", "a@1"))
            told = await place.told()
            assert told.count(("live-0", "a@1", "resolved")) == 1
            assert ("live-0", "b@1", "resolved") not in told
            await first.stop()  # another leads from here on, and an end is not told again
            place.services.remove(first)
            follows[0] = True
            other.cancel()
            await place.until_firing(("live-0", "b@1"))
            told = await place.told()
            assert [each for each in told if each[2] == "resolved"] == [
                ("live-0", "a@1", "resolved"), ("live-1", "a@1", "resolved")
            ]  # fmt: skip

    asyncio.run(scenario())


def test_evaluators_listen(embedded_broker, valkey, monkeypatch):
    """Every evaluator of a group does, without being told to."""
    monkeypatch.setattr("evaluator.service.Unheard", partial(Unheard, silence=0.5, every=0.05))

    async def scenario():
        async with placed(embedded_broker) as place:
            place.host("a@1")
            await place.until_firing(("live-0", "a@1"))
            place.tasks[0].cancel()
            redis = Redis(url=SecretStr(valkey.url))
            service = EvaluatorService(place.suite, Settings(kafka=place.kafka, redis=redis))
            await service.start()
            try:
                await place.until_firing()
            finally:
                await service.stop()

    asyncio.run(scenario())


def test_an_evaluator_that_could_not_listen_knows_of_no_silence(embedded_broker):
    """Time that passes while the process sleeps, or the broker is away, ends nothing."""

    async def scenario():
        async with placed(embedded_broker) as place:
            hours = itertools.count()
            service = Unheard(
                place.suite.name, place.kafka, place.send, lambda: True,
                silence=60.0, every=10.0, clock=lambda: next(hours) * 3600.0,
            )  # fmt: skip
            consumer = await service._connect()
            place.host("a@1")
            await place.until_firing(("live-0", "a@1"))
            for _ in range(3):
                await service._look(consumer)
            assert await place.firing() == {("live-0", "a@1")}
            await consumer.stop()

    asyncio.run(scenario())
