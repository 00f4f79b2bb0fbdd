"""The second row: updates through one Redis, against a script with one string key per record."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from aiokafka.structs import TopicPartition
from redis.asyncio import Redis as Client

from bench.hosts import cores
from bench.job import IDS, PARTITIONS, suite_text
from evaluator.partition import LABELS, VOTES, LogPartition
from evaluator.store import Store, ensure_meta, layout_of
from streams.batch import Batch
from streams.embedded.redis import EmbeddedRedis
from streams.errors import BadRecord
from streams.labels import decode_labels
from streams.light import LightRecord
from streams.metrics import Metrics
from streams.records import SUITE, Votes
from streams.requests import DecodedBatch
from streams.settings import Settings
from streams.suite import parse_suite
from streams.votes import SCHEMA, build_votes, decode, encode

N, BATCH = 100_000, 1000
T0, STEP, DELAY = 1_700_000_000_000, 300, 7_200_000
LOGGED = T0 + N * STEP + DELAY  # the timestamp that the broker gave
BASELINE = Path(__file__).with_name("baseline.lua")


class SystemRedis(EmbeddedRedis):
    """The machine's own redis-server, with the options of the embedded one."""

    def command(self) -> Sequence[str]:
        """As the embedded one, another program."""
        return [shutil.which("redis-server") or "redis-server", *list(super().command())[1:]]


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Traffic:
    """The same N flagged requests and N labels for both: masks bool[8, N], each column with a True."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.true = rng.random((8, N)) < 0.12
        self.true[rng.integers(0, 8, N), np.arange(N)] = True
        self.ids = [f"request-{i:012d}" for i in range(N)]
        self.times = T0 + np.arange(N) * STEP
        #: wall seconds inside the calls that are measured, where traffic is made between them
        self.spent = 0.0
        self.labels = (rng.random(N) < 0.4).tolist()

    def votes(self, at: int) -> bytes:
        """The votes record of one batch of the live host."""
        part = slice(at, at + BATCH)
        frame = Votes(
            SCHEMA, "live", "bench", 0, PARTITIONS, at, at + BATCH, 1, 300_000, [SUITE, *IDS],
            [], [], [], [], [], [], b"", b"", int(self.times[at + BATCH - 1]), False,
        )  # fmt: skip
        members = self.true[:, part]
        both = np.vstack([members.any(axis=0), members])
        decoded = DecodedBatch(
            np.arange(at, at + BATCH), self.ids[part], np.zeros(BATCH, dtype=np.int64), [()],
            Batch(self.times[part], {}), [],
        )  # fmt: skip
        return encode(build_votes(frame, decoded, both, np.zeros_like(both), np.zeros(9, dtype=np.bool_)))

    def label(self, i: int) -> bytes:
        """The JSON of one label."""
        time_ = int(self.times[i])
        body = {"request_id": self.ids[i], "label": self.labels[i], "labelled_at": time_ + DELAY}
        return json.dumps({**body, "source": "ops", "requested_at": time_}).encode()


Work = Callable[[Client, Traffic], Awaitable[float]]


async def baseline(client: Client, traffic: Traffic) -> float:
    """All updates through the script with one key per record, from the bytes of the log; its CPU seconds."""
    script = client.register_script(BASELINE.read_text())
    limits = Settings().limits
    used = 0.0
    for at in range(0, N, BATCH):
        value = traffic.votes(at)
        began = time.process_time(), time.perf_counter()
        votes = decode(value)
        arguments: list[Any] = [300_000]
        width = -(-len(votes.members) // 8)
        for i, (request_id, when) in enumerate(zip(votes.ids, votes.times, strict=True)):
            mask = votes.true[i * width : (i + 1) * width]
            arguments += ("v", request_id, when, mask, b"", b"", votes.revision, mask[0] & 1)
        await script(["h:0"], arguments)
        used += time.process_time() - began[0]
        traffic.spent += time.perf_counter() - began[1]
    for at in range(0, N, BATCH):
        records = [record_of("labels", i, traffic.label(i)) for i in range(at, at + BATCH)]
        began = time.process_time(), time.perf_counter()
        arguments = [300_000]
        for _, label in decode_labels(records, limits)[0]:
            given, source = label.labelled_at, label.source
            arguments += (
                "l",
                label.request_id,
                label.requested_at,
                label.label,
                label.revision,
                given,
                source,
                "",
            )
        await script(["h:0"], arguments)
        used += time.process_time() - began[0]
        traffic.spent += time.perf_counter() - began[1]
    return used


def record_of(kind: str, offset: int, value: bytes) -> LightRecord:
    """A record as the consumer gives it."""
    inner = SimpleNamespace(offset=offset, timestamp=LOGGED, value=value, key=None, headers=())
    return LightRecord(TopicPartition(f"bench.{kind}", 0), inner)


async def product(client: Client, traffic: Traffic) -> float:
    """All updates as an evaluator does them, from the bytes of the log; returns its CPU seconds."""
    suite, settings = parse_suite(suite_text("bench")), Settings()
    store = Store(client, suite.name, layout_of(suite, 1))
    await ensure_meta(client, suite.name, store.layout)

    async def refuse(record: Any, error: BadRecord) -> None:
        raise error

    async def known(asked: Collection[str]) -> set[str]:
        return set(suite.members)

    metrics = Metrics().evaluator
    used = 0.0
    for kind, step in ((VOTES, 1), (LABELS, BATCH)):
        partition = LogPartition(kind, 0, PARTITIONS, store, suite, settings, metrics, refuse, known)
        await partition.load()
        for at in range(0, N, BATCH):
            first = at // BATCH if kind == VOTES else at
            values = [traffic.votes(at)] if kind == VOTES else map(traffic.label, range(at, at + BATCH))
            records = [record_of(kind, first + i, value) for i, value in enumerate(values)]
            began = time.process_time(), time.perf_counter()
            await partition.apply(records, first + step)
            used += time.process_time() - began[0]
            traffic.spent += time.perf_counter() - began[1]
    return used


async def turn(server: Any, work: Work, traffic: Traffic) -> dict[str, float]:
    """One of the two on an empty server: µs per update, wall and CPU of both sides, and bytes per record."""
    client = Client(port=server.port)
    try:
        await client.flushall()
        traffic.spent, cpu, began = 0.0, cpu_of(server.pid), time.perf_counter()
        own = await work(client, traffic)
        wall = traffic.spent or time.perf_counter() - began
        served = cpu_of(server.pid) - cpu
        keys = [key async for key in client.scan_iter("*:r:*", count=1000)]
        memory = sum([await client.memory_usage(key, samples=0) for key in keys])
        each = 1e6 / (2 * N)
        return {"wall_us": wall * each, "own_us": own * each, "server_us": served * each, "bytes": memory / N}
    finally:
        await client.aclose()


def measure(rounds: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """server → {"baseline", "product"} → turns; they take turns on one server, the client on a core alone."""
    traffic, before = Traffic(), os.sched_getaffinity(0)
    out: dict[str, dict[str, list[dict[str, float]]]] = {}
    servers = {"Valkey": EmbeddedRedis()}
    if shutil.which("redis-server"):
        servers["Redis"] = SystemRedis()
    for name, made in servers.items():
        turns = out[name] = {"baseline": [], "product": []}
        with made as server:
            os.sched_setaffinity(server.pid, cores()[0])
            os.sched_setaffinity(0, cores()[1])
            try:
                for number in range(rounds):
                    for which, work in (("baseline", baseline), ("product", product)):
                        turns[which].append(asyncio.run(turn(server, work, traffic)))
                        told = turns[which][-1]
                        print(
                            f"  round {number + 1}: {name}, {which:9s}{told['wall_us']:7.2f} µs", flush=True
                        )
            finally:
                os.sched_setaffinity(0, before)
    return out
