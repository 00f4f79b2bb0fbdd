"""The live host's roster: the live members of the registry, changed between two batches.

A member that is deployed is tried in a process of its own, loaded beside those that vote, warmed on recent
requests, and reported `ready` or `refused`. When the registry says that it is swapped in, the next positions
that are handed out belong to the new crew, whose revision and first positions are reported as `serving`.

A host that is started while a member bakes begins as the suite was before, and takes it in in the same way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from members.announcing import Announcer
from members.crew import Crew
from members.errors import LoadError
from members.following import Following
from members.ownership import Owned
from members.panel import Panel, Seat
from members.processes import ended, this_process
from members.registry.events import Event
from members.registry.lifecycle import Deployment
from members.registry.log import Conflict, RegistryLog
from members.swapping import unlike
from members.trial import TOLERATED, TRIAL_AT_MOST, try_member
from streams.batch import Batch
from streams.connect import until_available
from streams.errors import Unavailable
from streams.suite import FeatureType, MemberSpec, Suite

log = logging.getLogger("chorus")

#: Seconds that reading the registry may take when a partition is taken over.
_READ_WITHIN = 1.0
#: Seconds for which that is not tried again where it failed.
_BLIND = 30.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A member that is loaded and does not vote yet; or why it could not be loaded."""

    seat: Seat | None
    refused: str = ""


