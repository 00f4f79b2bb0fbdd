"""The partitions of `requests` that a host has, and how they come and go."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from aiokafka import ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from members.recovery import Replay
from members.sending import Sender
from streams.settings import Host
from streams.suite import Stage
from streams.watermark import Watermark


@dataclass(slots=True, eq=False)
class Owned:
    """One partition while this host has it. Positions are offsets of `requests`; times are monotonic, s."""

    partition: int
    watermark: Watermark
    #: where the next batch begins, handed out to be scored
    position: int = 0
    #: up to where everything has been written
    done: int = 0
    #: the offset on `votes` of the last record up to `done`, from which a successor has to read
    tail: int | None = None
    replay: Replay = field(default_factory=Replay)
    lost: bool = False
    #: writes what belongs to the partition, where that has transactions of its own
    sender: Sender | None = None
    #: keeps the batches of the partition in order while two are under way
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    under_way: int = 0
    #: batches that are scored and wait for `order`, of the crew that wrote last, whose `revision` that is
    ready: int = 0
    revision: int = -1
    heard: float = field(default_factory=time.monotonic)
    idle_told: bool = False
    #: which revision answers from where on, since this host has it (members/announcing.py); taken: since when
    steps: list[tuple[int, int]] = field(default_factory=list)
    taken: float = field(default_factory=time.monotonic)
    #: the offset in the registry's log of the last report that was acted on here (members/sharing.py)
    mark: int | None = None

    @property
    def wanted(self) -> bool:
        """Whether work for this partition is still this host's business."""
        return not self.lost


def new(partition: int, host: Host) -> Owned:
    """A partition that this host does not know yet."""
    return Owned(partition, Watermark(host.leap, host.agree))


def group_of(suite: str, stage: Stage, members: Iterable[str]) -> str:
    """The consumer group of a host: one for the live hosts, one for each set of shadow candidates."""
    if stage == "live":
        return f"{suite}.live"
    joined = "+".join(sorted(members))
    if len(joined) > 150:
        joined = hashlib.sha256(joined.encode()).hexdigest()[:16]
    return f"{suite}.shadow.{joined}"


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes rebalances on as partition numbers."""

    def __init__(
        self,
        revoked: Callable[[Iterable[int]], Awaitable[None]],
        assigned: Callable[[Iterable[int]], Awaitable[None]],
    ) -> None:
        self._revoked, self._assigned = revoked, assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._revoked([tp.partition for tp in revoked])

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._assigned([tp.partition for tp in assigned])
