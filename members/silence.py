"""What it means when nothing comes: a partition with nothing new, or a broker that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition

from members.ownership import Owned
from streams.metrics import HostMetrics
from streams.settings import Settings

log = logging.getLogger("chorus")

#: Seconds without any answer from the broker after which that is worth a line.
_SILENCE = 5.0


class Silence:
    """Tells idle partitions from a silent broker, for one host's consumer of `topic`."""

    def __init__(self, settings: Settings, topic: str, metrics: HostMetrics) -> None:
        self._settings, self._topic, self._metrics = settings, topic, metrics
        self._silent = False

    def tell(self, consumer: Any, partitions: Iterable[int]) -> None:
        """Say once that nothing is heard from the broker, not even that there is nothing new."""
        polled = [consumer.last_poll_timestamp(TopicPartition(self._topic, each)) for each in partitions]
        heard = max((stamp for stamp in polled if stamp is not None), default=None)
        silent = heard is not None and time.time() - heard / 1000 > _SILENCE
        if silent != self._silent:
            where = self._settings.kafka.bootstrap_servers
            if silent:
                log.warning("the broker at %s does not answer; requests wait until it does", where)
            else:
                log.info("the broker at %s answers again", where)
            self._silent = silent

    def idle(self, consumer: Any, every: Iterable[Owned]) -> Iterator[Owned]:
        """The partitions that have had nothing new for a while, each once."""
        after = self._settings.host.idle_after / 1000
        for owned in every:
            tp = TopicPartition(self._topic, owned.partition)
            behind = self._lag(consumer, tp, owned)
            quiet = time.monotonic() - owned.heard
            if owned.idle_told or owned.under_way or quiet < after or behind:
                continue
            # The broker must have answered since: silence of a broker that is away is no idleness.
            polled = consumer.last_poll_timestamp(tp)
            if polled is not None and time.time() - polled / 1000 < min(quiet, after):
                owned.idle_told = True
                yield owned

    def _lag(self, consumer: Any, tp: TopicPartition, owned: Owned) -> int:
        try:
            high = consumer.highwater(tp)
        except (AssertionError, IllegalStateError):  # unassigned a moment ago
            return 0
        lag = 0 if high is None else max(0, high - owned.position)
        self._metrics.lag.labels(tp.topic, str(tp.partition)).set(lag)
        return lag
