"""Constant traffic for the promotion tests: requests with known members, labels an hour later."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.e2e.suites import SuiteFile

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp() * 1000)

#: Member id → feature, bound, and the chance that what it flags is positive.
RULES = {
    "base@1": ("a", 0.90, 0.50),
    "first@1": ("b", 0.92, 0.90),
    "twin@1": ("b", 0.95, 0.90),
    "second@1": ("c", 0.94, 0.85),
    "brittle@1": ("d", 0.94, 0.85),
    "bad@1": ("e", 0.90, 0.02),
    "deadly@1": ("d", 0.90, 0.02),
    "fatal@1": ("d", 0.90, 0.02),
}
CLASSES = {"fatal@1": "Fatal", "brittle@1": "Brittle", "deadly@1": "Deadly"}
FEATURES = "abcde"
PER_DAY = 600


def fires(member: str, features: dict[str, float]) -> bool:
    """What the member must answer."""
    feature, above, _ = RULES[member]
    return features[feature] > above


def write_suite(
    folder: Path, *, members: tuple[str, ...], live: tuple[str, ...] = ("base@1",), bake: str = "12h"
) -> SuiteFile:
    """The suite file and the module of its members; those that are not `live` are candidates."""
    name = f"promo-{uuid.uuid4().hex[:8]}"
    parts = [
        f'[[member]]\nname = "{who.partition("@")[0]}"\nversion = "{who.partition("@")[2]}"\n'
        f'stage = "{"live" if who in live else "shadow"}"\nowner = "{who[:3]}@example.com"\n'
        f'loader = "choir:{CLASSES.get(who, "Above")}"\n'
        f'params = {{ feature = "{RULES[who][0]}", above = {RULES[who][1]} }}\nbudget_ms = 5000\n'
        for who in members
    ]
    features = "\n".join(f'{name} = "float"' for name in FEATURES)
    path = folder / "suite.toml"
    path.write_text(
        f'name = "{name}"\nbucket = "1h"\nwindows = ["1d", "7d"]\nretention = "400d"\n\n'
        '[labels]\nhorizon = "3h"\n\n'
        f'[policy]\nmin_span = "3d"\nbake = "{bake}"\ncooldown = "12h"\n\n'
        f"[features]\n{features}\n\n" + "\n".join(parts),
        encoding="utf-8",
    )
    shutil.copy(Path(__file__).with_name("choir.py"), folder / "choir.py")
    return SuiteFile(path, name)


class Parade:
    """Sends `PER_DAY` requests for each day of event time, and their labels, until it is told to stop.

    `sent` is what was sent: request id → features.
    """

    def __init__(self, suite: SuiteFile, bootstrap: str, *, pace: float, seed: int = 5) -> None:
        """pace: seconds of the clock for a day of event time."""
        self._suite, self._bootstrap, self._pace = suite, bootstrap, pace
        self._random = random.Random(seed)
        self.sent: dict[str, dict[str, float]] = {}
        self.time = START
        self._labels: list[tuple[int, bytes, bytes]] = []

    async def march(self, enough: Callable[[], bool]) -> None:
        """Send until `enough` says so, and then what is still owed."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", linger_ms=5)
        await producer.start()
        try:
            step = HOUR // 2
            while not enough():
                await self._send(producer, self.time, self.time + step)
                self.time += step
                await asyncio.sleep(self._pace * step / DAY)  # the pace of the load; nothing waits for this
        finally:
            await producer.flush()
            await producer.stop()

    async def _send(self, producer: Any, start: int, end: int) -> None:
        count = round(PER_DAY * (end - start) / DAY)
        for i in range(count):
            time = start + (end - start) * i // count
            features = {name: self._random.random() for name in FEATURES}
            request_id = f"r{len(self.sent):06d}"
            self.sent[request_id] = features
            chance = max([0.01, *(rule[2] for who, rule in RULES.items() if fires(who, features))])
            label = self._random.random() < chance
            value = {"request_id": request_id, "timestamp": time, "features": features}
            await producer.send(
                self._suite.topic("requests"), json.dumps(value).encode(), request_id.encode()
            )
            due = time + HOUR
            told = {"request_id": request_id, "label": label, "labelled_at": due, "requested_at": time}
            self._labels.append((due, request_id.encode(), json.dumps(told).encode()))
        while self._labels and self._labels[0][0] < end:
            _, key, value_ = self._labels.pop(0)
            await producer.send(self._suite.topic("labels"), value_, key)
