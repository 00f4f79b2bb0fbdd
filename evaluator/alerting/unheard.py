"""Ends what hosts left behind: a condition that its host no longer repeats.

Hosts say again what lasts (members/alarms.py). One that was killed, scaled away or started under another
name does not: what is silent for long enough is over as far as anybody can tell, and the leading evaluator
says so. All evaluators listen, so that whoever comes to lead knows what was heard.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from evaluator.alerting.alert import BY_HOST, Alert
from evaluator.alerting.reading import alerts_of, read_range
from members.alarms import SILENCE
from streams.connect import check_topics, connecting, make_consumer, until_available
from streams.errors import Unavailable
from streams.events import cloud_event
from streams.settings import Kafka
from streams.times import format_duration
from streams.topics import Topics

log = logging.getLogger("chorus.alerts")

_EVERY = 10.0  # s


class Heard:
    """What hosts last said of what lasts. Pure; times in s, of any clock that only goes forward."""

    def __init__(self, silence: float = SILENCE) -> None:
        self.silence = silence
        self._lasting: dict[str, tuple[Alert, float]] = {}

    def hear(self, alert: Alert, now: float) -> None:
        """An event, in the order of the topic."""
        if alert.type not in BY_HOST or alert.notice:
            return
        if alert.status == "firing":
            self._lasting[alert.fingerprint] = (alert, now)
        else:
            self._lasting.pop(alert.fingerprint, None)

    def unheard(self, now: float) -> list[Alert]:
        """What nobody has repeated for `silence`."""
        return [alert for alert, heard in self._lasting.values() if now - heard > self.silence]


def end_of(alert: Alert, silence: float, now: int) -> dict[str, Any]:
    """The CloudEvent that ends it at `now` (ms); the same id whoever says so. silence: s."""
    waited = format_duration(max(1, round(silence)) * 1000)
    why = f"nothing was heard of it for {waited}: the host has gone, or does not reach the broker"
    data = {"status": "resolved", "why": why}
    data |= {name: alert.data[name] for name in ("host", "instance", "stage") if name in alert.data}
    return cloud_event(
        alert.suite, alert.type, alert.subject, name=f"{alert.id}|unheard", time=now, data=data
    )


class Unheard(Service):
    """Listens to `alerts`, and ends what is silent while `leads()`. send(key, value) raises Unavailable."""

    mundane_level = "debug"

    def __init__(
        self,
        suite: str,
        kafka: Kafka,
        send: Callable[[bytes, bytes], Awaitable[None]],
        leads: Callable[[], bool],
        *,
        silence: float = SILENCE,
        every: float = _EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`silence` and `every` (between two looks) in s; so is `clock`."""
        super().__init__()
        self._suite, self._kafka, self._send, self._leads, self._every = suite, kafka, send, leads, every
        self._heard = Heard(silence)
        self._tp = TopicPartition(Topics(suite).alerts, 0)
        self._consumer: AIOKafkaConsumer | None = None
        self._at = 0
        # Time counts only while the broker answers and this process runs: who cannot hear knows no silence.
        self._clock, self._listened, self._last = clock, 0.0, clock()

    async def on_stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = make_consumer(self._kafka)
        async with connecting(self._kafka, consumer.stop):
            await consumer.start()
            await check_topics(consumer, [self._tp.topic])
        consumer.assign([self._tp])
        return consumer

    @Service.task
    async def _listen(self) -> None:
        self._consumer = consumer = await until_available(self._connect)
        while not self.should_stop:
            try:
                await self._look(consumer)
            except (Unavailable, KafkaError) as error:
                log.debug("not listening at the moment: %r", error)
                self._last = self._clock()
            except Exception:  # a mistake in what only tells people must not end the folding
                if not self.should_stop:
                    log.exception("what hosts left behind is not ended at the moment")
                self._last = self._clock()
            await self.sleep(self._every)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Read what is new; then end what is silent. Raises Unavailable, KafkaError."""
        tp = self._tp
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        if self._at > end:  # the topic was made anew
            self._heard, self._at = Heard(self._heard.silence), begin
        records = await read_range(consumer, tp, max(self._at, begin), end)
        now = self._clock()
        self._listened += min(now - self._last, 2 * self._every)
        self._last, self._at = now, end
        for alert in alerts_of(records, self._suite):
            self._heard.hear(alert, self._listened)
        if self._leads():
            for alert in self._heard.unheard(self._listened):
                event = end_of(alert, self._heard.silence, time.time_ns() // 1_000_000)
                await self._send(event["subject"].encode(), json.dumps(event).encode())
                log.warning("%s of %s is over: %s", alert.type, alert.subject, event["data"]["why"])
