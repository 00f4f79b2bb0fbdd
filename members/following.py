"""In step with the registry: what live and shadow hosts share of reading it and of reporting to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from members.ownership import Owned
from members.panel import Panel, Seat
from members.registry.events import Event
from members.registry.lifecycle import DESCRIPTIVE, Registry, differing, draft
from members.registry.log import Conflict, RegistryLog
from members.swapping import unlike
from streams.connect import until_available
from streams.errors import Unavailable
from streams.suite import Suite

log = logging.getLogger("chorus")

_POLL = 100  # ms
_AGAIN = 0.5  # s until the registry is asked again when it did not answer


class Following:
    """Follows the registry for one host: `step` compares what is with what should be, after every look.

    owned: the host's partitions; under_way: its batches, which keep their own crew to the end.
    """

    def __init__(
        self,
        registry: RegistryLog,
        panel: Panel,
        *,
        name: str,
        owned: Mapping[int, Owned],
        under_way: Callable[[], Collection[asyncio.Task[Any]]],
    ) -> None:
        self.log, self.panel, self.name = registry, panel, name
        self._owned, self._under_way = owned, under_way
        self._reports: list[Event] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def registry(self) -> Registry:
        """As far as it has been read."""
        return self.log.registry

    async def _read(self, declared: Suite) -> Suite:
        """Read the registry to its end, found it where nobody has; returns the suite as it is by now."""

        async def attempt() -> None:
            await self.log.start()
            await self.log.found(declared, self.name)

        await until_available(attempt)
        suite = self.registry.suite(declared)
        other = {
            f"{name} (another {', '.join(sorted(fields))})"
            for name, spec in declared.members.items()
            if name in suite.members and (fields := differing(spec, suite.members[name]) - DESCRIPTIVE)
        }
        if differs := " ".join([unlike(declared.members, suite.members), *sorted(other)]).strip():
            log.info(
                "the suite file's members are not those of the registry, which count (%s): "
                "run `chorus members plan`",
                differs,
            )
        return suite

    async def run(self) -> None:
        """Follow until cancelled. A registry that does not answer is told once, and asked again."""
        said = False
        while True:
            try:
                await self.log.poll(_POLL)
                self.step()
                await self._send()
            except Unavailable as error:
                if not said:
                    log.warning("the registry cannot be followed (%s); trying again until it can", error)
                said = True
                await asyncio.sleep(_AGAIN)
            else:
                said = False

    async def close(self) -> None:
        """Let go of the registry, and of what is being prepared."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.log.stop()

    def step(self) -> None:
        """Do what the registry asks for by now."""
        raise NotImplementedError

    async def _send(self) -> None:
        """Write the reports that wait. Raises Unavailable; what is not written waits on."""
        while self._reports:
            try:
                await self.log.append(self._reports[0])
            except Conflict as error:
                log.debug("a report came too late: %s", error)
            self._reports.pop(0)

    def _report(self, kind: Any, member: str, why: str, **more: Any) -> Event:
        at = time.time_ns() // 1_000_000
        return draft(self.registry, kind, member, who=self.name, why=why, at=at, **more)

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _let_go(self, seats: list[Seat]) -> None:
        """Close members when the batches that may still ask them are over."""
        if seats:
            batches = list(self._under_way())

            async def close() -> None:
                if batches:
                    await asyncio.wait(batches)
                await self.panel.dismiss(seats)

            self._spawn(close())

    def _look_again(self) -> None:
        """Let idle partitions be told once more, in the name of the members that are there now."""
        for owned in self._owned.values():
            owned.idle_told = False

    # -- what a Roster has beside; a live host's answers

    async def look_up(self, owned: Owned) -> None:
        """Nothing to do."""

    def news(self, owned: Owned) -> bool:
        return False

    def back(self, owned: Owned) -> int | None:
        return None

    async def keep(self, owned: Collection[Owned]) -> None:
        """Nothing to keep."""
