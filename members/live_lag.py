"""How far the live hosts are behind, and whether what could wait should make way for them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

log = logging.getLogger("chorus")


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

    The end that the broker tells may be low by the last batch: `most` should lie well above one.
    """

    def __init__(
        self, consumer: Any, admin: Any, group: str, tps: Sequence[TopicPartition], most: int
    ) -> None:
        self._consumer, self._admin, self._group, self._tps = consumer, admin, group, list(tps)
        self._throttle = Throttle(most)
        #: records; None where nobody has committed anything
        self.lag: int | None = None

    @property
    def too_far(self) -> bool:
        """Whether to pause."""
        return self._throttle.on

    async def look(self) -> None:
        """Bring `lag` and `too_far` up to date; where the broker does not answer they stay as they are."""
        try:
            offsets = await self._admin.list_consumer_group_offsets(self._group, partitions=self._tps)
            ends = await self._consumer.end_offsets(self._tps)
        except (KafkaError, OSError) as error:
            log.debug("live lag is not known now: %r", error)
            return
        behind = [max(0, ends[tp] - at.offset) for tp, at in offsets.items() if at.offset >= 0]
        self.lag = sum(behind) if behind else None
        was = self._throttle.on
        if self._throttle.update(self.lag) != was:
            what = "going on" if was else "pausing until they have caught up"
            log.info("the live hosts are %s requests behind: %s", self.lag, what)
