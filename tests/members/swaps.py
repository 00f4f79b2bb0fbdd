"""Hosts that follow a registry under constant traffic, and what must be true of all that they wrote."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from members.host import HostService
from members.registry.events import EVALUATORS
from members.registry.lifecycle import draft
from members.registry.log import RegistryLog
from streams.records import SUITE
from streams.suite import Suite, parse_suite
from tests.members.hosting import World, first_votes, until

HEAD = 'name = "{}"\nsegments = ["c"]\n[features]\nwind = "float"\nc = "category"\n'
MEMBER = '[[member]]\nname = "{}"\nversion = "{}"\nowner = "o"\nbudget_ms = 500\nloader = "{}"\n{}\n'
ABOVE = "tests.members.voters_for_tests:Above"


def member(id: str, loader: str = ABOVE, *, above: float | None = 0.5, more: str = "") -> str:
    name, _, version = id.partition("@")
    params = "" if above is None else f"params = {{ above = {above} }}\n"
    return MEMBER.format(name, version, loader, params + more)


def suite(name: str, *candidates: str) -> Suite:
    """One live member, base@1, and candidates."""
    return parse_suite(
        HEAD.format(name) + member("base@1", above=0.9, more='stage = "live"') + "".join(candidates)
    )


class Stage(World):
    """A suite with its registry on a broker; `registry` is what tests write with."""

    def __init__(self, servers: str, suite: Suite, *, session: int = 2000) -> None:
        super().__init__(servers, suite)
        kafka = self.settings.kafka.model_copy(update={"session_timeout": session})
        self.settings = self.settings.model_copy(update={"kafka": kafka})

    async def __aenter__(self) -> Stage:
        await super().__aenter__()
        self.registry = RegistryLog(self.settings.kafka, self.suite.name, keep=True)
        await self.registry.start()
        await self.registry.found(self.suite, "test")
        self._tasks = [asyncio.create_task(self._follow())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.quiet()
        self._tasks.pop().cancel()
        await self.registry.stop()
        await super().__aexit__(*exc)

    async def _follow(self) -> None:
        while True:
            await self.registry.poll(50)

    async def _traffic(self) -> None:
        while True:
            await self.send(20)
            await asyncio.sleep(0.01)

    def traffic(self) -> None:
        """Requests without a pause, until `quiet`."""
        self._tasks.append(asyncio.create_task(self._traffic()))

    async def quiet(self) -> None:
        for task in self._tasks[1:]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        del self._tasks[1:]
        await self.producer.flush()

    async def follow(
        self, stage: Any, *, share: tuple[int, int] = (0, 1), members: Sequence[str] = (), trial: float = 20
    ) -> HostService:
        """A host that follows the registry."""
        host = HostService(
            self.suite, self.settings, stage=stage, members=list(members), name=f"{stage}-{len(self.hosts)}",
            registry=RegistryLog(self.settings.kafka, self.suite.name), share=share,
        )  # fmt: skip
        host._roster._trial = trial  # type: ignore[union-attr]
        self.hosts.append(host)
        await host.start()
        await until(lambda: host.ready or host.crashed)
        assert not host.crashed, host.crash_reason
        return host

    async def crash(self, host: HostService) -> None:
        """End a host without a last commit."""

        async def nothing(**_: Any) -> None: ...

        host._commit = nothing  # type: ignore[method-assign]
        await host.stop()

    async def write(self, kind: Any, member: str, **more: Any) -> None:
        now = self.registry.registry
        token = now.token if kind in EVALUATORS else None
        event = draft(now, kind, member, who="test", why="a test", at=1, token=token, **more)
        await self.registry.append(event)

    async def deploy(self, member: str) -> str:
        """Up to `deploying`; returns the deployment's id."""
        await self.write("approved", member, override=True)
        await self.write("queued", member)
        id = f"{member}-{self.registry.registry.applied}"
        await self.write("deploying", member, deployment=id)
        return id

    async def answered_of(self, member: str) -> Any:
        """Wait until a host has said that it is ready, or refuses; returns the deployment."""
        del member
        await until(lambda: (d := self.registry.registry.deployment) is None or bool(d.ready or d.refused))
        return self.registry.registry.deployment

    async def served(self) -> None:
        """Wait until the revision of today answers everywhere."""
        await until(lambda: len(self.partitions_of(self.registry.registry.revision)) == 2)

    def partitions_of(self, revision: int) -> set[int]:
        """Those that a host has reported to answer with a revision."""
        servings = self.registry.registry.servings
        return {p for p, reports in servings.items() if any(each.revision == revision for each in reports)}

    async def promote(self, member: str) -> None:
        """All of it, up to live."""
        id = await self.deploy(member)
        deployment = await self.answered_of(member)
        assert deployment.ready, deployment
        await self.write("swapped", member, deployment=id)
        await self.served()
        await self.write("promoted", member, deployment=id)

    def caught_up(self, host: HostService) -> bool:
        """Whether a host has done all that was sent."""
        done = {owned.partition: owned.done for owned in host._owned.values()}
        return [done.get(0), done.get(1)] == self.sent

    async def more(self, *hosts: HostService, n: int = 200) -> None:
        """Wait until n more requests have been sent and answered by these hosts."""
        goal = [sent + n // 2 for sent in self.sent]

        def there(host: HostService) -> bool:
            done = {owned.partition: owned.done for owned in host._owned.values()}
            return all(done.get(p, 0) >= at for p, at in enumerate(goal))

        await until(lambda: all(there(host) for host in hosts))

    async def check(self, *covered: str) -> dict[int, int]:
        """What must always be true, with traffic over and all answered. Returns revision → decisions.

        covered: members that must have been scored without a gap from their first position to the end.
        """
        await self.registry.refresh()
        lives = self.registry.registry.lives
        votes, rows = await self.votes(), await self.decisions()
        first = first_votes(votes)
        revisions: dict[tuple[int, int], int] = {}
        for record in votes:
            if record.stage == "live" and record.end > record.start:
                assert record.members == [SUITE, *lives[record.revision]]
                for at in range(record.start, record.end):
                    revisions.setdefault((record.partition, at), record.revision)
        answers: dict[str, set[str]] = defaultdict(set)
        per_revision: dict[int, int] = defaultdict(int)
        for row in rows:
            place = row["partition"], row["offset"]
            assert row["revision"] == revisions[place]
            assert row["fired"] == [name for name in first[place] if name != SUITE]
            assert set(row["fired"]) <= set(lives[row["revision"]])
            assert row["judgement"] == bool(row["fired"])
            answers[row["request_id"]].add(json.dumps(row, sort_keys=True))
            per_revision[row["revision"]] += 1
        assert len(answers) == sum(self.sent)  # nothing is undecided
        assert {len(each) for each in answers.values()} == {1}  # and nothing decided in two ways
        for name in covered:
            for p in (0, 1):
                spans = sorted(
                    (v.start, v.end)
                    for v in votes
                    if v.partition == p and name in v.members and v.end > v.start
                )
                end = spans[0][0]
                for start, stop in spans:
                    assert start <= end, f"{name} has a gap in {p}: [{end}, {start})"
                    end = max(end, stop)
                assert end == self.sent[p], f"{name} ends at {end} of {self.sent[p]} in {p}"
        return dict(per_revision)
