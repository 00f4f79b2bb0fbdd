"""Examples from end to end: what only one member got wrong comes back, with its features."""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition
from pydantic import SecretStr
from rich.console import Console

from evaluator.cli.examples import document, nothing, one_of, read, show, write_jsonl
from evaluator.examples import requests_log
from evaluator.examples.requests_log import RequestsLog
from evaluator.examples.sampling import Hit
from evaluator.rebuild import rebuild
from evaluator.service import EvaluatorService
from evaluator.store import Store, layout_of
from streams.connect import admin_client, make_producer, redis_client
from streams.errors import ConfigError
from streams.records import SUITE, Votes
from streams.settings import Examples, Host, Kafka, Redis, Settings
from streams.suite import Suite, parse_suite
from streams.topics import create_topics
from tests.evaluator.test_cli import chorus

HOUR, DAY, BUCKET = 3_600_000, 86_400_000, 300_000
START = 20_000 * DAY
N = 120  # requests, even ones on partition 0, odd ones on partition 1
HOSTS = [("live", [SUITE, "a@1", "b@1"]), ("shadow", ["c@1"])]


def flags(i: int) -> set[str]:
    """Who flags request i: three in ten `a` alone, one both live members, four `c`, one of these with `a`."""
    return {0: {"a@1"}, 1: {"a@1"}, 2: {"a@1", "c@1"}, 3: {"a@1", "b@1"}, 4: {"b@1"}}.get(
        i % 10, {"c@1"} if i % 10 < 8 else set()
    )


def label(i: int) -> bool | None:
    """Two of three are labelled, and half of these positive."""
    return None if i % 3 == 2 else i % 4 < 2


TEXT = 'name = "{name}"\nsegments = ["region"]\n[features]\nwind = "float"\ncard = "text"\n' + "".join(
    f'[[member]]\nname = "{name}"\nversion = "1"\nstage = "{stage}"\nowner = "o"\nloader = "x:Y"\n'
    for name, stage in (("a", "live"), ("b", "live"), ("c", "shadow"))
)


def make_suite() -> Suite:
    return parse_suite(TEXT.format(name=f"x{uuid.uuid4().hex[:8]}"))


def make_settings(valkey: Any, broker: Any, **more: Any) -> Settings:
    kafka = Kafka(
        bootstrap_servers=broker.bootstrap_servers,
        partitions=2,
        session_timeout=2000,
        patience=1000 if broker.kind == "embedded" else 0,
    )
    redis = Redis(url=SecretStr(valkey.url), shards=more.pop("shards", 1))
    return Settings(kafka=kafka, redis=redis, host=Host(idle_after=300), examples=Examples(**more))


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.1)
    return found


def request(i: int) -> dict[str, Any]:
    return {
        "request_id": f"r{i}",
        "timestamp": START + i * 60_000,
        "features": {"wind": i / N, "card": "secret", "note": "n" * i},
        "region": "ns"[i % 2],
    }


def make_votes(stage: str, members: list[str], partition: int, last: int) -> Votes:
    """One record over the requests of a partition, as the hosts write them."""
    mine = [i for i in range(N) if i % 2 == partition]
    times = [START + i * 60_000 for i in mine]
    masks = []
    for i in mine:
        bits = sum(1 << k for k, name in enumerate(members) if name in flags(i))
        masks.append(bits | (1 if stage == "live" and bits else 0))
    hits = [at for at, mask in enumerate(masks) if mask]
    return Votes(
        1, stage, "h", partition, 2, 0, len(mine), 1, BUCKET, members, [[""]],
        [x for t in times for x in (1, t - t % BUCKET, 0)], [[] for _ in members], hits,
        [f"r{mine[at]}" for at in hits], [times[at] for at in hits],
        bytes(masks[at] for at in hits), bytes(len(hits)), last,
    )  # fmt: skip


