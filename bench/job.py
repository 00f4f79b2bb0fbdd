"""The job that every contender does: eight cheap members over requests of 288 bytes, decisions written.

Needs nothing but numpy and msgspec, so that the peers can do it in an environment of their own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

FEATURES = [f"f{i}" for i in range(8)]
ABOVE = [0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99]
IDS = [f"m{i}@1" for i in range(8)]
SIZE = 288
T0 = 1_700_000_000_000
PARTITIONS = 4


class Above:
    """A member: true where its feature lies above a threshold."""

    def __init__(self, feature: str, above: float) -> None:
        self.needs = {feature: float}
        self.feature, self.above = feature, above

    def vote(self, batch: Any) -> Any:
        """bool[n]."""
        return batch[self.feature] > self.above


def suite_text(name: str) -> str:
    """The suite file of the same job."""
    lines = [f'name = "{name}"', "[features]", *(f'{name} = "float"' for name in FEATURES)]
    for name, feature, above in zip(IDS, FEATURES, ABOVE, strict=True):
        lines += [
            "[[member]]", f'name = "{name.partition("@")[0]}"', 'version = "1"', 'stage = "live"',
            'owner = "bench"', 'loader = "bench.job:Above"',
            f'params = {{ feature = "{feature}", above = {above} }}',
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def with_candidate(name: str) -> str:
    """The same with a shadow, which is the first member once more."""
    return suite_text(name) + "\n".join(
        [
            "[[member]]", 'name = "candidate"', 'version = "1"', 'stage = "shadow"', 'owner = "bench"',
            'loader = "bench.job:Above"', 'params = { feature = "f0", above = 0.9 }',
            "trained_through = 2020-01-01T00:00:00Z", "",
        ]
    )  # fmt: skip


def requests(n: int) -> Iterator[tuple[bytes, bytes]]:
    """n requests as (key, value), values of SIZE bytes."""
    columns = np.random.default_rng(1).random((n, 8)).round(6).tolist()
    for i, row in enumerate(columns):
        request_id = f"request-{i:012d}"
        body = {
            "request_id": request_id,
            "timestamp": T0 + i * 10,
            "features": dict(zip(FEATURES, row, strict=True)),
            "note": "",
        }
        size = len(json.dumps(body, separators=(",", ":")))
        body["note"] = "x" * (SIZE - size)
        yield request_id.encode(), json.dumps(body, separators=(",", ":")).encode()


class Features(msgspec.Struct, gc=False):
    """What the members need."""

    f0: float
    f1: float
    f2: float
    f3: float
    f4: float
    f5: float
    f6: float
    f7: float


class Request(msgspec.Struct, gc=False):
    """What the job needs of a request."""

    request_id: str
    timestamp: int
    features: Features


class Decision(msgspec.Struct, gc=False):
    """What it answers."""

    request_id: str
    judgement: bool
    fired: list[str]
    revision: int
    time: int


class Job:
    """decode, votes, OR, encode: vectorised over whatever batch the contender can bring about."""

    _decode: ClassVar[Any] = msgspec.json.Decoder(Request).decode
    _encode: ClassVar[Any] = msgspec.json.Encoder().encode

    def __init__(self) -> None:
        self._above = np.array(ABOVE)
        self._fired: dict[int, list[str]] = {}
        self._weights = 1 << np.arange(8)

    def __call__(self, values: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Values of requests → (key, value) of decisions."""
        rows = [self._decode(value) for value in values]
        matrix = np.array([msgspec.structs.astuple(row.features) for row in rows])
        masks = ((matrix > self._above) @ self._weights).tolist()
        encode, fired, out = self._encode, self._fired, []
        for row, mask in zip(rows, masks, strict=True):
            names = fired.get(mask)
            if names is None:
                names = fired[mask] = [name for i, name in enumerate(IDS) if mask >> i & 1]
            decision = Decision(row.request_id, mask != 0, names, 1, row.timestamp)
            out.append((row.request_id.encode(), encode(decision)))
        return out


class Clock:
    """CPU seconds of this process, all its threads, and wall seconds, from `start` to `report`."""

    def start(self) -> None:
        """Everything is connected; now the work begins."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def report(self, n: int, **more: object) -> None:
        """Print one line of JSON: n requests took so long."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(json.dumps({"n": n, "cpu": cpu, "wall": wall, **more}), flush=True)


def arguments() -> tuple[str, str, int]:
    """SERVERS SUITE N."""
    servers, suite, n = sys.argv[1:4]
    return servers, suite, int(n)
