"""Puts what begins and ends on `alerts`: first there, then into Redis. Twice is harmless, never is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from evaluator.alerting.wording import SAID
from evaluator.announce import Announced, changes
from evaluator.frozen import frozen_counts
from evaluator.history import History
from evaluator.label_alarms import label_alarms
from evaluator.store import Store
from streams.suite import Suite

log = logging.getLogger("chorus.evaluator")

#: Of a member that has left the suite: whatever was said of it is over.
_GONE: dict[str, Any] = {"state": "RETIRED", "since": None, "decay": None}


class Announcer:
    """For one evaluator; what was announced stands in the store, so that any of them may go on."""

    def __init__(
        self,
        declared: Suite,
        store: Store,
        history: History,
        send: Callable[[bytes, bytes], Awaitable[None]],
    ) -> None:
        self._declared, self._store, self._history, self._send = declared, store, history, send

    async def announce(self, status: Mapping[str, Any]) -> None:
        """Announce what `status`, judged from `history`, changes. Raises Unavailable, KafkaError."""
        if status["watermark"] is None:
            return
        before = await self._store.announced()
        first = min((start for shard in self._history.shards for start in shard.buckets), default=None)
        block = self._declared.policy.block
        marks = [mark for shard in self._history.shards for mark in shard.labels.values()]
        read = bool(marks) and all(drained for _, drained in marks)
        for key, now, event in label_alarms(status, before, block, first, read=read):
            await self._say(key, now, event)
        await self._verdicts(status, before, block)

    async def _verdicts(self, status: Mapping[str, Any], before: Mapping[str, Announced], block: int) -> None:
        members = status["windows"][0]["members"] if status["windows"] else []
        verdicts = {member["id"]: member["verdict"] for member in members if member["verdict"]}
        suite = self._history.current(self._declared)
        told = {key.partition("|")[0] for key in before if not key.startswith("labels|")}
        verdicts |= dict.fromkeys(told - suite.members.keys(), _GONE)
        args = (suite.name, status["watermark"], verdicts, before, block)
        due = {event["subject"] for _, _, event in changes(*args, {})}
        if not due:
            return
        counts: dict[str, Any] = {}
        if status["labels_through"] is not None:
            matured = status["labels_through"] - status["horizon"]
            counts = frozen_counts(self._history.cells(list(suite.members)), suite, matured, due)
        for key, now, event in changes(*args, counts):
            await self._say(key, now, event)

    async def _say(self, key: str, now: Announced, event: dict[str, Any] | None) -> None:
        if event is None:
            await self._store.announce(key, now)
            return
        await self._send(event["subject"].encode(), json.dumps(event).encode())
        await self._store.announce(key, now)
        level = logging.INFO if SAID[event["type"]][0] == "info" else logging.WARNING
        log.log(level, "%s: %s is %s", event["type"], event["subject"], event["data"]["status"])
