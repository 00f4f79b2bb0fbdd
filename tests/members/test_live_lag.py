"""Who runs live, and how far behind: what lets a backfill pause, and what does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from members.live_lag import LiveLag

TP = TopicPartition("s.requests", 0)


class Cluster:
    """Consumer and admin client in one; the group's answer is what a broker gives, or an error."""

    def __init__(self, committed: int, end: int, group: tuple[Any, ...] | Exception) -> None:
        self.committed, self.end, self.group = committed, end, group

    async def list_consumer_group_offsets(self, group: str, partitions: Any) -> Any:
        return {TP: OffsetAndMetadata(self.committed, "")}

    async def end_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return {TP: self.end}

    async def describe_consumer_groups(self, names: list[str]) -> Any:
        if isinstance(self.group, Exception):
            raise self.group
        return [SimpleNamespace(groups=[self.group])]


def look(cluster: Cluster, *seconds: float) -> list[tuple[int | None, bool]]:
    """The lag, and whether it is too far, at each of these moments."""

    async def run() -> list[tuple[int | None, bool]]:
        now = [0.0]
        live = LiveLag(cluster, cluster, "s.live", [TP], 100, clock=lambda: now[0])
        out = []
        for now[0] in seconds:
            await live.look()
            out.append((live.lag, live.too_far))
        return out

    return asyncio.run(run())


def group(state: str, code: int = 0) -> tuple[Any, ...]:
    return (code, "s.live", state, "consumer", "range", [])


@pytest.mark.parametrize("state", ["Stable", "PreparingRebalance", "CompletingRebalance"])
def test_live_hosts_that_are_behind_are_made_way_for(state):
    """As the group has members, what it has committed counts."""
    assert look(Cluster(0, 500, group(state)), 0.0) == [(500, True)]
    assert look(Cluster(450, 500, group(state)), 0.0) == [(50, False)]


@pytest.mark.parametrize("state", ["Empty", "Dead"])
def test_hosts_that_were_stopped_hold_nothing_up(state):
    """Nobody is behind, however much comes in meanwhile."""
    assert look(Cluster(0, 500, group(state)), 0.0) == [(None, False)]


def test_a_group_that_has_never_committed():
    """Nobody runs live, or nobody has answered yet."""
    assert look(Cluster(-1, 500, group("Stable")), 0.0) == [(None, False)]


@pytest.mark.parametrize("answer", [KafkaConnectionError("no"), group("", code=30), group("Stable")])
def test_where_the_broker_does_not_say_who_is_there(answer):
    """Hosts that get nowhere for two minutes are taken not to run; as soon as they move, they do."""
    cluster = Cluster(0, 500, answer)
    assert look(cluster, 0.0, 119.0, 121.0, 500.0) == [(500, True), (500, True), (None, False), (None, False)]

    async def moving() -> list[int | None]:
        now, out = [0.0], list[int | None]()
        live = LiveLag(cluster, cluster, "s.live", [TP], 100, clock=lambda: now[0])
        for now[0], cluster.committed in ((0.0, 0), (200.0, 0), (201.0, 10), (300.0, 10), (300.5, 500)):
            await live.look()
            out.append(live.lag)
        return out

    assert asyncio.run(moving()) == [500, None, 490, 490, 0]


def test_hosts_that_are_at_the_end_need_not_move():
    """Nothing has come in for an hour: they are 0 behind."""
    assert look(Cluster(500, 500, group("Stable")), 0.0, 3600.0)[-1] == (0, False)
