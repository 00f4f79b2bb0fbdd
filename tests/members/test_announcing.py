"""What a live host reports of its partitions, without a broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from members import announcing
from members.announcing import Announcer
from members.ownership import Owned
from members.registry.events import Event
from members.registry.lifecycle import Entry, Registry, fold
from members.registry.log import Conflict
from members.swapping import steps
from streams.errors import Unavailable
from streams.suite import MemberSpec
from streams.watermark import Watermark


class Log:
    """A registry of three revisions, and when its broker was heard."""

    def __init__(self) -> None:
        spec = MemberSpec(name="m", version="1", owner="o", loader="a:b")
        entry = Entry(spec=spec, state="shadow", ordinal=0, position=0, since=0, who="w", why="y")
        self.registry = Registry(revision=3, applied=1, entries={"m@1": entry}, lives={1: (), 2: (), 3: ()})
        self.heard: float | None = None
        self.told: list[tuple[int | None, dict[int, int]]] = []

    async def append(self, event: Event) -> Registry:
        self.registry, ignored = fold(self.registry, self.registry.applied, event)
        assert ignored is None
        self.told.append((event.revision, event.positions))
        return self.registry

    async def other(self, revision: int, at: int) -> None:
        """Another host says that it answers partition 0."""
        await self.append(report(revision, {0: at}))
        self.told.pop()


def report(revision: int, positions: dict[int, int], **more: Any) -> Event:
    return Event(kind="serving", at=0, who="h", why="y", revision=revision, positions=positions, **more)


class Host:
    """One host with partition 0 from 80 on, at revision 1. `now`: s."""

    def __init__(self) -> None:
        self.log, self.now = Log(), 100.0
        self.owned = Owned(0, Watermark(1, 1), position=80, done=80, taken=self.now)
        self.have = {0: self.owned}
        log: Any = self.log
        self.says = Announcer(log, self.have, report, session=10, clock=lambda: self.now)
        self.says.take_over(self.owned, 1)

    def swap(self, position: int, revision: int) -> None:
        self.owned.position = self.owned.done = position
        self.says.swap(revision)

    @property
    def stairs(self) -> list[tuple[int, int]]:
        return steps(self.log.registry, 0)


def test_only_what_is_new_is_said() -> None:
    """The first time, at each swap, and not again; at a take-over nothing that is known."""

    async def run() -> None:
        host = Host()
        await host.says.send()
        host.swap(100, 2)
        await host.says.send()
        await host.says.send()
        assert host.log.told == [(1, {0: 80}), (2, {0: 100})]
        host.have[0] = Owned(0, Watermark(1, 1), position=130, done=130)
        host.says.take_over(host.have[0], 2)
        await host.says.send()
        assert len(host.log.told) == 2
        host.have[0] = Owned(0, Watermark(1, 1), position=140, done=140)
        host.says.take_over(host.have[0], 1)  # it is not as far as the one before
        await host.says.send()
        assert host.stairs == [(0, 1), (100, 2), (140, 1)]

    asyncio.run(run())


def test_a_report_that_the_registry_ignores_ends_nobody() -> None:
    """Votes that are repeated may bear a revision of a log that has been made anew since."""

    async def run() -> None:
        host = Host()

        async def refused(event: Event) -> Registry:
            raise Conflict(f"revision {event.revision} is unknown")

        host.log.append = refused  # type: ignore[method-assign]
        await host.says.send()
        await host.says.announced(1, 0)
        assert host.stairs == [(0, 1)]

    asyncio.run(run())


def test_a_host_that_was_wrong_is_put_right() -> None:
    """At once; and where it insists, after a while."""

    async def run() -> None:
        host = Host()
        await host.says.send()
        host.swap(100, 2)
        await host.says.send()
        for wait in (0, 0.5):
            host.now += wait
            await host.log.other(2, 90)
            await host.says.send()
        assert host.stairs == [(0, 1), (90, 2)]
        host.now += 1
        await host.says.send()
        assert host.stairs == [(0, 1), (100, 2)]

    asyncio.run(run())


def test_a_host_that_was_frozen_says_nothing_of_what_it_had() -> None:
    """Somebody else may have that by now. What it is given after that is its own."""

    async def run() -> None:
        host = Host()
        await host.says.send()
        for heard in (1000.0, 1004.0, 1010.0):
            assert not host.says.in_doubt
            host.log.heard = heard
            host.says.listen()
        assert host.says.in_doubt
        await host.log.other(2, 90)
        await host.says.send()
        assert host.stairs == [(0, 1), (90, 2)]
        host.now += 5
        host.have[0] = Owned(0, Watermark(1, 1), position=120, taken=host.now)
        host.says.take_over(host.have[0], 1)
        assert not host.says.in_doubt
        await host.says.send()
        assert host.stairs == [(0, 1), (90, 2), (120, 1)]

    asyncio.run(run())


@pytest.mark.parametrize(("heard", "later"), [(10.0, 0.1), (0.0, 10.0)])
def test_doubt_ends_with_the_session(heard: float, later: float) -> None:
    """Cut off or frozen, by then the group has told it what it has lost."""

    async def run() -> None:
        host = Host()
        host.log.heard = 1000.0
        host.says.listen()
        host.log.heard += heard
        host.now += later
        host.says.listen()
        await host.says.send()
        assert host.log.told == []
        host.now += 10
        await host.says.send()
        assert host.log.told == [(1, {0: 80})]

    asyncio.run(run())


def test_answers_that_did_not_wait_are_reported_when_the_partition_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Up to where they were given, and what the next host says stands behind that."""
    monkeypatch.setattr(announcing, "_ANNOUNCED_WITHIN", 0.01)

    async def run() -> None:
        host = Host()
        await host.says.send()
        host.swap(100, 3)
        await host.says.announced(3, 0)
        host.owned.done = host.owned.position = 120
        host.have.clear()
        await host.log.other(2, 120)
        await host.says.send()
        assert host.stairs == [(0, 1), (100, 3), (120, 2)]

    asyncio.run(run())


