"""Whoever holds the slot writes the next steps into the registry: the thin edge around `steps.next_step`."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evaluator.history import History
from evaluator.promotion.guardrails import baked, breach
from evaluator.promotion.slot import hold, release
from evaluator.promotion.steps import View, next_step
from members.registry.lifecycle import Registry
from members.registry.log import Conflict, RegistryLog
from streams.connect import RedisClient
from streams.suite import DAY, Suite

log = logging.getLogger("chorus.promotion")

#: Events that one look may write: more wait for the next one.
_AT_ONCE = 200


class Deployer:
    """Acts for one evaluator. `leads` says whether it had the slot when it last looked."""

    def __init__(self, declared: Suite, registry: RegistryLog, client: RedisClient, name: str) -> None:
        self._declared, self._log, self._client = declared, registry, client
        self._holder = f"{name}-{uuid.uuid4().hex[:8]}"
        self.leads = False

    async def act(self, status: Mapping[str, Any], history: History) -> None:
        """Write what is due. Raises Unavailable.

        status: judged from `history`; nothing is done where that knew other live members than there are now.
        """
        registry = await self._log.refresh()
        token = await self._hold(registry)
        if token is None or status["watermark"] is None or status["labels_through"] is None:
            return
        judged = history.registry
        if judged is None or (judged.revision, judged.live) != (registry.revision, registry.live):
            return
        view = View(
            registry=registry,
            policy=self._declared.policy,
            watermark=status["watermark"],
            labels_through=status["labels_through"],
            now=time.time_ns() // 1_000_000,
            token=token,
            verdicts=_verdicts(status),
            gains=gains(status),
            breach=self._breach(registry, history),
        )
        for _ in range(_AT_ONCE):
            event = next_step(view)
            if event is None:
                return
            try:
                after = await self._log.append(event)
            except Conflict as conflict:
                log.info("%s of %s was not written: %s", event.kind, event.member, conflict)
                return
            log.warning("%s: %s (%s)", event.member, event.kind.replace("_", " "), event.why)
            if after.revision != registry.revision:
                return  # the evidence is about another suite now
            view = replace(view, registry=after)

    async def renew(self) -> None:
        """Keep the slot while this evaluator computes or waits. Raises Unavailable."""
        if self.leads:
            await self._hold(self._log.registry)

    async def stop(self) -> None:
        """Let another evaluator have it at once. Raises Unavailable."""
        if self.leads:
            await release(self._client, self._declared.name, self._holder)

    async def _hold(self, registry: Registry) -> int | None:
        token = await hold(self._client, self._declared.name, self._holder, registry.token)
        self.leads = token is not None
        return token

    def _breach(self, registry: Registry, history: History) -> str | None:
        deployment = registry.deployment
        if deployment is None or deployment.revision is None:
            return None
        cells = history.cells([*registry.live, *registry.shadow])
        found = baked(cells, deployment.member, registry.live, deployment.revision)
        return breach(found, self._declared.policy)


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