class World:
    """A suite with its topics, and what stands in them."""

    def __init__(self, suite: Suite, settings: Settings) -> None:
        self.suite, self.settings = suite, settings
        self.redis = redis_client(settings.redis)
        self.store = Store(self.redis, suite.name, layout_of(suite, settings.redis.shards))

    async def __aenter__(self) -> World:
        await create_topics(self.suite, self.settings.kafka)
        self.producer = make_producer(self.settings.kafka)
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()
        await self.redis.aclose()

    async def send(self, topic: str, value: bytes, partition: int) -> None:
        """Put it on its way; `flush` waits for it."""
        await self.producer.send(f"{self.suite.name}.{topic}", value, partition=partition)

    async def send_requests(self) -> None:
        for i in range(N):
            await self.send("requests", json.dumps(request(i)).encode(), i % 2)
        await self.producer.flush()

    async def fill(self) -> None:
        await self.send_requests()
        for stage, members in HOSTS:
            for p in range(2):
                record = make_votes(stage, members, p, START + N * 60_000)
                await self.send("votes", msgspec.msgpack.encode(record), p)
        for i in range(N):
            if label(i) is not None:
                await self.label(i, label(i))
        await self.producer.flush()

    async def label(self, i: int, value: bool | None, revision: int = 0) -> None:
        at = START + i * 60_000
        body = {"request_id": f"r{i}", "label": value, "labelled_at": at + HOUR, "requested_at": at}
        await self.send("labels", json.dumps({**body, "revision": revision}).encode(), i % 2)

    async def ids(self, name: str, wanted: Any) -> set[str]:
        """Request ids of the examples that have their features, or no longer can."""
        member, kept = await read(self.suite, self.settings, name)
        rows = document(self.suite, member, kept or [], wanted, 0)["examples"]
        return {row["request_id"] for row in rows if row["features"] is not None or row["gone"]}

    async def dump(self) -> dict[str, Any]:
        """All samples and features as they stand."""
        out: dict[str, Any] = {}
        for shard in self.store.shards:
            prefix = self.store.prefix(shard)
            for generation in await self.redis.hkeys(prefix + "sampled"):
                at = prefix + "f:" + generation.decode()
                out[at] = await self.redis.hgetall(at)
                for member in await self.redis.smembers(f"{prefix}s:{generation.decode()}"):
                    key = f"{prefix}s:{generation.decode()}:{member.decode()}"
                    out[key] = await self.redis.zrange(key, 0, -1, withscores=True)
        return out


def alone(name: str, outcome: bool | None) -> set[str]:
    """By definition: flagged by this member, by no other live one, and labelled so."""
    others = {"a@1", "b@1"} - {name}
    return {f"r{i}" for i in range(N) if name in flags(i) and not flags(i) & others and label(i) is outcome}


def test_what_only_one_member_got_wrong_comes_back(valkey, broker, tmp_path):
    """Exactly these, with features; revised labels move them; a restart and a rebuild change nothing."""

    async def scenario() -> None:
        suite = make_suite()
        settings = make_settings(valkey, broker, per_day=1000, omit="card", shards=2)
        async with World(suite, settings) as world:
            assert await read(suite, settings, "a") == ("a@1", None)
            await world.fill()
            service = EvaluatorService(suite, settings)
            await service.start()
            for name in ("a@1", "b@1", "c@1"):
                for outcome, wanted in ((False, "false"), (True, "true"), (None, "unlabelled")):
                    want = alone(name, outcome)
                    assert want
                    await until(lambda w=want, n=name, o=wanted: _is(world.ids(n, o), w))
            member, kept = await read(suite, settings, "a")
            rows = document(suite, member, kept or [], "false", 0)["examples"]
            for row in rows:
                sent = request(int(row["request_id"][1:]))
                assert row["time"] == sent["timestamp"]
                assert row["features"] == {"wind": sent["features"]["wind"], "note": sent["features"]["note"]}
                assert row["segments"] == {"region": sent["region"]}
                assert row["fired"] == sorted(flags(int(row["request_id"][1:])))
                assert (row["label"], row["member"], row["suite_revision"]) == (False, "a@1", 1)
            assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)

            write_jsonl(rows, str(tmp_path / "a.jsonl"))
            lines = (tmp_path / "a.jsonl").read_text().splitlines()
            assert [json.loads(line) for line in lines] == rows
            out = io.StringIO()
            show(document(suite, member, kept or [], "false", 3), Console(file=out, width=200))
            assert rows[0]["request_id"] in out.getvalue()
            assert rows[3]["request_id"] not in out.getvalue()
            assert "wind" in out.getvalue()

            (tmp_path / "suite.toml").write_text(TEXT.format(name=suite.name))
            command = ["examples", "a", "--false", "--suite", str(tmp_path / "suite.toml")]
            command += ["--redis-url", valkey.url, "--jsonl", "-"]
            done = await asyncio.to_thread(chorus, *command)
            assert [json.loads(line) for line in done.stdout.splitlines()] == rows, done.stderr

            moved = int(sorted(alone("a@1", False))[0][1:])
            await world.label(moved, True, revision=1)
            await until(lambda: _is(world.ids("a", "false"), alone("a@1", False) - {f"r{moved}"}))
            assert await world.ids("a", "true") == alone("a@1", True) | {f"r{moved}"}

            # Were c live, what it shares with a would no longer be a's alone.
            live = [spec.model_copy(update={"stage": "live"}) for spec in suite.member]
            world.suite = suite.with_members(live)
            assert await world.ids("a", "false") == {
                r for r in alone("a@1", False) - {f"r{moved}"} if "c@1" not in flags(int(r[1:]))
            }
            world.suite = suite

            before = await world.dump()
            assert sum(map(len, before.values())) > N
            await service.stop()
            await world.redis.hdel(world.store.prefix(0) + "applied", "votes:0")  # its log is read once more
            service = EvaluatorService(suite, settings, name="second")
            await service.start()
            await until(lambda: _is(_positions(service, world), True))
            assert await world.dump() == before
            key = next(key for key in before if ":s:" in key and before[key])
            await world.redis.zadd(key, {Hit("bogus", START, 0, 0).pack(): 0.0})
            await rebuild(suite, settings)
            await until(lambda: _is(world.dump(), before))
            await service.stop()

    asyncio.run(scenario())