def test_what_has_waited_is_not_reported_when_the_partition_has_gone() -> None:
    """Nothing was answered so; those who wait are let go."""

    async def run() -> None:
        host = Host()
        await host.says.send()
        host.swap(100, 3)
        waiting = asyncio.create_task(host.says.announced(3, 0))
        await asyncio.sleep(0)
        host.have.clear()
        await host.says.send()
        await asyncio.wait_for(waiting, 2)
        assert host.stairs == [(0, 1)]

    asyncio.run(run())


def test_the_registry_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it does not answer, the first answers of the next partitions and revisions go out at once; after
    that they wait again, so that a successor knows where they begin."""
    monkeypatch.setattr(announcing, "_ANNOUNCED_WITHIN", 0.01)

    async def run() -> None:
        host = Host()
        await host.says.send()
        write, sent = host.log.append, asyncio.Event()

        async def away(_: Event) -> Any:
            raise Unavailable("no")

        host.log.append = away  # type: ignore[method-assign]
        host.swap(100, 2)
        await host.says.announced(2, 0)
        monkeypatch.setattr(announcing, "_ANNOUNCED_WITHIN", 60.0)
        host.swap(110, 3)
        with pytest.raises(Unavailable):
            await host.says.send()
        await asyncio.wait_for(host.says.announced(3, 0), 5)
        host.log.append = write  # type: ignore[method-assign]
        await host.says.send()
        assert host.stairs == [(0, 1), (100, 2), (110, 3)]
        host.swap(120, 1)
        waiting = asyncio.create_task(host.says.announced(1, 0))
        waiting.add_done_callback(lambda _: sent.set())
        await asyncio.sleep(0)
        assert not sent.is_set()
        await host.says.send()
        await asyncio.wait_for(sent.wait(), 5)

    asyncio.run(run())
