"""Webhooks from end to end: a real receiver, a real broker, a real Redis, and what goes wrong there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from evaluator.alerting.receiver import Receiver
from evaluator.alerting.signing import verify
from evaluator.keys import webhook_keys
from streams.connect import make_producer, redis_client
from streams.dead_letters import dead_letter
from streams.metrics import Metrics
from streams.settings import Alerts, Kafka, Redis, Settings, Webhook
from streams.suite import parse_suite
from streams.topics import Topics, create_topics
from tests.conftest import Broker
from tests.e2e.clients import read_topic
from tests.evaluator.alerting.alerts import COMPLETED, event


class Hook:
    """A receiver whose port stays the same while it is down. `taken`: what it answered with 200."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}  # subject → statuses to answer with, before 200
        self.posts: list[tuple[str, str]] = []  # (id, body) of everything that came
        self.taken: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.hang = False
        self.runner: web.AppRunner | None = None
        self.port = 0

    async def up(self) -> Hook:
        app = web.Application()
        app.router.add_post("/hook", self._post)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]
        return self

    async def down(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.posts.append((request.headers["X-Chorus-Event-Id"], body.decode()))
        stamp, signature = request.headers["X-Chorus-Timestamp"], request.headers["X-Chorus-Signature"]
        assert verify("s3cret", stamp, signature, body, now=time.time())
        if self.hang:
            await asyncio.sleep(3600)
        message = json.loads(body)
        left = self.answers.get(message["commonLabels"].get("member", ""), [])
        if left:
            return web.Response(status=left.pop(0), text="no such\nkey", headers={"Retry-After": "0"})
        self.taken.append(message)
        self.ids.append(self.posts[-1][0])
        return web.Response()

    @property
    def subjects(self) -> list[tuple[str, str]]:
        return [(one["commonLabels"]["member"], one["status"]) for one in self.taken]


class Stage:
    """A suite with its topics, and services that tell its receivers."""

    def __init__(self, broker: Broker, valkey: Any) -> None:
        self.suite = parse_suite(f'name = "w{uuid.uuid4().hex[:8]}"\n')
        self.broker, self.valkey = broker, valkey
        patience = int(broker.env.get("CHORUS_KAFKA__PATIENCE", "0"))
        self.kafka = Kafka(
            bootstrap_servers=broker.bootstrap_servers, patience=patience,
            session_timeout=2000 if patience else 6000, fetch_max_wait=20, partitions=1,
        )  # fmt: skip
        self.metrics = Metrics()
        self.services: list[Receiver] = []
        self.sent: list[dict[str, Any]] = []

    def settings(self) -> Settings:
        alerts = Alerts(retry_first=20, retry_longest=100, timeout=5000)
        return Settings(kafka=self.kafka, redis=Redis(url=SecretStr(self.valkey.url)), alerts=alerts)

    async def start(self, hook: Hook, name: str = "pager", **more: Any) -> Receiver:
        webhook = Webhook.model_validate(
            {"name": name, "url": f"http://127.0.0.1:{hook.port}/hook", "secret": "s3cret", **more}
        )
        service = Receiver(
            self.suite.name, self.settings(), webhook, self.metrics.evaluator, self.send_letter
        )
        await service.start()
        self.services.append(service)
        return service

    async def stop(self, service: Receiver) -> None:
        self.services.remove(service)
        await service.stop()

    async def send(self, *events: dict[str, Any]) -> None:
        for one in events:
            value = json.dumps(one).encode()
            await self.producer.send_and_wait(Topics(self.suite.name).alerts, value, key=b"k")
            self.sent.append(one)

    async def send_letter(self, record: Any, error: Any) -> None:
        key, value = dead_letter(record, error, "test")
        await self.producer.send_and_wait(Topics(self.suite.name).dead_letters, value, key=key)

    def outcomes(self, name: str = "pager") -> dict[str, float]:
        counter = self.metrics.evaluator.webhook_deliveries
        return {
            sample.labels["outcome"]: sample.value
            for metric in counter.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.labels["receiver"] == name
        }

    producer: AIOKafkaProducer


@asynccontextmanager
async def staged(broker: Broker, valkey: Any):
    """A stage and two hooks that are up; everything is stopped behind it."""
    stage, hooks = Stage(broker, valkey), [await Hook().up(), await Hook().up()]
    await create_topics(stage.suite, stage.kafka)
    stage.producer = make_producer(stage.kafka)
    await stage.producer.start()
    try:
        yield stage, *hooks
    finally:
        for service in list(stage.services):
            await stage.stop(service)
        await stage.producer.stop()
        for hook in hooks:
            await hook.down()


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def noted(ask: Callable[[], Any], wanted: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while await ask() != wanted:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def conditions(n: int, first: int = 0) -> list[dict[str, Any]]:
    return [event(subject=f"m{i}@1", at=i) for i in range(first, first + n)]


def fired(n: int, first: int = 0) -> list[tuple[str, str]]:
    return [(f"m{i}@1", "firing") for i in range(first, first + n)]


def test_a_receiver_that_is_down_loses_nothing(broker, valkey):
    """Down, then 500 and 429, then up: everything arrives once, in order; another one waits for nobody."""

    async def scenario():
        async with staged(broker, valkey) as (stage, hook, other):
            await hook.down()
            both = [await stage.start(hook), await stage.start(other, "other", types=["member.*"])]
            await until(lambda: all(service.ready for service in both))
            await stage.send(*conditions(3), event(subject="m1@1", status="resolved", at=9))
            await until(lambda: len(other.taken) == 4)
            await until(lambda: stage.outcomes().get("retried", 0) > 1)
            assert hook.taken == []
            await stage.send(event(COMPLETED, "n@1", None, at=10), *conditions(1, 3))
            await until(lambda: len(other.taken) == 5)  # a notice of a deployment is not for it
            hook.answers = {"m0@1": [500, 429], "m1@1": [408, 503]}
            await hook.up()
            await until(lambda: len(hook.taken) == 6)
            ended = [("m1@1", "resolved")]
            assert hook.subjects == [*fired(3), *ended, ("n@1", "firing"), *fired(1, 3)]
            assert other.subjects == [*fired(3), *ended, *fired(1, 3)]
            assert hook.ids == [one["id"] for one in stage.sent]
            assert stage.outcomes()["delivered"] == 6
            pending = stage.metrics.evaluator.webhook_pending.labels("pager")
            await until(lambda: pending._value.get() == 0)

    asyncio.run(scenario())


def test_after_a_restart_nothing_is_told_twice_and_nothing_is_lost(broker, valkey):
    """Stopped while it posts, with events that come meanwhile; ids that come again are not told again."""

    async def scenario():
        async with staged(broker, valkey) as (stage, hook, _):
            first = await stage.start(hook)
            await until(lambda: first.ready)
            await stage.send(*conditions(3))
            await until(lambda: len(hook.taken) == 3)
            hook.hang = True
            await stage.send(*conditions(1, 3))
            await until(lambda: len(hook.posts) == 4)
            await stage.stop(first)
            hook.hang = False
            await stage.send(
                *conditions(3), *conditions(2, 4), event(subject="m0@1", status="resolved", at=99)
            )
            await stage.start(hook)
            await until(lambda: len(hook.taken) == 7)
            assert hook.subjects == [*fired(6), ("m0@1", "resolved")]
            assert len(set(hook.ids)) == len(hook.ids)
            last = hook.taken[-1]["alerts"][0]
            assert (last["startsAt"], last["endsAt"]) == ("2026-03-01T12:00:00Z", "2026-03-01T12:01:39Z")

    asyncio.run(scenario())


@pytest.mark.kafka
def test_what_redis_forgot_is_read_from_the_topic(kafka, valkey):
    """With Redis wiped, also while it runs, the end of a condition is told, and no beginning again."""

    async def scenario():
        async with staged(kafka, valkey) as (stage, hook, _):
            client = redis_client(stage.settings().redis)
            keys = webhook_keys(stage.suite.name, "pager")
            service = await stage.start(hook)
            await until(lambda: service.ready)
            await stage.send(*conditions(2))
            await until(lambda: len(hook.taken) == 2)
            await client.delete(*keys)
            await stage.send(*conditions(1, 2))
            await until(lambda: len(hook.taken) == 3)
            await stage.stop(service)
            assert await client.hlen(keys[0]) == 5  # through, told, and all three conditions
            await client.delete(*keys)
            await stage.start(hook)
            await stage.send(
                *conditions(3), *(event(subject=f"m{i}@1", status="resolved", at=9) for i in (0, 2))
            )
            await until(lambda: len(hook.taken) == 5)
            assert hook.subjects == [*fired(3), ("m0@1", "resolved"), ("m2@1", "resolved")]
            await noted(lambda: client.hlen(keys[0]), 3)  # through, told, and the one that still fires
            await stage.stop(stage.services[0])
            await stage.start(hook)
            await stage.send(event(subject="m1@1", status="resolved", at=10))
            await until(lambda: len(hook.taken) == 6)
            await client.aclose()

    asyncio.run(scenario())


def test_a_new_receiver_is_told_what_fires_now(broker, valkey):
    """Not what has ended, nor notices of the past; then it goes on with what comes."""

    async def scenario():
        async with staged(broker, valkey) as (stage, hook, _):
            await stage.send(
                *conditions(3), event(COMPLETED, "n@1", None), event(subject="m1@1", status="resolved", at=5)
            )
            await stage.start(hook)
            await until(lambda: len(hook.taken) == 2)
            await stage.send(*conditions(1, 7), event(subject="m0@1", status="resolved", at=6))
            await until(lambda: len(hook.taken) == 4)
            assert hook.subjects == [
                ("m0@1", "firing"),
                ("m2@1", "firing"),
                *fired(1, 7),
                ("m0@1", "resolved"),
            ]

    asyncio.run(scenario())


def test_what_is_refused_goes_to_dead_letters(broker, valkey):
    """400 is final: the event is kept with the answer, the next one is told; so is one that is no event."""

    async def scenario():
        async with staged(broker, valkey) as (stage, hook, _):
            hook.answers = {"m1@1": [400]}
            service = await stage.start(hook)
            await until(lambda: service.ready)
            await stage.send(*conditions(2))
            await stage.producer.send_and_wait(Topics(stage.suite.name).alerts, b"{", key=b"k")
            await stage.send(event(subject="m1@1", status="resolved", at=5), *conditions(1, 2))
            await until(lambda: len(hook.taken) == 2)
            assert hook.subjects == [("m0@1", "firing"), ("m2@1", "firing")]
            topic = Topics(stage.suite.name).dead_letters
            letters = await read_topic(broker.bootstrap_servers, topic, lambda raw: range(len(raw), 2))
            refused, broken = (json.loads(raw.value) for raw in sorted(letters, key=lambda raw: raw.offset))
            assert refused["reason"] == "webhook_refused"
            assert refused["detail"] == "receiver pager: 400 no such key"
            assert refused["origin"]["topic"] == Topics(stage.suite.name).alerts
            assert (broken["reason"], broken["origin"]["offset"]) == ("malformed", 2)
            assert stage.outcomes() == {"delivered": 2, "refused": 1, "skipped": 1}

    asyncio.run(scenario())


def test_an_end_that_was_refused_hides_no_beginning(embedded_broker, valkey):
    """For the receiver the condition is over: the next time it begins is told; so after a restart."""

    async def scenario():
        async with staged(embedded_broker, valkey) as (stage, hook, _):
            service = await stage.start(hook)
            await until(lambda: service.ready)
            await stage.send(*conditions(2))
            await until(lambda: len(hook.taken) == 2)
            hook.answers = {"m0@1": [400], "m1@1": [400]}
            await stage.send(*(event(subject=f"m{i}@1", status="resolved", at=5) for i in range(2)))
            await until(lambda: stage.outcomes().get("refused") == 2)
            await stage.send(event(subject="m0@1", at=9))
            await until(lambda: len(hook.taken) == 3)
            await stage.stop(service)
            await stage.send(event(subject="m1@1", at=9))
            await stage.start(hook)
            await until(lambda: len(hook.taken) == 4)
            assert hook.subjects == [*fired(2), *fired(2)]
            assert hook.taken[2]["alerts"][0]["startsAt"] == "2026-03-01T12:00:09Z"

    asyncio.run(scenario())


def test_a_beginning_that_was_refused_is_not_taken_for_told(embedded_broker, valkey):
    """Its end says nothing to a receiver that never knew; an update that was refused leaves what it knows."""

    async def scenario():
        async with staged(embedded_broker, valkey) as (stage, hook, _):
            hook.answers = {"m0@1": [400]}
            service = await stage.start(hook)
            await until(lambda: service.ready)
            await stage.send(event(subject="m0@1"), event(subject="m0@1", status="resolved", at=1))
            await stage.send(event(subject="m1@1", x=1))
            await until(lambda: len(hook.taken) == 1)
            hook.answers = {"m1@1": [400]}
            await stage.send(event(subject="m1@1", x=2), event(subject="m1@1", status="resolved", at=3))
            await until(lambda: len(hook.taken) == 2)
            assert hook.subjects == [("m1@1", "firing"), ("m1@1", "resolved")]
            assert stage.outcomes() == {"delivered": 2, "refused": 2, "skipped": 1}

    asyncio.run(scenario())


@pytest.mark.kafka
def test_of_several_evaluators_one_tells(kafka, valkey):
    """Two have the same receiver: each event is told once, also after one of them has gone."""

    async def scenario():
        async with staged(kafka, valkey) as (stage, hook, _):
            first, second = await stage.start(hook), await stage.start(hook)
            await until(lambda: first.ready or second.ready)
            await stage.send(*conditions(4))
            await until(lambda: len(hook.taken) == 4)
            await stage.stop(first if first.ready else second)
            await stage.send(*conditions(4, 4))
            await until(lambda: len(hook.taken) == 8)
            assert hook.subjects == fired(8)
            assert len(hook.posts) == 8

    asyncio.run(scenario())


SUITE = """name = "{name}"
[[member]]
name = "m"
version = "1"
stage = "live"
owner = "o"
loader = "x:Y"
"""


def test_an_evaluator_that_is_killed_is_followed_by_another(tmp_path, embedded_broker, valkey):
    """`chorus evaluate` tells the receivers of its settings; kill -9 loses and doubles nothing."""

    def evaluator(stage: Stage, hook: Hook) -> subprocess.Popen[bytes]:
        path = tmp_path / "suite.toml"
        path.write_text(SUITE.format(name=stage.suite.name))
        hooks = [{"name": "pager", "url": f"http://127.0.0.1:{hook.port}/hook", "secret": "s3cret"}]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHORUS_")}
        env = {
            **clean, **embedded_broker.env, "CHORUS_ALERTS__WEBHOOKS": json.dumps(hooks),
            "CHORUS_BOOTSTRAP_SERVERS": embedded_broker.bootstrap_servers, "CHORUS_REDIS_URL": valkey.url,
        }  # fmt: skip
        command = [sys.executable, "-m", "evaluator.cli.main", "evaluate", "--suite", str(path)]
        return subprocess.Popen(command, env=env, stderr=(tmp_path / "log").open("ab"))

    async def scenario():
        async with staged(embedded_broker, valkey) as (stage, hook, _):
            process = evaluator(stage, hook)
            try:
                await stage.send(*conditions(3))
                await until(lambda: len(hook.taken) == 3)
                client = redis_client(stage.settings().redis)
                key = webhook_keys(stage.suite.name, "pager")[0]
                await noted(lambda: client.hget(key, "through"), b"3")
                await client.aclose()
                process.send_signal(signal.SIGKILL)
                process.wait(30)
                await stage.send(*conditions(3, 3))
                process = evaluator(stage, hook)
                await until(lambda: len(hook.taken) == 6)
                assert hook.subjects == fired(6)
                assert len(set(hook.ids)) == 6
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 30) == 0
            finally:
                process.kill()

    asyncio.run(scenario())


@pytest.mark.parametrize("clustered", [False, True])
def test_what_was_told_is_remembered(request, clustered):
    """On Redis and on a cluster; what Redis lost is written anew, whole."""
    from evaluator.alerting import memory as module
    from tests.evaluator.alerting.alerts import alert

    server = request.getfixturevalue("valkey_cluster" if clustered else "valkey")

    async def scenario():
        client = redis_client(Redis(url=SecretStr(server.url), cluster=clustered))
        name = uuid.uuid4().hex
        one = module.Memory(client, name, "r")
        known, through = await one.load()
        assert (known.firing, known.ids, through) == ({}, {}, None)
        alerts = [alert(subject=f"m{i}") for i in range(3)]
        for i, each in enumerate(alerts):
            known.told(each)
            await one.save(known, i + 1, [each.id], {each.fingerprint})
        again, through = await module.Memory(client, name, "r").load()
        assert (again.firing, list(again.ids), through) == (known.firing, list(known.ids), 3)
        await client.delete(webhook_keys(name, "r")[0])
        ended = alert(subject="m1", status="resolved")
        known.told(ended)
        await one.save(known, 4, [ended.id], {ended.fingerprint})
        again, through = await module.Memory(client, name, "r").load()
        assert (again.firing, through) == (known.firing, 4)
        assert set(again.ids) == set(known.ids)
        assert len(again.firing) == 2
        await client.aclose()

    asyncio.run(scenario())
