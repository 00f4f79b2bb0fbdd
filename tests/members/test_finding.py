"""What a broker that is still looking for the group's coordinator says, without a broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from members import finding
from members.finding import Finding
from members.live_lag import LiveLag
from streams.errors import Unavailable
from streams.settings import Settings
from streams.suite import Suite

TPS = [TopicPartition("t", p) for p in (0, 1)]


class Admin:
    """Answers one after the other; the last one for ever. An error of the whole group is an empty answer."""

    def __init__(self, *answers: dict[int, int]) -> None:
        self.answers = list(answers)

    async def list_consumer_group_offsets(self, group: str, *, partitions: Any) -> dict[Any, Any]:
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return {TPS[p]: OffsetAndMetadata(at, "") for p, at in answer.items()}

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        return []


class Consumer:
    async def end_offsets(self, tps: Any) -> dict[Any, int]:
        return dict.fromkeys(tps, 500)


def places(admin: Admin) -> Any:
    return asyncio.run(Finding(None, admin, Suite(name="s"), Settings(), TPS)._committed("g"))


def test_what_is_committed_is_asked_until_it_is_told_of_every_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that lacks one is none, and is not taken for a group that has committed nothing."""
    found = places(Admin({}, {1: 7}, {0: -1, 1: 7}))
    assert {tp.partition: at.offset for tp, at in found.items()} == {0: -1, 1: 7}
    monkeypatch.setattr(finding, "_PATIENCE", 0.0)
    with pytest.raises(Unavailable, match="does not tell what g has committed"):
        places(Admin({}))


def test_live_lag_is_what_it_was_where_the_broker_does_not_tell() -> None:
    """A group that is not found for a moment is not one that nobody runs."""

    async def run() -> None:
        live = LiveLag(Consumer(), Admin({0: 450, 1: 300}, {}, {1: 400}, {0: -1, 1: -1}), "g", TPS, 100)
        lags = []
        for _ in range(4):
            await live.look()
            lags.append((live.lag, live.too_far))
        assert lags == [(250, True), (250, True), (250, True), (None, False)]

    asyncio.run(run())
