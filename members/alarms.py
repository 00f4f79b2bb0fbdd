"""What a host tells people about itself, on `alerts`: a member that is suspended, and that it falls behind.

Sending never holds the host up: what is to be told waits in a queue of its own until the broker has it.
What lasts is said again and again: a host that was killed or scaled away cannot say that something is over,
so the leading evaluator ends what nobody repeats (evaluator/alerting/unheard.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
#: s after which what lasts is said again, and without a word after which it is over.
REPEAT = 120.0
SILENCE = 3 * REPEAT

Send = Callable[[bytes, bytes], Awaitable[Any]]


@dataclass(slots=True)
class _Lasting:
    """A condition that holds: since when (its name among others), and when the broker last took that (ms)."""

    since: int
    data: dict[str, Any]
    taken: int | None = None


class Alarms:
    """The alarms of one host: pure but for the queue. Times in epoch ms.

    instance: tells hosts of one name apart, and stays when the host starts again. lag_after: age (ms) of the
    requests that are read, from which on the host lags; it has caught up at half. repeat: s.
    """

    def __init__(
        self,
        suite: str,
        host: str,
        stage: str,
        *,
        lag_after: int,
        instance: str = "",
        repeat: float = REPEAT,
    ) -> None:
        self._suite, self._host, self._stage, self._lag_after = suite, host, stage, lag_after
        self._instance, self._repeat = instance, repeat
        self._lasting: dict[tuple[str, str], _Lasting] = {}
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST)

    def suspended(self, member: str, why: str, now: int) -> None:
        """The breaker has taken a member out."""
        self._begin(SUSPENDED, member, now, why=why)

    def resumed(self, member: str, why: str, now: int) -> None:
        """It answers again, or is not asked any more."""
        self._end(SUSPENDED, member, now, why=why)

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
        if age > self._lag_after:
            why = f"it reads requests that are {_say(age)} old, and {behind} are still to be read"
            self._begin(LAGGING, self._host, now, why=why, behind=behind)
        elif age < self._lag_after / 2:
            self._end(LAGGING, self._host, now, why="it has caught up", behind=behind)

    def again(self) -> None:
        """Say again what lasts, in the same words and under the same id: readers know it."""
        for (kind, subject), each in self._lasting.items():
            self._put(kind, subject, "firing", each.since, each.since, each.data)

    def taken(self, event: Mapping[str, Any], now: int) -> None:
        """The broker has this event.

        After a silence it may have been ended meanwhile, and under its old id nobody would hear it: then it
        begins anew.
        """
        each = self._lasting.get((event["type"], event["subject"]))
        if each is None or event["data"]["status"] != "firing":
            return
        if each.taken is not None and now - each.taken > 2 * self._repeat * 1000:
            each.since = now
            self._put(event["type"], event["subject"], "firing", now, now, each.data)
        each.taken = now

    def _begin(self, kind: str, subject: str, now: int, **data: Any) -> None:
        if (kind, subject) not in self._lasting:
            self._lasting[kind, subject] = _Lasting(now, data)
            self._put(kind, subject, "firing", now, now, data)

    def _end(self, kind: str, subject: str, now: int, **data: Any) -> None:
        if (each := self._lasting.pop((kind, subject), None)) is not None:
            self._put(kind, subject, "resolved", each.since, now, data)

    def _put(
        self, kind: str, subject: str, status: str, since: int, now: int, data: Mapping[str, Any]
    ) -> None:
        name = f"{self._suite}|{kind}|{self._host}|{self._instance}|{subject}|{since}|{status}"
        place = {"host": self._host, "instance": self._instance, "stage": self._stage}
        if self.queue.full():
            self.queue.get_nowait()
        event = cloud_event(
            self._suite, kind, subject, name=name, time=now, data={"status": status, **place, **data}
        )
        self.queue.put_nowait(event)

    async def run(self, send: Send) -> None:
        """Send what is in the queue, in order, each until the broker has it; and what lasts, now and then."""
        due = time.monotonic() + self._repeat
        while True:
            event, left = None, due - time.monotonic()
            if left > 0:
                with suppress(TimeoutError):
                    event = await asyncio.wait_for(self.queue.get(), left)
            if event is None:
                due = time.monotonic() + self._repeat
                self.again()
                continue
            await self._send(send, event)
            self.taken(event, time.time_ns() // 1_000_000)

    async def _send(self, send: Send, event: Mapping[str, Any]) -> None:
        while True:
            try:
                await send(event["subject"].encode(), json.dumps(event).encode())
                return
            except KafkaError as error:
                log.debug("an alarm waits for the broker: %r", error)
                await asyncio.sleep(_AGAIN)


def _say(ms: int) -> str:
    return format_duration(ms - ms % 1000) if ms >= 1000 else f"{ms} ms"
