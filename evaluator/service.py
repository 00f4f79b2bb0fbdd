"""The evaluator: reads votes, labels and dead letters from Kafka and folds them into the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from mode import Service

from evaluator.alerting.receiver import Receiver
from evaluator.alerting.unheard import Unheard
from evaluator.announcer import Announcer
from evaluator.examples.keeper import Keeper
from evaluator.history import History
from evaluator.partition import LABELS, LETTERS, VOTES, LogPartition
from evaluator.promotion.registrar import Registrar
from evaluator.reviewer import Reviewer
from evaluator.status import status_of
from evaluator.store import Store, ensure_meta, layout_of
from members.registry.log import RegistryLog
from streams.connect import (
    answering,
    check_topics,
    connecting,
    make_consumer,
    make_producer,
    ping_redis,
    redis_client,
    until_available,
)
from streams.dead_letters import dead_letter
from streams.errors import BadRecord, Refused, Unavailable
from streams.metrics import EvaluatorMetrics, Metrics, set_optional
from streams.refusals import explain
from streams.settings import Settings
from streams.suite import Suite
from streams.topics import Topics

log = logging.getLogger("chorus.evaluator")

_BEAT = 1.0  # s between empty runs of a partition that is at rest
_LOOK = 5.0  # s between looks at the whole store: expiry, metrics
_KEEP = (100, 10)  # requests that are read in a second as examples, and while the logs are far behind
_BEHIND = 2000  # records: nobody is asked about what stands in a log that is not read yet
_READ = {VOTES: 100, LABELS: 2000, LETTERS: 500}


class EvaluatorService(Service):
    """Any number of these share the partitions; none of them holds anything that the store does not."""

    def __init__(
        self,
        suite: Suite,
        settings: Settings,
        *,
        name: str = "evaluator",
        metrics: Metrics | None = None,
        group: bool = True,
        registry: RegistryLog | None = None,
    ) -> None:
        """`group=False` reads every partition by itself, beside any other evaluator: for a rebuild.

        Without `registry` the members are those of the suite file, and nobody is promoted.
        """
        super().__init__()
        self.ready = False
        self.suite, self.settings, self.host_name = suite, settings, name
        self.metrics: EvaluatorMetrics = (metrics or Metrics()).evaluator
        self.topics = Topics(suite.name)
        self.kinds = {self.topics.votes: VOTES, self.topics.labels: LABELS, self.topics.dead_letters: LETTERS}
        self.redis = redis_client(settings.redis)
        self.store = Store(self.redis, suite.name, layout_of(suite, settings.redis.shards))
        self.history = History(self.redis, suite.name)
        self._send_alert = partial(self._send, self.topics.alerts)
        self._announcer = Announcer(suite, self.store, self.history, self._send_alert)
        self.registrar: Registrar | None = None
        if registry is not None:
            self.registrar = Registrar(
                suite, registry, self.redis, name,
                send_alert=self._send_alert, send_letter=self._send_letter, ends=self._ends,
            )  # fmt: skip
        self.partitions: dict[TopicPartition, LogPartition] = {}
        self.reviewer = Reviewer(
            suite, settings, self.store, self.history, partial(self._send, self.topics.reviews)
        )
        self.keeper = Keeper(suite, settings, self.store)
        self._group = group
        self._unplaced: set[TopicPartition] = set()
        self._beyond: set[TopicPartition] = set()
        self._moved: dict[TopicPartition, float] = {}
        self._beaten: dict[TopicPartition, float] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._lags: dict[TopicPartition, int] = {}
        self._counts: Counter[str] = Counter()

    mundane_level = "debug"

    async def on_start(self) -> None:
        """Nothing is read before the store is there and laid out as this evaluator means it to be."""
        await until_available(lambda: ping_redis(self.redis, self.settings.redis))
        await until_available(lambda: ensure_meta(self.redis, self.suite.name, self.store.layout))
        if self.registrar is not None:
            await self.add_runtime_dependency(self.registrar)
        await until_available(self._connect)
        for webhook in self.settings.alerts.webhooks if self._group else ():
            args = (self.suite.name, self.settings, webhook, self.metrics, self._send_letter)
            await self.add_runtime_dependency(Receiver(*args))
        if self._group:
            more = (self.settings.kafka, self._send_alert, lambda: self._leads)
            await self.add_runtime_dependency(Unheard(self.suite.name, *more))

    async def _connect(self) -> None:
        """Connect and begin to read. Raises Unavailable, and leaves nothing open then."""
        kafka = self.settings.kafka
        self._producer = producer = make_producer(kafka)
        self._consumer = consumer = make_consumer(
            kafka,
            group=f"{self.suite.name}.evaluator" if self._group else None,
            max_partition_fetch_bytes=4_000_000,
        )
        async with connecting(kafka, self._close):
            await producer.start()
            await consumer.start()
            await check_topics(consumer, self.kinds)
            every = [
                TopicPartition(topic, number)
                for topic in self.kinds
                for number in sorted(await producer.partitions_for(topic))
            ]
        self._counts = Counter(tp.topic for tp in every)
        if self._group:
            consumer.subscribe(list(self.kinds), listener=_Assignment(self))
        else:
            consumer.assign(every)
            self.assigned(every)

    async def _close(self) -> None:
        for client in (self._consumer, self._producer):
            if client is not None:
                await client.stop()

    async def on_stop(self) -> None:
        if self.registrar is not None:  # what it waits for must not be closed under it
            await self.registrar.stop()
        await self._close()
        await self.keeper.close()
        await self.redis.aclose()

    def assigned(self, partitions: list[TopicPartition]) -> None:
        """These partitions are ours now; they are read once the store has said from where."""
        assert self._consumer
        for tp in partitions:
            self._consumer.seek(tp, 0)
            self._consumer.pause(tp)
            self._unplaced.add(tp)

    def revoked(self, partitions: list[TopicPartition]) -> None:
        """Nothing to hand over: the store knows how far it is."""
        for tp in partitions:
            self.partitions.pop(tp, None)
            self._unplaced.discard(tp)

    @property
    def at_rest(self) -> bool:
        """Whether every partition has been read to where nothing more came for a while."""
        now = time.monotonic()
        return (
            bool(self.partitions)
            and not self._unplaced
            and all(
                now - self._moved.get(tp, now) > self.settings.host.idle_after / 1000
                for tp in self.partitions
            )
        )

    @property
    def _leads(self) -> bool:
        """Whether this evaluator speaks for all."""
        return self.registrar is None or self.registrar.leads

    @property
    def _caught_up(self) -> bool:
        return not self._unplaced and all(self._lags.get(tp, 0) <= _BEHIND for tp in self.partitions)

    @property
    def positions(self) -> dict[str, int]:
        """Log partition → the offset up to which it is folded."""
        return {partition.log: partition.position for partition in self.partitions.values()}

    @Service.task
    async def _fold(self) -> None:
        assert self._consumer
        delay, said = 0.2, ""
        while not self.should_stop:
            try:
                await self._round(self._consumer)
                delay, said = 0.2, ""
                self.ready = True
            except (Unavailable, KafkaError) as error:
                # What was under way may have gone in or not: the store is asked again.
                why = explain(error, "Read", self.settings.kafka) or str(error)
                if why != said and not self.should_stop:
                    log.warning("%s; trying again", said := why)
                self._unplaced |= set(self.partitions)
                await asyncio.sleep(delay)
                delay = min(5.0, delay * 1.6)

    async def _round(self, consumer: AIOKafkaConsumer) -> None:
        for tp in list(self._unplaced):
            await self._place(consumer, tp)
        try:
            fetched = await consumer.getmany(timeout_ms=100, max_records=2000)
        except OffsetOutOfRangeError as error:
            self._unplaced |= set(error.args[0])
            self._beyond |= set(error.args[0])
            return
        now = time.monotonic()
        work = []
        for tp, records in fetched.items():
            if tp in self.partitions and tp not in self._unplaced:
                self._moved[tp] = now
                work.append(self._apply(tp, self.partitions[tp], records, consumer))
        for tp, partition in self.partitions.items():
            if tp not in fetched and tp not in self._unplaced and now - self._beaten.get(tp, 0.0) > _BEAT:
                self._beaten[tp] = now
                drained = now - self._moved.get(tp, now) > self.settings.host.idle_after / 1000
                work.append(self._beat(tp, partition, drained))
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _apply(
        self, tp: TopicPartition, partition: LogPartition, records: list[Any], consumer: AIOKafkaConsumer
    ) -> None:
        fresh = [record for record in records if record.offset >= partition.position]
        if fresh and not await partition.apply(fresh, fresh[-1].offset + 1):
            self._unplaced.add(tp)
        high = consumer.highwater(tp) if tp in consumer.assignment() else None  # it may have gone by now
        if high is not None:
            self._lags[tp] = high - partition.position
            self.metrics.lag.labels(tp.topic, tp.partition).set(max(0, high - partition.position))

    async def _beat(self, tp: TopicPartition, partition: LogPartition, drained: bool) -> None:
        if not await partition.beat(drained=drained):
            lost = f"{partition.log} from offset {partition.position} on"
            log.warning("the store has lost %s; reading it again", lost)
            self._unplaced.add(tp)

    async def _place(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        """Go on reading from where the shards stand, and declare what retention has cut before it."""
        if tp not in consumer.assignment():  # it has gone to another evaluator meanwhile
            self.revoked([tp])
            return
        partition = self.partitions.get(tp)
        if partition is None:
            partition = self.partitions[tp] = LogPartition(
                self.kinds[tp.topic],
                tp.partition,
                self._counts[tp.topic],
                self.store,
                self.suite,
                self.settings,
                self.metrics,
                self._send_letter,
                self._known,
            )
        await ensure_meta(self.redis, self.suite.name, self.store.layout)
        position = await partition.load()
        beginning = (await consumer.beginning_offsets([tp]))[tp]
        if position < beginning:
            await partition.skip_to(beginning)
        elif tp in self._beyond:
            self._beyond.discard(tp)
            raise Unavailable(
                f"the store has {partition.log} up to offset {position}, which the broker does not have: "
                "if the topic was made anew, run `chorus rebuild`"
            )
        if tp not in consumer.assignment():
            return
        consumer.seek(tp, partition.position)
        consumer.resume(tp)
        self._unplaced.discard(tp)
        self._moved[tp] = time.monotonic()

    async def _send_letter(self, record: Any, error: BadRecord) -> None:
        key, value = dead_letter(record, error, self.host_name)
        await self._send(self.topics.dead_letters, key, value)
        log.warning("%s/%d/%d goes to dead letters: %s", record.topic, record.partition, record.offset, error)

    async def _known(self, asked: Collection[str]) -> set[str]:
        """The members that there are; a registry that lacks one of those asked for is read again first."""
        if self.registrar is None:
            return set(self.suite.members)
        if not self.registrar.known.issuperset(asked):
            await self.registrar.refresh()
        return self.registrar.known

    async def _ends(self) -> dict[str, int]:
        """Log partition of votes and labels → where it ends now, whoever reads it."""
        assert self._consumer
        names = {
            TopicPartition(topic, number): f"{kind}:{number}"
            for topic, kind in self.kinds.items() if kind != LETTERS for number in range(self._counts[topic])
        }  # fmt: skip
        return {names[tp]: end for tp, end in (await self._consumer.end_offsets(list(names))).items()}

    async def _send(self, topic: str, key: bytes, value: bytes) -> None:
        """Raises Unavailable."""
        assert self._producer
        with answering(self.settings.kafka, "Write"):
            await self._producer.send_and_wait(topic, value, key=key)

    @Service.task
    async def _keep_examples(self) -> None:
        while not self.should_stop and self._group and self.settings.examples.per_day:
            ours = [tp.partition for tp in self.partitions if tp.topic == self.topics.votes]
            try:
                most = _KEEP[0 if self._caught_up else 1]
                await self.keeper.round(frozenset(ours), self._counts[self.topics.votes], most)
            except (Unavailable, KafkaError):
                pass  # the other tasks say so
            except Exception:  # a mistake in what is only for looking at must not end the folding
                log.exception("examples are not kept at the moment")
            await self.sleep(1.0)

    @Service.task
    async def _look(self) -> None:
        said = ""
        while not self.should_stop:
            try:
                if await self.history.refresh():
                    status = status_of(self.suite, self.history, self.settings.host.leap)
                    await self._expire(status)
                    self._show(status)
                    if self.registrar is not None and self._group and self._caught_up:
                        await self.registrar.look(status, self.history)
                    if self._leads:
                        await self._announcer.announce(status)
                    if self._group and self._caught_up:
                        await self.reviewer.ask(status)
                said = ""
            except (Unavailable, KafkaError) as error:
                # That the broker or the store does not answer the other task says.
                why = (
                    str(error) if isinstance(error, Refused) else explain(error, "Read", self.settings.kafka)
                )
                if why is not None and why != said:
                    log.warning("%s; trying again", said := why)
            await self._rest()

    async def _rest(self) -> None:
        """Until the next look is due: sooner when the registry has changed."""
        changed = self.registrar.changed if self.registrar is not None else asyncio.Event()
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), _LOOK)
        changed.clear()

    async def _expire(self, status: Mapping[str, Any]) -> None:
        """Time is the least of the live members' watermarks and of what the labels have come to."""
        times = [status["watermark"], status["labels_through"]]
        if None in times:
            return
        oldest = min(times) - self.suite.retention_ms - status["horizon"]
        keep = oldest // self.store.layout.generation
        for shard in self.store.shards:
            if keep > 0 and (dropped := await self.store.expire(shard, keep)):
                log.info("dropped %d generations of shard %d: event time has passed them", dropped, shard)

    def _show(self, status: Mapping[str, Any]) -> None:
        metrics, counters = self.metrics, status["counters"]
        watermark, through = status["watermark"], status["labels_through"]
        set_optional(metrics.watermark, None if watermark is None else watermark / 1000)
        set_optional(metrics.delay, None if watermark is None else time.time() - watermark / 1000)
        set_optional(metrics.labels_through, None if through is None else through / 1000)
        metrics.pending.set(counters["pending_labels"])
        metrics.late.set(counters["late"])
        metrics.gaps.set(counters["gaps"])
        metrics.gap_records.set(counters["gap_records"])
        metrics.dead_letters.set(counters["dead_letters"])
        metrics.show(status)


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, service: EvaluatorService) -> None:
        self._service = service

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._service.revoked(list(revoked))

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._service.assigned(list(assigned))
