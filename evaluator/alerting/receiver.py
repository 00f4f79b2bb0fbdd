"""Delivery to one receiver: in order, until it has everything, and without holding up another.

Each receiver has a consumer group of its own on `alerts`, so that one of the evaluators delivers to it. An
event is posted first, then noted in Redis, then committed to Kafka: a crash between two of these sends it
again, with the id by which receivers know it, and never loses it. Either note may be lost: what Kafka says
was told and Redis does not know is read again from the topic.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from mode import Service

from evaluator.alerting.alert import Alert, decode_alert, wanted
from evaluator.alerting.conditions import Conditions, latest
from evaluator.alerting.memory import Memory
from evaluator.alerting.posting import backoff, body_of, headers_of, post
from evaluator.alerting.reading import read_range
from streams.connect import check_topics, connecting, make_consumer, redis_client, until_available
from streams.errors import BadRecord, Unavailable
from streams.metrics import EvaluatorMetrics
from streams.refusals import explain
from streams.settings import Settings, Webhook
from streams.topics import Topics

log = logging.getLogger("chorus.alerts")

_POLL = 0.5  # s
_AHEAD = 1000  # events read ahead of the one that is being delivered
_PATIENCE = 1.0  # s that a stop waits for an answer

SendLetter = Callable[[Any, BadRecord], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Item:
    """An event to deal with, or what is wrong with its record; `through` is where that leaves the topic."""

    record: Any
    alert: Alert | None
    error: BadRecord | None
    through: int | None


class Receiver(Service):
    """Tells one receiver, while this process has its partition; `send_letter` writes dead letters."""

    mundane_level = "debug"

    def __init__(
        self,
        suite: str,
        settings: Settings,
        webhook: Webhook,
        metrics: EvaluatorMetrics,
        send_letter: SendLetter,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is the wall clock in s: signatures and ages go by it."""
        super().__init__()
        self.suite, self.settings, self.webhook, self.metrics = suite, settings, webhook, metrics
        self._send_letter, self._clock = send_letter, clock
        self._tp = TopicPartition(Topics(suite).alerts, 0)
        self._redis = redis_client(settings.redis)
        self._memory = Memory(self._redis, suite, webhook.name)
        self._consumer: AIOKafkaConsumer | None = None
        self._session: aiohttp.ClientSession | None = None
        self._handing = asyncio.Lock()  # held from a post until it is noted
        self._mine, self._placed, self._turn = False, False, 0
        self._known = Conditions()
        self._pending: deque[_Item] = deque()
        self._through: int | None = None
        self._saved: int | None = None
        self._new_ids: list[str] = []
        self._changed: set[str] = set()
        self._failures, self._not_before = 0, 0.0

    @property
    def ready(self) -> bool:
        """Whether this process is the one that tells the receiver, and knows what it was told."""
        return self._mine and self._placed

    async def on_stop(self) -> None:
        """An answer that is on its way is waited for, a little: else the event would be sent again."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._handing.acquire(), _PATIENCE)
        if self._session is not None:
            await self._session.close()
        if self._consumer is not None:
            await self._consumer.stop()
        await self._redis.aclose()

    async def _connect(self) -> AIOKafkaConsumer:
        kafka = self.settings.kafka
        consumer = make_consumer(kafka, group=f"{self.suite}.webhook.{self.webhook.name}")
        async with connecting(kafka, consumer.stop):
            await consumer.start()
            await check_topics(consumer, [self._tp.topic])
        consumer.subscribe([self._tp.topic], listener=_Assignment(self))
        return consumer

    @Service.task
    async def _deliver(self) -> None:
        self._consumer = consumer = await until_available(self._connect)
        timeout = aiohttp.ClientTimeout(total=self.settings.alerts.timeout / 1000)
        self._session = aiohttp.ClientSession(timeout=timeout)
        said = ""
        while not self.should_stop:
            try:
                await self._round(consumer)
                said = ""
            except (OffsetOutOfRangeError, IllegalStateError):  # retention, or the partition has just gone
                self._placed = False
            except (Unavailable, KafkaError) as error:
                why = explain(error, "Read", self.settings.kafka) or str(error)
                if why != said:
                    log.warning("receiver %s waits: %s; trying again", self.webhook.name, said := why)
                await self.sleep(1.0)
            except Exception:  # a mistake in what only tells people must not end the folding
                log.exception("receiver %s is not told at the moment", self.webhook.name)
                await self.sleep(5.0)

    async def _round(self, consumer: AIOKafkaConsumer) -> None:
        self._show()
        if not self._mine:
            await consumer.getmany(timeout_ms=int(_POLL * 1000))
            return
        if not self._placed:
            await self._place(consumer)
        wait = self._not_before - time.monotonic()
        if wait > 0 or not self._pending:
            if not self._pending:
                await self._note(consumer)
            await self._poll(consumer, min(_POLL, wait) if wait > 0 else _POLL)
        else:
            await self._poll(consumer, 0)
            async with self._handing:
                await self._one(consumer, self._session)

    async def _poll(self, consumer: AIOKafkaConsumer, seconds: float) -> None:
        """Read ahead. It is asked also while nothing is wanted: who never asks is put out of the group."""
        turn = self._turn
        full = len(self._pending) >= _AHEAD
        if self._mine:
            (consumer.pause if full else consumer.resume)(self._tp)
        fetched = await consumer.getmany(timeout_ms=int(seconds * 1000))
        if turn == self._turn and self._placed:
            for record in fetched.get(self._tp, []):
                self._pending.append(self._item(record, record.offset + 1))

    def _item(self, record: Any, through: int | None) -> _Item:
        try:
            return _Item(record, decode_alert(record, self.suite), None, through)
        except BadRecord as error:
            return _Item(record, None, error, through)

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Find out what the receiver knows and where to go on.

        A receiver that is new is told what is firing now, not the whole past.
        """
        turn, tp, name = self._turn, self._tp, self.webhook.name
        known, noted = await self._memory.load()
        committed = await consumer.committed(tp)
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        pending: deque[_Item] = deque()
        again: list[Alert] = []
        if committed is None and noted is None:
            items = [self._item(record, None) for record in await read_range(consumer, tp, begin, end)]
            by_id = {item.alert.id: item for item in items if item.alert is not None}
            pending.extend(by_id[alert.id] for alert in latest(item.alert for item in items if item.alert))
            through = None
            at = end
            # The last of them, or nothing at all, completes the beginning.
            pending.append(_Item(None, None, None, end))
            log.info("receiver %s is new: it is told what is firing now", name)
        else:
            at = through = max(-1 if committed is None else committed, -1 if noted is None else noted)
            if at > end:
                log.warning("receiver %s: %s was made anew, so it is read from its beginning", name, tp.topic)
                at = through = begin
            elif noted is None or noted < at:
                log.info("receiver %s: Redis does not know what it was told; reading that again", name)
                items = [
                    self._item(r, None) for r in await read_range(consumer, tp, max(begin, noted or 0), at)
                ]
                again = [i.alert for i in items if i.alert and wanted(i.alert.type, self.webhook.types)]
                for alert in again:
                    known.told(alert)
            at = max(at, begin)
        if turn != self._turn:
            return
        consumer.seek(tp, at)
        consumer.resume(tp)
        self._known, self._pending, self._through, self._saved = known, pending, through, noted
        self._new_ids = [alert.id for alert in again]
        self._changed = {alert.fingerprint for alert in again}
        self._failures, self._not_before, self._placed = 0, 0.0, True

    async def _one(self, consumer: AIOKafkaConsumer, session: aiohttp.ClientSession | None) -> None:
        """Deal with the event that is next."""
        if not self._pending or not self._placed or session is None:
            return
        turn, item = self._turn, self._pending[0]
        if item.error is not None:
            await self._send_letter(item.record, item.error)
        elif item.alert is not None and not await self._try(item.record, item.alert, session):
            return
        if turn == self._turn:
            self._pending.popleft()
            if item.through is not None:
                self._through = item.through
            if self._new_ids:
                await self._note(consumer)

    async def _try(self, record: Any, alert: Alert, session: aiohttp.ClientSession) -> bool:
        """`_hand`, whatever the event holds: one that cannot be said must not stop an evaluator."""
        try:
            return await self._hand(record, alert, session)
        except (Unavailable, KafkaError):
            raise
        except Exception as error:
            log.exception("the event %s cannot be sent", alert.id)
            await self._send_letter(
                record, BadRecord("malformed", f"no message can be made of it: {error!r}")
            )
            self._note_of(alert, taken=False)
            return True

    async def _hand(self, record: Any, alert: Alert, session: aiohttp.ClientSession) -> bool:
        """Whether the receiver is done with it: it has it, refused it, or need not have it."""
        name = self.webhook.name
        if not wanted(alert.type, self.webhook.types):
            return True
        if self._known.decide(alert) != "send":
            self._count("skipped")
            return True
        now = self._clock()
        starts_at = self._known.starts_at(alert)
        body = body_of(alert, self.webhook, link=self.settings.alerts.link, starts_at=starts_at)
        answer = await post(session, self.webhook, body, headers_of(alert, self.webhook, body, now), now)
        self._count(answer.outcome)
        if answer.outcome == "retried":
            self._later(answer.said, answer.retry_after)
            return False
        if answer.outcome == "refused":
            log.error("receiver %s refused %s of %s (%s): check its url, secret and format; the event is in "
                      "dead letters", name, alert.type, alert.subject, answer.said)  # fmt: skip
            await self._send_letter(record, BadRecord("webhook_refused", f"receiver {name}: {answer.said}"))
        elif self._failures:
            log.warning("receiver %s takes alerts again", name)
        self._note_of(alert, taken=answer.outcome == "delivered")
        self._failures = 0
        return True

    def _note_of(self, alert: Alert, *, taken: bool) -> None:
        """It is done with, also where the receiver did not take it."""
        (self._known.told if taken else self._known.refused)(alert)
        self._new_ids.append(alert.id)
        self._changed |= set() if alert.notice else {alert.fingerprint}

    def _later(self, said: str, retry_after: float) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning(
                "receiver %s does not take alerts: %s; trying again until it does", self.webhook.name, said
            )
        alerts = self.settings.alerts
        wait = backoff(
            self._failures, alerts.retry_first / 1000, alerts.retry_longest / 1000, random.random()
        )
        self._not_before = time.monotonic() + max(wait, retry_after)

    async def _note(self, consumer: AIOKafkaConsumer) -> None:
        """Redis, then Kafka. Neither holds up delivery: each makes up for the other."""
        if self._through != self._saved or self._new_ids:
            try:
                await self._memory.save(self._known, self._through, self._new_ids, self._changed)
                self._new_ids, self._changed = [], set()
            except Unavailable:
                log.debug("not noted yet", exc_info=True)
            if self._through is not None and self._through != self._saved:
                try:
                    await consumer.commit({self._tp: self._through})
                except (KafkaError, ValueError):
                    log.debug("not committed yet", exc_info=True)
                else:
                    self._saved = self._through if not self._new_ids else self._saved

    def _count(self, outcome: str) -> None:
        self.metrics.webhook_deliveries.labels(self.webhook.name, outcome).inc()

    def _show(self) -> None:
        pending, name = self.metrics.webhook_pending, self.webhook.name
        if self.ready:
            times = (item.record.timestamp or 0 for item in self._pending if item.record is not None)
            oldest = next((time for time in times if time > 0), None)
            pending.labels(name).set(0 if oldest is None else max(0.0, self._clock() - oldest / 1000))
        else:
            with suppress(KeyError):
                pending.remove(name)

    def assigned(self) -> None:
        """The partition is ours: it is read once it is known from where."""
        assert self._consumer
        self._consumer.seek(self._tp, 0)
        self._consumer.pause(self._tp)
        self._turn += 1
        self._mine, self._placed = True, False

    async def revoked(self) -> None:
        """What is being handed over is finished first, so that the next evaluator does not repeat it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._handing.acquire(), self.settings.alerts.timeout / 1000 + 1)
            self._handing.release()
        self._turn += 1
        self._mine, self._placed = False, False
        self._pending.clear()


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            await self._receiver.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        if assigned:
            self._receiver.assigned()
