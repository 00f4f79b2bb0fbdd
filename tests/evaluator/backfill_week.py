"""A retained week of traffic, a suite with candidates, and everything that makes verdicts of it.

`early` is there from the start; the others, with the same logic, come when the week is over.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from evaluator.service import EvaluatorService
from evaluator.status import read_status
from members.host import HostService
from streams.connect import make_producer, ping_broker, until_available
from streams.settings import Host, Kafka, Redis, Settings
from streams.suite import parse_suite
from streams.times import format_time
from streams.topics import create_topics
from tests.conftest import Broker
from tests.e2e.drive import CHORUS, environment

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
START = 20_000 * DAY
DAYS = 10
END = START + DAYS * DAY + 10 * MINUTE
PARTITIONS = 2
CANDIDATES = ("early", "late", "taught", "slow", "broken")

MODULE = """
import time

class Above:
    def __init__(self, feature, above):
        self.feature, self.above = feature, above
        self.needs = {feature: float}

    def vote(self, batch):
        return batch[self.feature] > self.above

class Slow(Above):
    def vote(self, batch):
        time.sleep(0.3)
        return super().vote(batch)

class Broken:
    def vote(self, batch):
        raise RuntimeError("not with me")
"""


def suite_text(name: str, trained: dict[str, int]) -> str:
    text = f"""name = "{name}"