class LiveRoster(Following):
    """Who is live, by the registry. A Roster.

    recent: a few requests that the host has decoded last. trial: seconds that trying a member may take.
    session: seconds after which a host that is not heard loses its partitions.
    """

    def __init__(
        self,
        registry: RegistryLog,
        panel: Panel,
        *,
        recent: Callable[[], Batch | None],
        trial: float = TRIAL_AT_MOST,
        session: float = 10.0,
        **host: Any,
    ) -> None:
        super().__init__(registry, panel, **host)
        self.crew = Crew((), 0, panel.vote)
        self._recent, self._trial = recent, trial
        self._features: Mapping[str, FeatureType] = {}
        self._preparing: dict[str, asyncio.Task[Prepared]] = {}
        self._attempts: dict[str, str] = {}  # whom they are prepared for: member → deployment
        self._spare: dict[str, Seat] = {}  # displaced, and kept warm while the deployment may be rolled back
        self._suspended: dict[str, str] = {}
        self._ready: set[str] = set()  # ids of deployments of which that was told
        self._refused: set[str] = set()
        self._anew = ""  # the deployment whose member was baking when this host was started
        self._announcer = Announcer(registry, self._owned, self._serving, session=session)
        self._blind = 0.0  # until when (monotonic, s) the registry is not asked for at take-overs

    @property
    def ids(self) -> tuple[str, ...]:
        return self.crew.ids

    async def open(self, declared: Suite) -> Suite:
        """Load the live members, save one that is baking: nobody waits for it."""
        suite = await self._read(declared)
        self._features = suite.features
        revision, baking = self.registry.revision, self._baking()
        if baking is not None:
            # One that ends its process while it votes would do so for ever: a second start is one too many.
            if times := sum(ended(process) for process in baking.starts.get(self.name, {}).values()):
                self._refuse(baking, f"this host ended {times + 1} times while it was baking")
            else:
                self._anew = baking.id
        if baking is None or (before := self._before(baking)) is None:
            await self._begin(revision, baking)
        else:
            await self._begin(before, None)
        return suite

    async def _begin(self, revision: int, baking: Deployment | None) -> None:
        """Take the first crew. What bakes in it is waited for, and abstains where it is refused."""
        ids = self.registry.lives[revision]
        self.panel.enlist(self._spec(name) for name in ids if baking is None or name != baking.member)
        await self.panel.load()
        if baking is not None:
            spec, prepared = self._spec(baking.member), Prepared(None, "it ended this host before")
            if baking.id not in self._refused:
                prepared = await self._prepare(spec)
                if prepared.seat is None:
                    self._refuse(baking, prepared.refused)
            self.panel.seat(prepared.seat or self.panel.suspended(spec, prepared.refused))
        self._take(ids, revision)

    def _before(self, baking: Deployment) -> int | None:
        """The latest revision without the baking member, and without anybody who has been put out since."""
        lives, swap = self.registry.lives, baking.revision or 1
        fit = [
            revision
            for revision, ids in lives.items()
            if revision < swap and baking.member not in ids and all(map(self._may_return, ids))
        ]
        return max(fit, default=None)

    async def _tell_start(self, name: str) -> None:
        """Put on record, before it is asked for anything, that this host was started while a member baked."""
        baking, at = self._baking(), (name, self._anew)
        if baking is None or (baking.member, baking.id) != at:
            return
        why = "the host was started anew while it was baking"
        more = {"deployment": baking.id, "revision": baking.revision, "process": this_process()}
        report = self._report("ready", name, why, **more)  # written twice it is one

        async def write() -> None:
            with suppress(Conflict):  # it does not bake any more
                await self.log.append(report)

        await until_available(write)

    def at(self, partition: int, offset: int) -> tuple[Crew, int | None] | None:
        return self.crew, None

    async def look_up(self, owned: Owned) -> None:
        """Read what an earlier host may have reported of this partition, and be what it was where possible:
        with an older crew from there on, a member that shadow hosts have let go would not be asked at all."""
        if time.monotonic() < self._blind:
            return
        try:
            async with asyncio.timeout(_READ_WITHIN):
                await self.log.refresh()
        except (Unavailable, TimeoutError) as error:
            self._blind = time.monotonic() + _BLIND  # many partitions do not wait one after the other
            log.debug("partition %d is taken over with the registry as it was: %r", owned.partition, error)
        else:
            self.step()

    def enter(self, owned: Owned) -> None:
        self._announcer.take_over(owned, self.crew.revision)

    def on_event(self, kind: str, member: str, detail: str) -> None:
        """Hear what the panel tells of its members."""
        if kind == "suspended":
            self._suspended[member] = detail
        elif kind == "resumed":
            self._suspended.pop(member, None)

    def step(self) -> None:
        self._announcer.listen()
        registry, deployment = self.registry, self.registry.deployment
        wanted = set(registry.live)
        if deployment is not None and deployment.revision is None:
            wanted.add(deployment.member)
            if deployment.member not in self.crew.ids and self._started(deployment.member, deployment):
                self._tell(deployment, self._preparing[deployment.member].result())
        for name in list(self._preparing):
            if name not in wanted:
                self._drop(name)
        self._let_go([self._spare.pop(name) for name in list(self._spare) if not self._may_return(name)])
        if registry.revision != self.crew.revision and not self._announcer.in_doubt:
            self._change()
        self._watch_baking()

    # -- preparing

    def _spec(self, name: str) -> MemberSpec:
        return self.registry.entries[name].spec

    def _started(self, name: str, deployment: Deployment | None = None) -> bool:
        """Whether a member has been prepared (well or not); begins with it where nobody has."""
        if deployment is not None and name in self._preparing and self._attempts.get(name) != deployment.id:
            self._drop(name)  # what went wrong with an earlier deployment may have been mended
        if name not in self._preparing:
            log.info("member %s is tried beside those that answer", name)
            if deployment is not None:
                self._attempts[name] = deployment.id
            self._preparing[name] = asyncio.create_task(self._prepare(self._spec(name)))
        return self._preparing[name].done()

    async def _tried(self, spec: MemberSpec) -> str:
        """Why a member fails in a process of its own; empty where it does not."""
        try:
            found = await try_member(spec, self._features, limit=self._trial)
        except OSError as error:
            return f"{spec.id}: no process could be started to try it in: {error}"
        for each in found:
            if each.code in TOLERATED:
                log.warning("member %s breaks the contract: %s", spec.id, each)
        return next((str(each) for each in found if each.code not in TOLERATED), "")

    async def _prepare(self, spec: MemberSpec) -> Prepared:
        if refused := await self._tried(spec):
            return Prepared(None, refused)
        await self._tell_start(spec.id)
        try:
            seat = await self.panel.prepare(spec)
        except LoadError as error:
            return Prepared(None, str(error))
        batch = self._recent()
        try:
            problem = await self.panel.warm(seat, batch) if batch is not None else None
        except asyncio.CancelledError:
            self._let_go([seat])
            raise
        if problem is not None:
            await self.panel.dismiss([seat])
            return Prepared(None, problem)
        return Prepared(seat)

    def _tell(self, deployment: Deployment, prepared: Prepared) -> None:
        """Report once how a deployment's preparation went."""
        if prepared.seat is None:
            self._refuse(deployment, prepared.refused)
        elif deployment.id not in self._ready:
            self._ready.add(deployment.id)
            why = "loaded, warmed and checked"
            log.info("member %s is ready: %s", deployment.member, why)
            self._reports.append(self._report("ready", deployment.member, why, deployment=deployment.id))

    def _refuse(self, deployment: Deployment, why: str) -> None:
        if deployment.id not in self._refused:
            self._refused.add(deployment.id)
            log.warning("member %s is refused: %s", deployment.member, why)
            sentence = " ".join(why.split())[:1000]
            self._reports.append(
                self._report("refused", deployment.member, sentence, deployment=deployment.id)
            )

    def _drop(self, name: str) -> None:
        """Forget what was prepared, now or when it is ready, and close it."""

        def done(task: asyncio.Task[Prepared]) -> None:
            if not task.cancelled() and (seat := task.result().seat) is not None:
                self._let_go([seat])

        self._attempts.pop(name, None)

        task = self._preparing.pop(name)
        task.cancel()
        task.add_done_callback(done)

    # -- swapping

    def _change(self) -> None:
        """Swap as soon as everybody whom the registry's revision names is there."""
        registry = self.registry
        ids, baking = registry.lives[registry.revision], self._baking()
        if baking is not None and baking.id in self._refused and baking.member not in self.crew.ids:
            return  # it is to be rolled back: that it can be loaded does not bring it back before
        new = [name for name in ids if name not in self.crew.ids and name not in self._spare]
        started = [self._started(name) for name in new]
        if not all(started):
            return
        prepared = {name: self._preparing[name].result() for name in new}
        for name, each in prepared.items():
            if each.seat is None and baking is not None and name == baking.member:
                self._refuse(baking, each.refused)
                return
        for name, each in prepared.items():
            seat = each.seat or self.panel.suspended(self._spec(name), each.refused)
            self._preparing.pop(name)
            self.panel.seat(seat)
        for name in [name for name in ids if name in self._spare]:
            self.panel.seat(self._spare.pop(name))
        self._take(ids, registry.revision)

    def _take(self, ids: tuple[str, ...], revision: int) -> None:
        """The swap: what is handed out from here on is the new crew's."""
        gone = [name for name in self.crew.ids if name not in ids]
        new = [name for name in ids if name not in self.crew.ids]
        if self.crew.revision:
            log.info("revision %d answers: %s", revision, unlike(ids, self.crew.ids) or "the same members")
        view = self.panel.view(ids)
        for name, seat in zip(ids, view.seats, strict=True):
            if name in new:
                seat.pace.clear()
        self.crew = Crew(ids, revision, view.vote, lambda p: self._announcer.announced(revision, p))
        self._announcer.swap(revision)
        out = {name: each for name in gone if (each := self.panel.unseat(name)) is not None}
        self._spare |= {name: seat for name, seat in out.items() if self._may_return(name)}
        self._let_go([seat for name, seat in out.items() if name not in self._spare])
        for name in gone:
            self._suspended.pop(name, None)
        self._look_again()

    def _may_return(self, name: str) -> bool:
        entry = self.registry.entries.get(name)
        return entry is not None and (entry.state == "displaced" or name in self.registry.live)

    def _baking(self) -> Deployment | None:
        """The deployment whose member is in the OR by the registry, and may still be rolled back."""
        deployment = self.registry.deployment
        if deployment is None or deployment.revision is None:
            return None
        return deployment if deployment.member in self.registry.live else None

    def _watch_baking(self) -> None:
        """Refuse a member that is suspended, or slower than its budget, while it bakes."""
        baking = self._baking()
        if baking is None or baking.member not in self.crew.ids:
            return
        if detail := self._suspended.get(baking.member):
            self._refuse(baking, f"suspended while baking: {detail}")
            return
        (seat,) = self.panel.view([baking.member]).seats
        usual = seat.usual()
        if usual is not None and usual > seat.spec.budget_ms:
            self._refuse(
                baking,
                f"slow while baking: {usual:.1f} ms for 256 requests, where {seat.spec.budget_ms:g} ms are "
                "allowed",
            )

    # -- what is said of it

    def _serving(self, revision: int, positions: dict[int, int], **more: Any) -> Event:
        why = f"answers as revision {revision}"
        return self._report("serving", "", why, revision=revision, positions=positions, **more)

    async def _send(self) -> None:
        await super()._send()
        await self._announcer.send()

    async def close(self) -> None:
        tasks = list(self._preparing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        seats = [task.result().seat for task in tasks if not task.cancelled() and not task.exception()]
        seats += list(self._spare.values())
        await self.panel.dismiss([seat for seat in seats if seat is not None])
        await super().close()
