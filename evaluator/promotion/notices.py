"""What happens in the registry, as CloudEvents on `alerts`: each accepted event once, from where they stand.

How far that has come is committed to Kafka, after the notices are there: none is lost, and one that is sent
again after a crash has the same id.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from members.registry.events import Event
from members.registry.log import Recorded, RegistryLog
from streams.errors import BadRecord
from streams.events import cloud_event

#: Kind of a registry event → type of the notice, and how a deployment was completed by it.
TYPES: dict[str, tuple[str, str | None]] = {
    "added": ("chorus.candidate.added", None),
    "approved": ("chorus.candidate.approved", None),
    "reranked": ("chorus.candidate.reranked", None),
    "superseded": ("chorus.candidate.superseded", "Superseded"),
    "deploying": ("chorus.deployment.started", None),
    "promoted": ("chorus.deployment.completed", "Promoted"),
    "aborted": ("chorus.deployment.aborted", "Aborted"),
    "rolled_back": ("chorus.deployment.rolled_back", "RolledBack"),
    "retired": ("chorus.member.retired", None),
    "back_to_shadow": ("chorus.member.back_to_shadow", None),
}

#: s after which the place is committed again: the broker forgets one that is not for days.
_AGAIN = 3600.0

Send = Callable[[bytes, bytes], Awaitable[None]]
SendLetter = Callable[[Any, BadRecord], Awaitable[None]]


def notices(suite: str, recorded: Sequence[Recorded], since: int) -> Iterator[dict[str, Any]]:
    """The CloudEvents of what was accepted at offset `since` and later. Pure."""
    for each in recorded:
        if each.offset < since or each.ignored is not None or each.event.kind not in TYPES:
            continue
        yield _notice(suite, each.event)


def _notice(suite: str, event: Event) -> dict[str, Any]:
    kind, completion = TYPES[event.kind]
    data: dict[str, Any] = {
        "event": event.kind,
        "completion": completion,
        "who": event.who,
        "why": event.why,
        "revision": event.expected,
        "deployment": event.deployment or None,
        "by": event.by,
        "override": event.override or None,
        "watermark": event.watermark,
        "evidence": event.evidence,
    }
    return cloud_event(suite, kind, event.member, name=event.id, time=event.at, data=data)


class Notices:
    """Sends them for whoever holds the slot, and what was no event of the registry to dead letters.

    `log` keeps its events, and has a consumer group of its own.
    """

    def __init__(self, suite: str, log: RegistryLog, send: Send, send_letter: SendLetter) -> None:
        self._suite, self._log, self._send, self._send_letter = suite, log, send, send_letter
        self._committed = -math.inf

    async def tell(self) -> None:
        """Send what has not been sent, and say that it was. Raises Unavailable and KafkaError."""
        since = await self._log.committed()
        end = self._log.registry.applied
        if since >= end and time.monotonic() - self._committed < _AGAIN:
            return
        for record, error in self._log.bad:
            if record.offset >= since:
                await self._send_letter(record, error)
        for notice in notices(self._suite, self._log.recorded, since):
            await self._send(notice["subject"].encode(), json.dumps(notice).encode())
        await self._log.commit(max(since, end))
        self._committed = time.monotonic()
