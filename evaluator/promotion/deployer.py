"""Whoever holds the slot writes the next steps into the registry: the thin edge around `steps.next_step`."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from evaluator.history import History
from evaluator.promotion.guardrails import CYCLES, answered_without, answering_since, baked, breach
from evaluator.promotion.slot import hold, release
from evaluator.promotion.steps import READY_WITHIN, View, next_step
from members.registry.lifecycle import Registry
from members.registry.log import Conflict, RegistryLog
from members.registry.marks import ahead
from streams.connect import RedisClient
from streams.suite import DAY, Suite

log = logging.getLogger("chorus.promotion")

#: Events that one look may write: more wait for the next one.
_AT_ONCE = 200


#: s that evidence is behind what was decided, with the logs read, before that is taken for a mistake.
_BEHIND = 120.0
#: Offsets at the end of a log that may hold no record: transactions leave such marks.
_MARKS = 100

#: Log partition (``votes:0``, ``labels:3``, …) → the offset at which it ends now.
Ends = Callable[[], Awaitable[Mapping[str, int]]]


class Deployer:
    """Acts for one evaluator. `leads` says whether it had the slot when it last looked.

    ends: of the logs that the evidence is made of; raises KafkaError. clock: s, going forward only.
    """

    def __init__(
        self,
        declared: Suite,
        registry: RegistryLog,
        client: RedisClient,
        name: str,
        ends: Ends,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._declared, self._log, self._client = declared, registry, client
        self._holder = f"{name}-{uuid.uuid4().hex[:8]}"
        self.leads = self._over = False
        self._holding = asyncio.Lock()
        #: the deployment whose revision was first seen in votes, and the watermark then
        self._seen: tuple[str, int] = ("", 0)
        self._ends, self._clock = ends, clock
        #: the deployment as it stands (id, the revision that it made), and the clock when that was first seen
        self._met: tuple[tuple[str, int | None], float] = (("", None), 0.0)
        #: where the logs ended when the evidence was found to be behind what was decided
        self._missing: Mapping[str, int] | None = None
        #: the clock when they were first found to be read to there
        self._read: float | None = None

    async def act(self, status: Mapping[str, Any], history: History) -> None:
        """Write what is due. Raises Unavailable and KafkaError.

        status: judged from `history`; it counts only where that knew the same live members as there are.
        """
        registry = await self._log.refresh()
        token = await self._hold(registry)
        if token is None:
            return
        view, watermark, judged = self._blind(registry, token), status["watermark"], history.registry
        same = judged is not None and (judged.revision, judged.live) == (registry.revision, registry.live)
        if same and watermark is not None:
            answering, trouble = self._watch(registry, history, watermark)
            view = replace(
                view,
                watermark=watermark,
                labels_through=status["labels_through"],
                verdicts=_verdicts(status),
                gains=gains(status),
                answering=answering,
                breach=trouble,
                complete=await self._complete(registry, history, watermark, status["labels_through"]),
            )
        await self._write(view)

    async def tend(self) -> None:
        """Keep the slot while this evaluator computes or waits; act on what hosts say. Raises Unavailable."""
        if self._waited(self._log.registry) > READY_WITHIN:
            await self._log.refresh()  # it may be this evaluator that did not listen
        if self.leads and (token := await self._hold(self._log.registry)) is not None:
            await self._write(self._blind(self._log.registry, token))

    def _blind(self, registry: Registry, token: int) -> View:
        """What is known without any evidence."""
        now, waited = time.time_ns() // 1_000_000, self._waited(registry)
        return View(registry, self._declared.policy, None, None, now, token, waited)

    async def _write(self, view: View) -> None:
        registry = view.registry
        for _ in range(_AT_ONCE):
            event = next_step(view)
            if event is None:
                return
            event = event.model_copy(update={"at": time.time_ns() // 1_000_000})  # judging took a while
            try:
                after = await self._log.append(event)
            except Conflict as conflict:
                log.info("%s of %s was not written: %s", event.kind, event.member, conflict)
                return
            level = logging.WARNING if event.kind in ("aborted", "rolled_back") else logging.INFO
            log.log(level, "%s: %s (%s)", event.member, event.kind.replace("_", " "), event.why)
            if after.revision != registry.revision:
                return  # the evidence is about another suite now
            view = replace(view, registry=after, waited=self._waited(after))

    async def stop(self) -> None:
        """Let another evaluator have it at once. Raises Unavailable."""
        led, self.leads, self._over = self.leads, False, True
        if led:
            async with self._holding:  # or what is under way would take it again
                await release(self._client, self._declared.name, self._holder)

    async def _hold(self, registry: Registry) -> int | None:
        async with self._holding:
            token = None
            if not self._over:
                token = await hold(self._client, self._declared.name, self._holder, registry.token)
            self.leads = token is not None and not self._over
        return token

    def _waited(self, registry: Registry) -> int:
        """ms since this evaluator first saw the deployment as it stands."""
        deployment, now = registry.deployment, self._clock()
        if deployment is None:
            return 0
        key = (deployment.id, deployment.revision)
        if key != self._met[0]:
            self._met = (key, now)
        return int((now - self._met[1]) * 1000)

    async def _complete(
        self, registry: Registry, history: History, watermark: int, labels: int | None
    ) -> bool:
        """Whether the evidence is behind what was decided, and there is no more to come.

        A member that has just gone in may be behind as well, for a moment: that is waited for.
        """
        if not ahead(registry, watermark, labels):
            self._missing = self._read = None
            return False
        if self._missing is None:
            log.info(
                "the evidence is older than what was decided: nothing is decided until the logs are read"
            )
            self._missing = await self._ends()
        shards = [shard.applied for shard in history.shards]
        if not shards or any(
            applied.get(name, 0) < end - _MARKS for name, end in self._missing.items() for applied in shards
        ):
            self._read = None
            return False
        now = self._clock()
        self._read = now if self._read is None else self._read
        return now - self._read >= _BEHIND

    def _watch(self, registry: Registry, history: History, watermark: int) -> tuple[int | None, str | None]:
        """Event time since which requests are answered with the baking member, later by what was answered
        without it since, and what is wrong with it."""
        deployment, policy = registry.deployment, self._declared.policy
        if deployment is None or deployment.revision is None:
            return None, None
        swapped = deployment.swapped or 0
        start = swapped - swapped % self._declared.bucket
        cells = history.cells([*registry.live, *registry.shadow], start - CYCLES * policy.block)
        since = answering_since(cells, deployment.revision, start)
        if history.revision >= deployment.revision:
            # Where nobody flags anything, votes say that the revision answers, but not since when.
            if self._seen[0] != deployment.id:
                self._seen = (deployment.id, watermark)
            since = max(start, min(since or watermark, self._seen[1]))  # it was in shadow before
        if since is None:
            return None, None
        found = baked(
            cells, deployment.member, registry.live, since, cycle=policy.block, replaced=deployment.replaces
        )
        without = answered_without(cells, deployment.revision, since) * self._declared.bucket
        return max(since, swapped) + without, breach(found, policy)


def _verdicts(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    members = status["windows"][0]["members"] if status["windows"] else []
    return {member["id"]: member["verdict"] for member in members if member["verdict"]}


def gains(status: Mapping[str, Any]) -> dict[str, float | None]:
    """Per member the positives a day that it alone catches, from the longest matured window.

    Its unique requests a day, over what it has covered, times its unique precision; None where no label says.
    """
    matured = [window for window in status["windows"] if window["view"] == "matured" and window["end"]]
    if not matured:
        return {}
    longest = max(matured, key=lambda window: int(window["end"] - window["start"]))
    out: dict[str, float | None] = {}
    for member in longest["members"]:
        verdict = member["verdict"] or {}
        precision = verdict.get("unique_precision")
        if precision is None:
            precision = member["unique"]["precision"]
        days = sum(end - start for start, end in member["covered"]) / DAY
        n = member["unique"]["n"]
        out[member["id"]] = None if precision is None or n is None or not days else n * precision / days
    return out