async def _is(found: Awaitable[Any], want: Any) -> bool:
    return bool(await found == want)


async def _positions(service: EvaluatorService, world: World) -> bool:
    applied = await world.redis.hget(world.store.prefix(0) + "applied", "votes:0")
    return service.ready and int(applied or 0) >= 2


def test_off_is_off(valkey, embedded_broker):
    """With per_day = 0 nothing of a request is kept, and the sentence says how to have it."""

    async def scenario() -> None:
        suite, settings = make_suite(), make_settings(valkey, embedded_broker, per_day=0)
        async with World(suite, settings) as world:
            await world.fill()
            service = EvaluatorService(suite, settings)
            await service.start()
            await until(lambda: _is(_positions(service, world), True))
            await service.stop()
            assert await world.dump() == {}
            member, kept = await read(suite, settings, "a")
            assert kept == []
            assert "CHORUS_EXAMPLES__PER_DAY" in nothing(kept, member, "false", 0)

    asyncio.run(scenario())


def test_single_requests_are_read_by_their_place(broker, valkey, monkeypatch):
    """Any offsets in any order, and never one for another; what does not answer is left out."""

    async def scenario() -> None:
        suite, settings = make_suite(), make_settings(valkey, broker)
        async with World(suite, settings) as world:
            await world.send_requests()
            log = RequestsLog(settings.kafka, f"{suite.name}.requests")
            hits = [Hit(f"r{i}", 0, i % 2, i // 2) for i in (119, 3, 0, 80, 81, 2)]
            found = await log.read(hits)
            assert {hit.id: json.loads(value or b"")["request_id"] for hit, value in found.items()} == {
                hit.id: hit.id for hit in hits
            }
            monkeypatch.setattr(requests_log, "_WAIT", 0.2)
            assert await log.read([Hit("x", 0, 7, 0)]) == {}  # a partition that there is not
            await log.close()

    asyncio.run(scenario())


def test_what_retention_has_cut_is_gone(kafka, valkey):
    """Its features are not looked for again; what is there still comes."""

    async def scenario() -> None:
        suite, settings = make_suite(), make_settings(valkey, kafka, per_day=1000)
        async with World(suite, settings) as world:
            await world.fill()
            admin = await admin_client(settings.kafka)
            await admin.delete_records(
                {TopicPartition(f"{suite.name}.requests", 0): RecordsToDelete(before_offset=30)}
            )
            await admin.close()
            service = EvaluatorService(suite, settings)
            await service.start()
            await until(lambda: _is(world.ids("a", "false"), alone("a@1", False)))
            member, kept = await read(suite, settings, "a")
            for row in document(suite, member, kept or [], "false", 0)["examples"]:
                assert row["gone"] == (row["partition"] == 0 and row["offset"] < 30)
                assert (row["features"] is None) == row["gone"]
            await service.stop()

    asyncio.run(scenario())


def test_one_label_at_a_time():
    """Several at once are refused with a sentence; what is not there says so."""
    assert one_of(True, False, False) == "false"
    assert one_of(False, False, False) is None
    with pytest.raises(ConfigError, match="--false and --unlabelled exclude each other"):
        one_of(True, False, True)
    assert nothing(None, "a@1", None, 128).startswith("nothing has been counted yet")
    assert nothing([], "a@1", None, 128) == "no request is kept yet that a@1 alone flagged"
