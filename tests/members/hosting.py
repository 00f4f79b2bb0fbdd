"""A suite on a broker, hosts in this process, and what they left in the log."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from aiokafka.structs import TopicPartition

from members.holdout import chance
from members.host import HostService
from streams.connect import make_consumer, make_producer, ping_broker, until_available
from streams.records import SUITE, Votes
from streams.settings import Host, Kafka, Settings
from streams.suite import Suite, parse_suite
from streams.topics import Topics, create_topics
from streams.votes import decode, hit_members


class Windy:
    """Flags what is windy; without wind it abstains."""

    needs: ClassVar[dict[str, type]] = {"wind": float}

    def vote(self, batch: Any) -> Any:
        return batch["wind"] > 0.5


class Broken:
    """Fails whatever it is asked."""

    def vote(self, batch: Any) -> Any:
        raise RuntimeError("no idea")


MEMBER = '[[member]]\nname = "{}"\nversion = "1"\nstage = "{}"\nowner = "o"\nloader = "a:b"\n'
T0 = 1_600_000_000_000


def suite(name: str, live: int = 2, shadow: int = 0, holdout: float = 0.0) -> Suite:
    """A suite whose name no other has, since the broker may be one that others use."""
    return named(f"{name}{secrets.token_hex(3)}", live, shadow, holdout)


def named(name: str, live: int = 2, shadow: int = 0, holdout: float = 0.0) -> Suite:
    text = f'name = "{name}"\nsegments = ["c"]\nholdout = {holdout}\n'
    text += '[features]\nwind = "float"\nc = "category"\n'
    text += "".join(MEMBER.format(f"live{i}", "live") for i in range(live))
    return parse_suite(text + "".join(MEMBER.format(f"shadow{i}", "shadow") for i in range(shadow)))


def settings(servers: str, **host: Any) -> Settings:
    kafka = Kafka(bootstrap_servers=servers, session_timeout=2000, fetch_max_wait=20, partitions=2)
    return Settings(kafka=kafka, host=Host(**{"idle_after": 300, "commit_every": 50, "batch": 100, **host}))


class RandomPanel:
    """Members that answer differently each time they are asked."""

    def __init__(self, k: int) -> None:
        self._k, self._rng = k, np.random.default_rng()

    async def load(self) -> None: ...

    async def close(self) -> None: ...

    async def vote(self, batch: Any) -> Any:
        shape = (self._k, len(batch))
        return SimpleNamespace(
            true=self._rng.random(shape) < 0.3,
            abstain=self._rng.random(shape) < 0.1,
            failed=np.zeros(self._k, dtype=np.bool_),
        )


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


class World:
    """One suite on one broker."""

    def __init__(self, servers: str, suite: Suite, **host: Any) -> None:
        self.suite, self.settings, self.topics = suite, settings(servers, **host), Topics(suite.name)
        self.hosts: list[HostService] = []
        self.sent = [0, 0]

    async def __aenter__(self) -> World:
        await until_available(lambda: ping_broker(self.settings.kafka))
        await create_topics(self.suite, self.settings.kafka)
        self.producer = make_producer(self.settings.kafka)
        await self.producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*(host.stop() for host in self.hosts))
        await self.producer.stop()

    async def send(self, n: int, partition: int | None = None, value: bytes | None = None) -> None:
        """n requests over both partitions, or `value` n times."""
        waits = []
        for i in range(n):
            p = i % 2 if partition is None else partition
            name = f"{p}-{self.sent[p]}"
            request = {
                "request_id": name,
                "timestamp": T0 + i * 1000,
                "features": {"wind": i / n, "c": "AB"[i % 2]},
            }
            waits.append(
                await self.producer.send(
                    self.topics.requests, value or json.dumps(request).encode(), partition=p
                )
            )
            self.sent[p] += 1
        await asyncio.gather(*waits)

    async def host(self, stage: Any = "live", wait: bool = True, real: bool = False) -> HostService:
        members = self.suite.live if stage == "live" else self.suite.shadow
        name = f"host-{len(self.hosts)}"
        host = HostService(
            self.suite,
            self.settings,
            stage=stage,
            members=members,
            name=name,
            panel=None if real else RandomPanel(len(members)),
        )
        self.hosts.append(host)
        await host.start()
        if wait:
            await until(lambda: host.ready)
        return host

    @property
    def transactional(self) -> bool:
        """Whether every live host of this world writes in transactions."""
        live = [host for host in self.hosts if host.stage == "live"]
        return bool(live) and all(host._transactions is not None for host in live)

    def positions(self) -> list[int]:
        """Per partition up to where a running host has answered."""
        done = [0, 0]
        for host in self.hosts:
            if not host.should_stop:
                for owned in host._owned.values():
                    done[owned.partition] = max(done[owned.partition], owned.done)
        return done

    async def answered(self) -> None:
        await until(lambda: self.positions() == self.sent)

    async def read(self, topic: str) -> list[Any]:
        """All records of a topic: until a marker that is written now comes back on every partition."""
        marker = b"end " + secrets.token_bytes(8)  # one of an earlier look ends nothing
        consumer = make_consumer(self.settings.kafka)
        await consumer.start()
        places = [TopicPartition(topic, i) for i in sorted(await self.producer.partitions_for(topic))]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
            await self.producer.send_and_wait(topic, b"end", key=marker, partition=place.partition)
        records, ended = [], set()
        while len(ended) < len(places):
            for place, batch in (await consumer.getmany(timeout_ms=200)).items():
                ended |= {place for record in batch if record.key == marker}
                records += [record for record in batch if not (record.key or b"").startswith(b"end ")]
        await consumer.stop()
        return records

    async def votes(self) -> list[Votes]:
        return [decode(record.value) for record in await self.read(self.topics.votes)]

    async def decisions(self) -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in await self.read(self.topics.decisions)]


def first_votes(votes: list[Votes], stage: str = "live") -> dict[tuple[int, int], list[str]]:
    """(partition, offset) → who voted True there, as the first record that covers it says."""
    out: dict[tuple[int, int], list[str]] = {}
    for record in votes:
        if record.stage == stage:
            hits = dict(zip(record.hits, hit_members(record), strict=True))
            for i in range(record.end - record.start):
                out.setdefault((record.partition, record.start + i), hits.get(i, []))
    return out


def check_decisions(world: World, decisions: list[dict[str, Any]], votes: list[Votes], bad: int = 0) -> None:
    """Every usable request is decided, and every decision is what the first votes record says.

    With transactions each is decided once, and no position is voted on twice.
    """
    first, share = first_votes(votes), world.suite.holdout
    assert len(first) == sum(world.sent)
    for decision in decisions:
        named = first[decision["partition"], decision["offset"]]
        assert decision["fired"] == [name for name in named if name != SUITE]
        fired, held = bool(decision["fired"]), decision["held_out"]
        assert held == (fired and chance(decision["request_id"]) < share)
        assert decision["judgement"] == (SUITE in named) == (fired and not held)
        assert decision["probability"] == (share if fired else 0.0)
    assert len({decision["request_id"] for decision in decisions}) == sum(world.sent) - bad
    if world.transactional:
        assert len(decisions) == sum(world.sent) - bad
        assert sum(record.end - record.start for record in votes if record.stage == "live") == len(first)
