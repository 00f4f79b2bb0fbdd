"""What the tests of members/ share: specs, batches, panels."""

from __future__ import annotations

from typing import Any

import numpy as np

from members.panel import Panel
from streams.batch import Batch, column
from streams.settings import Host
from streams.suite import MemberSpec

FEATURES: dict[str, Any] = {"wind": "float", "hour": "int", "carrier": "category"}


def spec(
    name: str, loader: str, *, budget_ms: float = 50, isolate: bool = False, **params: Any
) -> MemberSpec:
    return MemberSpec(
        name=name,
        version="1",
        owner="o",
        loader=loader if ":" in loader else f"tests.members.voters_for_tests:{loader}",
        params=params,
        budget_ms=budget_ms,
        isolate=isolate,
    )


def batch(wind: list[float | None]) -> Batch:
    n = len(wind)
    values, missing = column("float", wind)
    columns = {"wind": values, "hour": np.arange(n), "carrier": np.array(["UA"] * n, dtype=object)}
    return Batch(np.arange(n), columns, {} if missing is None else {"wind": missing})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A panel with a clock that can be set, and what it told."""

    def __init__(self, *specs: MemberSpec, **host: Any) -> None:
        self.clock, self.events = Clock(), list[tuple[str, str, str]]()
        self.panel = Panel(
            specs,
            Host(**{"budget_grace": 100, "breaker_failures": 3, "breaker_cooldown": 10_000, **host}),
            FEATURES,
            clock=self.clock,
            on_event=lambda *event: self.events.append(event),
        )

    def kinds(self, member: str) -> list[str]:
        return [kind for kind, who, _ in self.events if who == f"{member}@1"]
