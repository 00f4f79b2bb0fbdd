"""What following the registry comes down to, without a broker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from members.deploying import LiveRoster
from members.following import Following
from members.panel import Panel
from members.registry.events import Event
from members.registry.lifecycle import Deployment, Registry, fold
from streams.settings import Host
from streams.suite import Suite
from tests.members.panels import FEATURES, batch, spec


class Log:
    """A registry's log that nobody else writes to."""

    def __init__(self, *events: Event) -> None:
        self.registry = Registry()
        for offset, event in enumerate(events):
            self.registry, ignored = fold(self.registry, offset, event)
            assert ignored is None

    async def start(self) -> None: ...

    async def append(self, event: Event) -> None:
        self.registry, ignored = fold(self.registry, self.registry.applied, event)
        assert ignored is None

    async def found(self, suite: Suite, who: str) -> None: ...


def founded(*members: Any) -> Log:
    return Log(Event(kind="founded", at=0, who="w", why="y", members=list(members)))


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (["a"], ""),
        (["a", "b"], "+b@1"),
        ([], "-a@1"),
        (["other a"], "a@1 (another loader)"),
    ],
)
def test_a_suite_file_that_says_something_else(
    declared: list[str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line tells how it differs and what to run; descriptions and stages may differ."""
    caplog.set_level(logging.INFO)
    specs = [spec(name[-1], "Raises" if " " in name else "Above") for name in declared]
    text = [each.model_copy(update={"owner": "another", "stage": "live"}) for each in specs]
    following = Following(founded(spec("a", "Above")), None, name="h", owned={}, under_way=list)  # type: ignore[arg-type]
    asyncio.run(following._read(Suite(name="s", member=text)))
    told = [text for record in caplog.records if "members plan" in (text := record.getMessage())]
    line = f"the suite file's members are not those of the registry, which count ({says}): "
    assert told == ([line + "run `chorus members plan`"] if says else [])


def test_slow_while_baking() -> None:
    """A member whose usual time is above its budget is refused, once; a few slow batches are no reason."""

    async def run() -> list[Event]:
        log = founded(spec("m", "Above", budget_ms=5).model_copy(update={"stage": "live"}))
        baking = Deployment(id="d", member="m@1", began=0, revision=1)
        log.registry = log.registry.model_copy(update={"deployment": baking})
        panel = Panel([], Host(), FEATURES)
        roster = LiveRoster(log, panel, recent=lambda: None, name="h", owned={}, under_way=list)  # type: ignore[arg-type]
        await roster.open(Suite(name="s", features=FEATURES))
        for _ in range(19):
            await roster.crew.vote(batch([1.0]))
        (seat,) = panel.view(["m@1"]).seats
        assert len(seat.pace) == 19
        seat.pace.extend([0.1] * 9 + [9.0] * 10)
        roster.step()
        assert roster._reports == []
        seat.pace.append(9.0)
        roster.step()
        roster.step()
        return roster._reports

    (report,) = asyncio.run(run())
    assert (report.kind, report.member, report.deployment) == ("refused", "m@1", "d")
    assert report.why == "slow while baking: 9.0 ms for 256 requests, where 5 ms are allowed"