bucket = "1h"
windows = ["24h", "7d"]
[labels]
horizon = "6h"
[policy]
min_span = "3d"
block = "6h"
[features]
x = "float"
y = "float"
"""
    classes = {"slow": "Slow", "broken": "Broken"}
    for each in ("base", *CANDIDATES):
        params = '{ feature = "x", above = 0.9 }' if each == "base" else '{ feature = "y", above = 0.9 }'
        stage = "live" if each == "base" else "shadow"
        text += (
            f'[[member]]\nname = "{each}"\nversion = "1"\nstage = "{stage}"\n'
            f'owner = "o"\nloader = "week:{classes.get(each, "Above")}"\nbudget_ms = 20000\n'
        )
        if each != "broken":
            text += f"params = {params}\n"
        if each in trained:
            text += f"trained_through = {format_time(trained[each])}\n"
    return text


def traffic(n: int) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """(requests by partition, labels): base is right half of the time, the candidates nine times of ten."""
    rng = random.Random(5)
    requests: list[list[dict[str, Any]]] = [[] for _ in range(PARTITIONS)]
    labels = []
    for i in range(n):
        at = START + i * (DAYS * DAY // n) + rng.randrange(MINUTE)
        x, y = rng.random(), rng.random()
        share = 0.9 if y > 0.9 else 0.5 if x > 0.9 else 0.02
        requests[i % PARTITIONS].append(
            {"request_id": f"r{i}", "timestamp": at, "features": {"x": x, "y": y}}
        )
        labels.append(
            {
                "request_id": f"r{i}",
                "label": rng.random() < share,
                "labelled_at": at + HOUR,
                "requested_at": at,
            }
        )
    for p in range(PARTITIONS):
        for k in range(5):
            name = f"end-{p}-{k}"
            requests[p].append({"request_id": name, "timestamp": END, "features": {"x": 0.0, "y": 0.0}})
            labels.append(
                {"request_id": name, "label": False, "labelled_at": END + HOUR, "requested_at": END}
            )
    return requests, labels


class Week:
    """The week on one broker and one store, with a live host, the host of `early`, and an evaluator."""

    def __init__(self, broker: Broker, redis_url: str, folder: Path, n: int) -> None:
        self.broker, self.folder, self.n = broker, folder, n
        trained = {"early": START - DAY, "late": START - DAY, "slow": START - DAY, "taught": START + 4 * DAY}
        trained["broken"] = START - DAY
        self.path = folder / "suite.toml"
        self.path.write_text(suite_text(f"week-{uuid.uuid4().hex[:8]}", trained))
        (folder / "week.py").write_text(MODULE)
        self.suite = parse_suite(self.path.read_text())
        kafka = Kafka(
            bootstrap_servers=broker.bootstrap_servers, partitions=PARTITIONS, session_timeout=2000,
            fetch_max_wait=20, patience=300 if broker.kind == "embedded" else 0,
        )  # fmt: skip
        self.settings = Settings(
            kafka=kafka, redis=Redis(url=SecretStr(redis_url)), host=Host(idle_after=300, commit_every=100)
        )
        self.env = environment(
            CHORUS_KAFKA__SESSION_TIMEOUT="2s",
            CHORUS_KAFKA__FETCH_MAX_WAIT="20ms",
            CHORUS_KAFKA__PATIENCE=str(kafka.patience),
            CHORUS_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
            CHORUS_REDIS_URL=redis_url,
            CHORUS_HOST__BATCH="500",
        )
        self.services: list[Any] = []

    async def __aenter__(self) -> Week:
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        sys.modules.pop("week", None)
        kafka = self.settings.kafka
        await until_available(lambda: ping_broker(kafka))
        await create_topics(self.suite, kafka)
        requests, labels = traffic(self.n)
        producer = make_producer(kafka, linger_ms=5)
        await producer.start()
        sends = []
        for p, mine in enumerate(requests):
            for each in mine:
                value = json.dumps(each).encode()
                sends.append(await producer.send(f"{self.suite.name}.requests", value, partition=p))
        for i, each in enumerate(labels):
            value, p = json.dumps(each).encode(), i % PARTITIONS
            if each["request_id"].startswith("end"):
                p = int(each["request_id"].split("-")[1])
            sends.append(
                await producer.send(
                    f"{self.suite.name}.labels", value, each["request_id"].encode(), partition=p
                )
            )
        await asyncio.gather(*sends)
        await producer.stop()
        self.services = [
            HostService(self.suite, self.settings, stage="live", members=self.suite.live, name="live"),
            HostService(self.suite, self.settings, stage="shadow", members=["early@1"], name="early"),
            EvaluatorService(self.suite, self.settings, name="evaluator"),
        ]
        for service in self.services:
            await service.start()
        try:
            await self.until(lambda d: bool(d["windows"]) and self._all(d))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for service in self.services:
            await service.stop()
        sys.path.remove(str(self.folder))

    def _all(self, document: dict[str, Any]) -> bool:
        seven = document["windows"][2]
        verdict = self.member(document, "early")["verdict"]
        return bool(
            document["watermark"] == END
            and document["labels_through"] == END + HOUR
            and self.member(document, "early")["scored"] == seven["volume"]
            and verdict
            and (self.n < 20_000 or verdict["state"] == "PROMOTE")
        )

    async def status(self) -> dict[str, Any]:
        """The status document."""
        return await read_status(self.suite, self.settings)

    def member(self, document: dict[str, Any], name: str, window: str = "7d") -> dict[str, Any]:
        """What stands of a member in the latest view of a window."""
        for each in document["windows"]:
            if (each["name"], each["view"]) == (window, "latest"):
                return next(m for m in each["members"] if m["id"] == f"{name}@1")
        raise AssertionError(window)

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status that meets the condition."""
        deadline = time.monotonic() + 60
        while not condition(document := await self.status()):
            assert time.monotonic() < deadline, self._told(document)
            await asyncio.sleep(0.05)
        return document

    def _told(self, document: dict[str, Any]) -> str:
        marks = {key: document[key] for key in ("watermark", "labels_through", "counters")}
        return f"{marks}\n{json.dumps(self.member(document, 'early'), indent=1)}"

    def command(self, *arguments: str) -> list[str]:
        return [CHORUS, "backfill", *arguments, "--suite", str(self.path)]

    async def backfill(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """`chorus backfill … --json` as a process: its exit code, its lines, its standard error."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.command(*arguments, "--json"),
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, lines(done.stdout.splitlines()), done.stderr.decode()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The same, to be killed or stopped on the way."""
        return subprocess.Popen(
            self.command(*arguments, "--json"), env=self.env, cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip


def lines(said: Sequence[bytes]) -> list[dict[str, Any]]:
    """Lines of JSON."""
    return [json.loads(line) for line in said]
