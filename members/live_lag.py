"""How far the live hosts have come and are behind, and whether what could wait should make way for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from members.finding import committed, not_told
from streams.errors import Unavailable
from streams.refusals import explain
from streams.settings import Kafka

log = logging.getLogger("chorus")

_NOBODY = frozenset(("Empty", "Dead"))
#: Seconds without a member after which nobody is taken to run: a restart of the hosts empties their group.
_GONE = 30.0
#: Seconds without progress in a partition after which hosts that are behind there are taken not to run. The
#: embedded broker keeps members of a group that are gone; a broker may not let everybody look at a group.
_STILL = 120.0
#: Seconds after which a broker that has told nothing yet is not asked again.
_PATIENCE = 30.0


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
    that do not run any more have committed says nothing. kafka: which broker, for errors. clock: seconds.
    """

    def __init__(
        self,
        consumer: Any,
        admin: Any,
        group: str,
        tps: Sequence[TopicPartition],
        most: int,
        kafka: Kafka | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer, self._admin, self._group, self._tps = consumer, admin, group, list(tps)
        self._throttle, self._kafka, self._clock = Throttle(most), kafka, clock
        self._at: dict[TopicPartition, int] = {}
        self._began = clock()
        #: when they last came further in a partition, or were at its end
        self._moved = dict.fromkeys(self._tps, self._began)
        self._still: set[TopicPartition] = set()
        #: since when the group has had no members, at every look; None: it has some, or it is not told
        self._empty: float | None = None
        self._gone = False
        #: records, less those of partitions where they are stuck; None where nobody runs live
        self.lag: int | None = None
        self._known = False
        self._waiting: dict[TopicPartition, float] = {}

    @property
    def too_far(self) -> bool:
        """Whether to pause."""
        return self._throttle.on

    def run(self, tp: TopicPartition) -> bool:
        """Whether live hosts run and get on in this partition, as far as is known."""
        return not self._known or (bool(self._at) and not self._gone and tp not in self._still)

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
        return self.too_far or (self.run(tp) and self.answered(tp) <= self._waiting.get(tp, -1))

    async def look(self) -> None:
        """Bring all of it up to date; where the broker does not answer they stay as they are.

        Raises Unavailable where it refuses to tell, or has never told for a while.
        """
        try:
            offsets = await committed(self._admin, self._group, self._tps)
            ends = await self._consumer.end_offsets(self._tps)
        except (KafkaError, OSError) as error:
            self._empty = None
            self._not_told(error)
            return
        nobody, now = await self._nobody(), self._clock()
        self._empty = (now if self._empty is None else self._empty) if nobody else None
        self._gone = self._empty is not None and now - self._empty >= _GONE
        at = {tp: place.offset for tp, place in offsets.items() if place.offset >= 0}
        behind = {tp for tp in self._tps if self._behind(tp, at.get(tp, 0), ends[tp])}
        for tp in self._tps:
            if tp not in behind or at.get(tp) != self._at.get(tp):
                self._moved[tp] = now
        self._at, self._known = at, True
        self._still = {tp for tp in behind if now - self._moved[tp] > _STILL}
        stuck = bool(behind) and behind == self._still
        lag = sum(max(0, ends[tp] - offset) for tp, offset in at.items() if tp not in self._still)
        self.lag = None if not at or self._gone or stuck else lag
        was = self._throttle.on
        if self._throttle.update(self.lag) != was:
            what = "going on" if was else "pausing until they have caught up"
            told = (
                "no live host runs" if self.lag is None else f"the live hosts are {self.lag} requests behind"
            )
            log.info("%s: %s", told, what)

    def _behind(self, tp: TopicPartition, at: int, end: int) -> bool:
        """Whether there is something from `at` on; what was read there shows it where `end` is low."""
        return end > at or self._waiting.get(tp, -1) >= at

    def _not_told(self, error: Exception) -> None:
        """Raises Unavailable where it makes no sense to go on asking."""
        if refused := explain(error, "Read", self._kafka):
            raise Unavailable(refused) from None
        if not self._known and self._clock() - self._began >= _PATIENCE:
            raise not_told(self._group, error) from None
        log.debug("live lag is not known now: %r", error)

    async def _nobody(self) -> bool:
        """Whether the broker says that the group has no members; False where it does not say."""
        try:
            answers = await self._admin.describe_consumer_groups([self._group])
        except (KafkaError, OSError) as error:
            log.debug("who runs live is not told: %r", error)
            return False
        groups = [group for answer in answers for group in answer.groups]
        return any(code == 0 and state in _NOBODY for code, _, state, *_ in groups)
