"""What a host tells people about itself, on `alerts`: a member that is suspended, and that it falls behind.

Sending never holds the host up: what is to be told waits in a queue of its own until the broker has it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition

from members.ownership import Owned
from streams.events import cloud_event
from streams.times import format_duration

log = logging.getLogger("chorus")

SUSPENDED, LAGGING = "chorus.member.suspended", "chorus.host.lagging"
#: Events that wait; beyond that the oldest are dropped, having been logged.
_MOST = 1000
_AGAIN = 2.0  # s

Send = Callable[[bytes, bytes], Awaitable[Any]]


class Alarms:
    """The alarms of one host: pure but for the queue. Times in epoch ms.

    lag_after: age (ms) of the requests that are read, from which on the host lags; it has caught up at half.
    """

    def __init__(self, suite: str, host: str, stage: str, *, lag_after: int) -> None:
        self._suite, self._host, self._stage, self._lag_after = suite, host, stage, lag_after
        self._suspended: dict[str, int] = {}
        self._lagging: int | None = None
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST)

    def suspended(self, member: str, why: str, now: int) -> None:
        """The breaker has taken a member out."""
        if member not in self._suspended:
            self._suspended[member] = now
            self._put(SUSPENDED, member, "firing", now, now, why=why)

    def resumed(self, member: str, why: str, now: int) -> None:
        """It answers again, or is not asked any more."""
        if (since := self._suspended.pop(member, None)) is not None:
            self._put(SUSPENDED, member, "resolved", since, now, why=why)

    def look(
        self, consumer: Any, topic: str, every: Iterable[Owned], data: Mapping[Any, Sequence[Any]]
    ) -> None:
        """Judge by what was just read from `topic` (partition → records), and what is still to be read."""
        behind = 0
        for owned in every:
            with suppress(AssertionError, IllegalStateError):  # it went a moment ago
                behind += max(
                    0, (consumer.highwater(TopicPartition(topic, owned.partition)) or 0) - owned.position
                )
        if data or not behind:
            produced = min((records[-1].timestamp for records in data.values() if records), default=None)
            self.read(produced, behind, time.time_ns() // 1_000_000)

    def read(self, produced: int | None, behind: int, now: int) -> None:
        """A record was read that had been produced at `produced`; None where there was none to read.

        behind: records that are still to be read. Old ones at the end of the log are no lag: they may have
        been written with the times of another day.
        """
        age = 0 if produced is None or produced <= 0 or not behind else max(0, now - produced)
        if self._lagging is None and age > self._lag_after:
            self._lagging = now
            why = f"it reads requests that are {_say(age)} old, and {behind} are still to be read"
            self._put(LAGGING, self._host, "firing", now, now, why=why, behind=behind)
        elif self._lagging is not None and age < self._lag_after / 2:
            since, self._lagging = self._lagging, None
            self._put(LAGGING, self._host, "resolved", since, now, why="it has caught up", behind=behind)

    def _put(self, kind: str, subject: str, status: str, since: int, now: int, **data: Any) -> None:
        name = f"{self._suite}|{kind}|{self._host}|{subject}|{since}|{status}"
        told = {"status": status, "host": self._host, "stage": self._stage, **data}
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(cloud_event(self._suite, kind, subject, name=name, time=now, data=told))

    async def run(self, send: Send) -> None:
        """Send what is in the queue, in order, each until the broker has it."""
        while True:
            event = await self.queue.get()
            while True:
                try:
                    await send(event["subject"].encode(), json.dumps(event).encode())
                    break
                except KafkaError as error:
                    log.debug("an alarm waits for the broker: %r", error)
                    await asyncio.sleep(_AGAIN)


def _say(ms: int) -> str:
    return format_duration(ms - ms % 1000) if ms >= 1000 else f"{ms} ms"
