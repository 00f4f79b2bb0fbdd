"""Reviews from end to end: asked once, within the budget, answered by ordinary labels."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from rich.console import Console

from evaluator import service as service_module
from evaluator.cli.reviews import reviews_table
from evaluator.history import History
from evaluator.reviewer import Reviewer, read_asked, read_reviews, review_event
from evaluator.reviewing import Asking, Request
from evaluator.service import EvaluatorService
from evaluator.status import status_of
from evaluator.store import Store, ensure_meta, layout_of
from streams.connect import make_producer, redis_client
from streams.records import Votes
from streams.settings import Kafka, Redis, Reviews, Settings
from streams.suite import Suite, parse_suite
from streams.topics import create_topics
from tests.e2e.clients import read_topic

HOUR, DAY, BUCKET = 3_600_000, 86_400_000, 300_000
START = 20_000 * DAY  # event time; the wall clock of these tests is another
N = 300


def make_suite(name: str | None = None) -> Suite:
    members = "".join(
        f'[[member]]\nname = "{name}"\nversion = "1"\nstage = "{stage}"\nowner = "o"\nloader = "x:Y"\n'
        for name, stage in (("a", "live"), ("b", "shadow"))
    )
    return parse_suite(f'name = "{name or "r" + uuid.uuid4().hex[:8]}"\n{members}')


def make_votes() -> list[Votes]:
    """300 requests of three hours: `a` flags every second one, `b` every third, half of them alone."""
    times = [START + i * 36_000 for i in range(N)]
    out = []
    for stage, members, flags in (
        ("live", ["*", "a@1"], lambda i: 3 if i % 2 == 0 else 0),
        ("shadow", ["b@1"], lambda i: 1 if i % 6 < 1 or i % 6 == 3 else 0),
    ):
        hits = [i for i in range(N) if flags(i)]
        runs = [x for t in times for x in (1, t - t % BUCKET, 0)]
        out.append(
            Votes(
                1, stage, "h", 0, 1, 0, N, 1, BUCKET, members, [[]], runs, [[] for _ in members],
                hits, [f"n{i}" for i in hits], [times[i] for i in hits],
                bytes(flags(i) for i in hits), bytes(len(hits)), times[-1] + 1,
            )
        )  # fmt: skip
    return out


def make_settings(valkey: Any, servers: str = "localhost:1", per_hour: int = 6, **more: Any) -> Settings:
    return Settings(
        kafka=Kafka(bootstrap_servers=servers, partitions=1, patience=1000, session_timeout=2000),
        redis=Redis(url=SecretStr(valkey.url), **more),
        reviews=Reviews(per_hour=per_hour),
    )


def test_the_example_of_the_docs_is_what_is_sent():
    """Every field of the event, its id too."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json review\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    request = Request("r-104", 1772366604000, ("squall@1",))
    asking = Asking(request, "squall@1", 0.0125, "pending: squall@1")
    assert review_event("storms", asking, 1772389800000) == json.loads(example)


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return found


