"""How far the live hosts have come and are behind, and whether what could wait should make way for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from members.finding import committed

log = logging.getLogger("chorus")

_NOBODY = frozenset(("Empty", "Dead"))
#: Seconds without progress after which hosts that are behind are taken not to run. The embedded broker keeps
#: members of a group that are gone; a broker may not let everybody look at a group.
_STILL = 120.0


class Throttle:
    """Says when to pause: live lag beyond `most` records, until it has shrunk to half of that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.on = False

    def update(self, lag: int | None) -> bool:
        """Take in the lag (None: nobody runs live, or it is not known); returns whether to pause."""
        if lag is None:
            self.on = False
        elif lag > self._most:
            self.on = True
        elif lag <= self._most // 2:
            self.on = False
        return self.on


class LiveLag:
    """Looks at what the consumer group `group` has committed, against the ends of its partitions.

    The end that the broker tells may be low by the last batch: `most` should lie well above one. What hosts
    that do not run any more have committed says nothing. clock: seconds.
    """

    def __init__(
        self,
        consumer: Any,
        admin: Any,
        group: str,
        tps: Sequence[TopicPartition],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer, self._admin, self._group, self._tps = consumer, admin, group, list(tps)
        self._throttle, self._clock = Throttle(most), clock
        self._at: dict[TopicPartition, int] = {}
        self._moved = clock()
        #: records; None where nobody runs live
        self.lag: int | None = None
        self._known = False
        self._waiting: dict[TopicPartition, float] = {}

    @property
    def too_far(self) -> bool:
        """Whether to pause."""
        return self._throttle.on

    @property
    def run(self) -> bool:
        """Whether live hosts run, as far as is known."""
        return not self._known or self.lag is not None

    def answered(self, tp: TopicPartition) -> float:
        """The offset before which live hosts have answered everything: infinite where nobody ever ran live, 0
        where that is not known yet."""
        if not self._known:
            return 0
        return self._at.get(tp, 0) if self._at else float("inf")

    def released(self, tp: TopicPartition, records: list[Any]) -> list[Any]:
        """Those of the records that they have answered; lacks one, `waits` until they have come further."""
        end = self.answered(tp)
        if not records or records[-1].offset < end:
            return records
        self._waiting[tp] = end
        return [record for record in records if record.offset < end]

    def waits(self, tp: TopicPartition) -> bool:
        """Whether what comes next there is theirs to answer first, and they run."""
        return self.too_far or (self.run and self.answered(tp) <= self._waiting.get(tp, -1))

    async def look(self) -> None:
        """Bring all of it up to date; where the broker does not answer they stay as they are."""
        try:
            offsets = await committed(self._admin, self._group, self._tps)
            ends = await self._consumer.end_offsets(self._tps)
        except (KafkaError, OSError) as error:
            log.debug("live lag is not known now: %r", error)
            return
        nobody = await self._nobody()
        at = {tp: place.offset for tp, place in offsets.items() if place.offset >= 0}
        if at != self._at:
            self._at, self._moved = at, self._clock()
        lag = sum(max(0, ends[tp] - offset) for tp, offset in at.items())
        still = lag > 0 and self._clock() - self._moved > _STILL
        self.lag = None if not at or nobody or still else lag
        self._known = True
        was = self._throttle.on
        if self._throttle.update(self.lag) != was:
            what = "going on" if was else "pausing until they have caught up"
            told = (
                "no live host runs" if self.lag is None else f"the live hosts are {self.lag} requests behind"
            )
            log.info("%s: %s", told, what)

    async def _nobody(self) -> bool:
        """Whether the broker says that the group has no members; False where it does not say."""
        try:
            answers = await self._admin.describe_consumer_groups([self._group])
        except (KafkaError, OSError) as error:
            log.debug("who runs live is not told: %r", error)
            return False
        groups = [group for answer in answers for group in answer.groups]
        return any(code == 0 and state in _NOBODY for code, _, state, *_ in groups)
