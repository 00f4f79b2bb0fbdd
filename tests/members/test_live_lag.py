"""Who runs live, and how far behind: what lets a backfill pause, and what does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from members.live_lag import LiveLag
from streams.errors import Unavailable
from streams.settings import Kafka

TP = TopicPartition("s.requests", 0)


class Cluster:
    """Consumer and admin client in one; the group's answer is what a broker gives, or an error."""

    def __init__(self, committed: int, end: int, group: tuple[Any, ...] | Exception) -> None:
        self.committed, self.end, self.group = committed, end, group
        self.ahead: dict[TopicPartition, int] = {}  # other partitions
        self.refusal: Exception | None = None

    async def list_consumer_group_offsets(self, group: str, partitions: Any) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return {tp: OffsetAndMetadata(at, "") for tp, at in {TP: self.committed, **self.ahead}.items()}

    async def end_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.end)

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
    """Nobody is behind, however much comes in meanwhile, once the group has had no members for 30 s."""
    assert look(Cluster(0, 500, group(state)), 0.0, 29.0, 30.0) == [(500, True), (500, True), (None, False)]


@pytest.mark.parametrize("between", [group("Stable"), group("", code=15), KafkaConnectionError("no")])
def test_a_restart_of_the_live_hosts_is_no_end(between):
    """Their group is empty for a few seconds, again and again: they run. So they do where it is not told."""
    cluster = Cluster(40, 500, group("Empty"))

    async def run() -> list[bool]:
        now, out = [0.0], list[bool]()
        live = LiveLag(cluster, cluster, "s.live", [TP], 1000, clock=lambda: now[0])
        for now[0], cluster.group in (
            (0.0, group("Empty")), (20.0, between), (25.0, group("Empty")), (54.0, group("Empty")),
            (55.0, group("Empty")), (56.0, group("Stable")),
        ):  # fmt: skip
            await live.look()
            out.append(live.run(TP))
        return out

    assert asyncio.run(run()) == [True, True, True, True, False, True]


def test_an_empty_group_of_a_broker_that_was_away_counts_anew():
    """The hosts come back to it as well."""
    cluster = Cluster(40, 500, group("Empty"))

    async def run() -> list[bool]:
        now, out = [0.0], list[bool]()
        live = LiveLag(cluster, cluster, "s.live", [TP], 1000, clock=lambda: now[0])
        for now[0], cluster.refusal in ((0.0, None), (20.0, KafkaConnectionError("no")), (40.0, None)):
            await live.look()
            out.append(live.run(TP))
        return out

    assert asyncio.run(run()) == [True, True, True]


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


def test_hosts_that_get_a_record_after_a_long_rest_run():
    """What counts is how long they have been behind, not when they last had something to do."""
    cluster = Cluster(500, 500, group("Stable"))

    async def run() -> bool:
        now = [0.0]
        live = LiveLag(cluster, cluster, "s.live", [TP], 100, clock=lambda: now[0])
        for now[0], cluster.end in ((0.0, 500), (3600.0, 500), (3601.0, 501)):
            await live.look()
        return live.run(TP)

    assert asyncio.run(run())


def test_one_partition_that_is_stuck_is_not_waited_for():
    """They are taken not to run there, while others move; and what they are behind there holds nothing up."""
    other = TopicPartition("s.requests", 1)
    cluster = Cluster(0, 500, group("Stable"))

    async def run() -> list[tuple[bool, bool, bool, int | None]]:
        now, out = [0.0], []
        live = LiveLag(cluster, cluster, "s.live", [TP, other], 100, clock=lambda: now[0])
        for now[0], at in ((0.0, 300), (119.0, 400), (121.0, 450)):
            cluster.ahead = {other: at}
            await live.look()
            out.append((live.run(TP), live.run(other), live.too_far, live.lag))
        return out

    assert asyncio.run(run()) == [
        (True, True, True, 700),
        (True, True, True, 600),
        (False, True, False, 50),
    ]


def test_records_beyond_an_end_that_is_told_too_low_show_that_they_are_stuck():
    """The embedded broker's end is low by the last batch: it is no end where something lies behind it."""
    cluster = Cluster(500, 500, group("Stable"))

    async def run() -> list[bool]:
        now, out = [0.0], list[bool]()
        live = LiveLag(cluster, cluster, "s.live", [TP], 100, clock=lambda: now[0])
        await live.look()
        assert live.released(TP, [SimpleNamespace(offset=500)]) == []
        for now[0] in (1.0, 119.0, 122.0):
            await live.look()
            out.append(live.waits(TP))
        return out

    assert asyncio.run(run()) == [True, True, False]


def test_a_broker_that_refuses_to_tell_is_not_waited_for():
    """At the first look, and also later: one sentence says what is missing."""
    cluster = Cluster(0, 500, group("Stable"))

    async def run() -> None:
        live = LiveLag(cluster, cluster, "s.live", [TP], 100, Kafka(sasl_username="eva"))
        await live.look()
        cluster.refusal = GroupAuthorizationFailedError("Unable to get coordinator id for s.live")
        for each in (live, LiveLag(cluster, cluster, "s.live", [TP], 100, Kafka(sasl_username="eva"))):
            with pytest.raises(
                Unavailable, match=r"^eva lacks the permission Read on consumer group s\.live:"
            ):
                await each.look()

    asyncio.run(run())


def test_a_broker_that_never_tells_is_asked_for_a_while():
    """Half a minute; one that has told once may be away for longer."""
    cluster = Cluster(0, 500, group("Stable"))

    async def run() -> None:
        now = [0.0]
        live, told = (LiveLag(cluster, cluster, "s.live", [TP], 100, clock=lambda: now[0]) for _ in range(2))
        await told.look()
        cluster.refusal = KafkaConnectionError("no")
        for now[0] in (0.0, 29.0):
            await live.look()
            assert (live.lag, live.run(TP), live.answered(TP)) == (None, True, 0)
        now[0] = 30.0
        with pytest.raises(
            Unavailable, match=r"does not tell what s\.live has committed \(.*no\): try again"
        ):
            await live.look()
        now[0] = 900.0
        await told.look()
        assert told.lag == 500

    asyncio.run(run())