async def total(suite: Suite, settings: Settings, now: int = 0) -> dict[str, Any]:
    return (await read_reviews(suite, settings, now))["total"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_LOOK", 0.1)


@pytest.mark.usefixtures("quick")
def test_what_is_asked_is_answered_by_labels(valkey, embedded_broker):
    """Two evaluators ask six times within an hour, each request once; the next hour goes on."""

    async def scenario():
        suite = make_suite()
        settings = make_settings(valkey, embedded_broker.bootstrap_servers)
        await create_topics(suite, settings.kafka)
        producer = make_producer(settings.kafka)
        await producer.start()
        clock = [100 * 3600.0 + 59 * 60]  # the last minute of an hour: all of it is due
        services = [EvaluatorService(suite, settings, name=f"e{i}") for i in range(2)]
        for service in services:
            service.reviewer.clock = lambda: clock[0]
            await service.start()
        try:
            for votes in make_votes():
                await producer.send_and_wait(f"{suite.name}.votes", msgspec.msgpack.encode(votes), key=b"0")

            async def asked(n: int) -> Any:
                return (await total(suite, settings))["asked"] == n

            await until(lambda: asked(6))
            topic = f"{suite.name}.reviews"
            there = await read_topic(embedded_broker.bootstrap_servers, topic, lambda raw: range(len(raw), 6))
            events = [json.loads(raw.value) for raw in there]
            assert len({event["subject"] for event in events}) == len(events) == 6
            for event in events:
                assert event["type"] == "chorus.review.requested"
                assert event["data"]["request_id"] == event["subject"]
                assert 0 < event["data"]["probability"] <= 1
                assert event["data"]["suite"] == suite.name
            for i, event in enumerate(events):
                label = {
                    "request_id": event["subject"],
                    "label": i < 2,
                    "labelled_at": event["data"]["event_time"] + HOUR,
                    "requested_at": event["data"]["event_time"],
                    "source": "review",
                }
                await producer.send_and_wait(f"{suite.name}.labels", json.dumps(label).encode())

            async def answered() -> Any:
                return (await total(suite, settings))["answered"] == 6

            await until(answered)
            document = await read_reviews(suite, settings, 0)
            assert document["total"]["positive"] == 2
            assert document["total"]["pending"] == 0
            assert document["total"]["oldest_pending_age"] is None
            assert sum(row["asked"] for row in document["classes"]) == 6
            assert {event["data"]["class"] for event in events} == {r["class"] for r in document["classes"]}
            clock[0] += 60.0  # the first minute of the next hour
            await until(lambda: asked(7))
            now = int(clock[0] * 1000) + 5
            last = await total(suite, settings, now)
            assert (last["answered"], last["pending"], last["oldest_pending_age"]) == (6, 1, 5)
        finally:
            for service in services:
                await service.stop()
            await producer.stop()

    asyncio.run(scenario())


async def filled(suite: Suite, settings: Settings) -> tuple[Store, History, dict[str, Any]]:
    """A store that has folded the votes, without a broker."""
    from evaluator.fold import fold_votes

    client = redis_client(settings.redis)
    store = Store(client, suite.name, layout_of(suite, settings.redis.shards))
    await ensure_meta(client, suite.name, store.layout)
    run = list(enumerate(make_votes()))
    for shard in store.shards:
        state = await store.load(shard, "votes:0")
        update, _ = fold_votes(state, shard, "votes:0", run, 0, 2, store.layout)
        assert await store.apply(shard, update) is None
    history = History(client, suite.name)
    await history.refresh()
    return store, history, status_of(suite, history, settings.host.leap)


def reviewers(
    count: int, suite: Suite, settings: Settings, store: Store, history: History, clock: list[float]
) -> tuple[list[Reviewer], list[bytes]]:
    sent: list[bytes] = []

    async def send(key: bytes, _: bytes) -> None:
        sent.append(key)

    return [
        Reviewer(suite, settings, store, history, send, clock=lambda: clock[0]) for _ in range(count)
    ], sent


@pytest.mark.parametrize("clustered", [False, True])
def test_several_evaluators_share_one_budget(request, clustered):
    """Five at once, for two hours: the budget of each hour is spent and never more, no request twice."""

    async def scenario():
        server = request.getfixturevalue("valkey_cluster" if clustered else "valkey")
        more = {"cluster": True, "shards": 3} if clustered else {}
        suite, settings = make_suite(), make_settings(server, per_hour=20, **more)
        store, history, status = await filled(suite, settings)
        clock = [0.0]
        several, sent = reviewers(5, suite, settings, store, history, clock)
        for minute in range(120):
            clock[0] = 7 * 3600.0 + minute * 60
            await asyncio.gather(*(one.ask(status) for one in several))
            if minute % 60 == 59:
                assert len(sent) == 20 * (minute // 60 + 1)
        assert len(set(sent)) == 40
        asked = await read_asked(store, history)
        assert {one.id.encode() for one in asked} == set(sent)
        assert {one.class_name for one in asked} == {"suite", "b@1"}
        assert all(one.label is None and one.names for one in asked)
        await store.client.aclose()

    asyncio.run(scenario())


def test_nobody_is_asked_twice_even_when_all_have_been(valkey):
    """A budget larger than the traffic: each flagged request once; what is not used is not spent."""

    async def scenario():
        suite, settings = make_suite(), make_settings(valkey, per_hour=10_000)
        store, history, status = await filled(suite, settings)
        clock = [59 * 60.0]
        (one,), sent = reviewers(1, suite, settings, store, history, clock)
        assert await one.ask(status) == 200  # 150 by `a`, 50 by `b` alone
        clock[0] += 60
        assert await one.ask(status) == 0
        assert len(set(sent)) == len(sent) == 200
        spent = await store.client.hget(f"chorus:{{{suite.name}}}:reviews:0", "spent")
        assert int(spent) == 200
        await store.wipe()  # a rebuild does not forget what was asked, only the expiry of its time does
        assert (await total(suite, settings))["asked"] == 200
        await store.expire(0, START // DAY + 1)
        assert (await total(suite, settings))["asked"] == 0
        await store.client.aclose()

    asyncio.run(scenario())


def test_off_by_default(valkey):
    """Without a budget nothing is asked, and nothing is written."""
    assert Settings().reviews.per_hour == 0

    async def scenario():
        suite, settings = make_suite(), make_settings(valkey, per_hour=0)
        store, history, status = await filled(suite, settings)
        (one,), sent = reviewers(1, suite, settings, store, history, [59 * 60.0])
        assert await one.ask(status) == 0
        assert sent == []
        assert await store.client.keys(f"chorus:{{{suite.name}*}}:reviews*") == []
        assert await read_reviews(suite, settings, 0) == {
            "schema": 1,
            "suite": suite.name,
            "total": {
                "asked": 0, "answered": 0, "positive": 0, "pending": 0,
                "last_asked": None, "oldest_pending": None, "oldest_pending_age": None,
            },
            "classes": [],
        }  # fmt: skip
        await store.client.aclose()

    asyncio.run(scenario())


def test_the_table_names_every_class_and_the_total():
    """What was asked and answered, as a person reads it."""
    row = {"asked": 12, "answered": 9, "positive": 4, "pending": 3, "oldest_pending_age": 5_430_000}
    rest = {"asked": 1, "answered": 1, "positive": 0, "pending": 0, "oldest_pending_age": None}
    document = {"suite": "storms", "classes": [{"class": "bee@2", **row}, {"class": "suite", **rest}]}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(reviews_table({**document, "total": {**row, "asked": 13}}))
    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["bee@2", "12", "9", "4", "3", "1h30m"] in lines
    assert ["suite", "1", "1", "0", "0"] in lines
    assert ["total", "13", "9", "4", "3", "1h30m"] in lines
