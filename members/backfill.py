"""A backfill: retained requests through a shadow candidate, as fast as it goes, beside everything else.

It reads the partitions of `requests` by assignment, in a consumer group that holds nothing but its progress,
and writes the votes records that a shadow host would have written. What the member has covered already is
left out, so that a backfill which is repeated or goes on after a crash does only what is missing; doing
something twice is harmless, since the first record that covers a position wins.

It ends where the log ended when it began. What the broker says of that may be low (the embedded one's is), so
that it goes on a little: until nothing more comes, or what comes was produced later, or is covered by the
candidate's own host.

It does not overtake the live hosts. A candidate may be promoted at any moment, and is then asked by them from
where they stand, so that their answers would come second where it had been. That where it ends was fixed when
it began is no protection: they may be behind that. What they have answered and committed they never answer
otherwise, whatever the registry says later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from members.careful import CarefulScorer, MemberFailed
from members.finding import Finding
from members.live_lag import LiveLag
from members.ownership import group_of
from members.panel import Panel
from members.registry.log import RegistryLog
from members.replay import Outcome, Place, Progress, after, left, outcome, stretch
from members.sending import Sender
from members.standing import NotAShadow, Standing
from streams.connect import admin_client, answering, check_topics, make_consumer, make_producer
from streams.errors import Unavailable
from streams.metrics import Metrics, set_optional
from streams.refusals import explain
from streams.settings import Settings
from streams.suite import Suite
from streams.topics import Topics

log = logging.getLogger("chorus")

#: partition of `requests` → positions that the member has covered: [a0, b0, a1, b1, …]
Covered = Callable[[], Awaitable[Mapping[int, Sequence[int]]]]

_UNDER_WAY = 4
_TICK = 0.25  # s
_PATIENCE = 5.0  # s
_QUIET = 1.0  # s without anything new after which a partition has ended
#: Records by which the end that the broker tells may be low: more than a producer puts into one batch.
_LOW = 20_000
#: A member may take its time here (ms): nobody waits for the answer.
_GRACE = 10_000


def group_of_backfill(suite: str, member: str) -> str:
    """The consumer group that holds the progress of a member's backfill."""
    return f"{suite}.backfill.{member}"


async def _nothing() -> Mapping[int, Sequence[int]]:
    return {}


class Backfill:
    """One backfill of `member` (an id) from event time `since` (ms) on, or from `back` ms before the newest.

    It begins with the block of evidence that this lies in: only whole blocks count. `covered` tells what the
    member has covered already; `tell` hears of progress. `await run()` does it, `stop()` ends it early.
    """

    def __init__(
        self,
        suite: Suite,
        settings: Settings,
        member: str,
        *,
        since: int | None = None,
        back: int = 0,
        covered: Covered = _nothing,
        tell: Callable[[Progress], None] = lambda progress: None,
        metrics: Metrics | None = None,
        panel: Any = None,
    ) -> None:
        self.suite, self.settings, self.member = suite, settings, member
        self.topics = Topics(suite.name)
        self.group = group_of_backfill(suite.name, member)
        self.places: dict[int, Place] = {}
        self._since, self._back, self._read_covered, self._tell = since, back, covered, tell
        metrics = metrics or Metrics()
        self._metrics, self._shown = metrics.host, metrics.backfill
        patient = {"budget_grace": max(_GRACE, settings.host.budget_grace), "breaker_failures": 1_000_000}
        host = settings.host.model_copy(update=patient)
        spec = suite.members[member]
        self._panel = panel or Panel([spec], host, suite.features, on_event=self._on_member)
        self._covered: Mapping[int, Sequence[int]] = {}
        self._looked = False
        self._batches: set[asyncio.Task[None]] = set()
        self._committed: dict[int, int] = {}
        self._failure: BaseException | None = None
        self._reason = ""
        self._stopping = False
        self._paused = 0.0
        self._total = 0
        self._due = 0.0
        self._consumer: Any = None
        self._producer: Any = None
        self._admin: Any = None
        self._standing = Standing(RegistryLog(settings.kafka, suite.name), member)

    def stop(self) -> None:
        """End soon: what is under way is finished and committed."""
        self._stopping = True

    async def run(self) -> Outcome:
        """Do it. Raises Unavailable, MemberFailed, NotAShadow; what is written by then stays, and counts."""
        watching: asyncio.Task[None] | None = None
        try:
            await self._panel.load()
            if self._reason:
                raise MemberFailed(f"{self.member} cannot be loaded: {self._reason}")
            await self._connect()
            self._began, self._clock = time.time_ns() // 1_000_000, time.monotonic()
            await self._look()
            await self._find()
            watching = asyncio.create_task(self._watch())
            watching.add_done_callback(self._finished)  # it ends only where it fails
            while not self._stopping and any(not place.finished for place in self.places.values()):
                await self._room()
                try:
                    await self._turn()
                except (NoOffsetForPartitionError, OffsetOutOfRangeError):
                    await self._lost_place()
                except (KafkaError, IllegalStateError) as error:
                    why = explain(error, "Read", self.settings.kafka) or str(error) or repr(error)
                    log.warning("requests cannot be read (%s); trying again", why)
                    await asyncio.sleep(1)
            await self._settle()
            return self._outcome()
        finally:
            if watching is not None:
                watching.cancel()
            await self._close()

    # -- where to begin and end

    async def _connect(self) -> None:
        kafka = self.settings.kafka
        self._consumer = make_consumer(kafka, group=self.group, max_partition_fetch_bytes=4 << 20)
        self._producer = make_producer(kafka, max_batch_size=900_000, request_timeout_ms=10_000)
        with answering(kafka):
            await self._consumer.start()
            await self._producer.start()
            wanted = [self.topics.requests, self.topics.votes]
            await check_topics(self._consumer, wanted)
            counts = {topic: len(await self._producer.partitions_for(topic)) for topic in wanted}
        self._admin = await admin_client(kafka)
        await self._standing.start()
        self._tps = [TopicPartition(self.topics.requests, p) for p in range(counts[self.topics.requests])]
        self._consumer.assign(self._tps)
        live, most = group_of(self.suite.name, "live", ()), self.settings.backfill.max_lag
        self._live = LiveLag(self._consumer, self._admin, live, self._tps, most, kafka)
        self._scorer = CarefulScorer(
            self.suite,
            self.settings,
            stage="shadow",
            members=[self.member],
            name=f"backfill {self.member}",
            panel=self._panel,
            sender=Sender(self._producer, kafka.bootstrap_servers),
            metrics=self._metrics,
            partitions=counts,
        )

    async def _find(self) -> None:
        """Where to begin in each partition, less what is covered already."""
        finding = Finding(self._consumer, self._admin, self.suite, self.settings, self._tps)
        self.since, self.places = await finding.places(self.group, self._since, self._back)
        for place in self.places.values():
            self._consumer.seek(place.tp, place.begin)
            covered = self._covered.get(place.tp.partition, ())
            place.target = max(place.target, *covered[-1:], 0)
            self._go_on(place)
            place.cut = place.cut and place.owned.position == place.begin
        self._total = left(self.places, self._covered)

    async def _lost_place(self) -> None:
        """Retention has overtaken the reading: go on at the beginning of what there is."""
        begins = await self._consumer.beginning_offsets(self._tps)
        for place in self.places.values():
            if place.owned.position < begins[place.tp]:
                log.warning("%s was cut: going on at %s", place.tp, begins[place.tp])
                self._jump(place, begins[place.tp])

    # -- the loop

    async def _room(self) -> None:
        """Wait until another batch may be begun. Raises what has failed, beside the loop as well."""
        while len(self._batches) >= _UNDER_WAY:
            await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure

    async def _turn(self) -> None:
        if self._looked:
            self._looked = False
            for place in self.places.values():
                if not place.finished:
                    self._go_on(place)
        reading = self._reading()
        if not reading:
            await asyncio.sleep(_TICK)
            self._paused += _TICK
        else:
            data = await self._consumer.getmany(
                *reading, timeout_ms=int(_TICK * 1000), max_records=self.settings.host.batch
            )
            for tp, records in data.items():
                self._take(self.places[tp.partition], records)
            if not data:
                await self._ended()
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _TICK
            await self._commit()
            self._report()

    def _reading(self) -> list[TopicPartition]:
        every = self.places.values()
        return [each.tp for each in every if not (each.finished or self._live.waits(each.tp))]

    def _take(self, place: Place, records: list[Any]) -> None:
        owned, last = place.owned, False
        records = [record for record in records if record.offset >= owned.position]
        if not records:
            return
        if place.until is not None and records[-1].offset >= place.until:
            records, end = [record for record in records if record.offset < place.until], place.until
        else:
            end = records[-1].offset + 1
        if end > place.target:
            for i, record in enumerate(records):
                if record.offset >= place.target and record.timestamp > self._began:
                    records, end, last = records[:i], record.offset, True
                    break
            last = last or end >= place.target + _LOW
        released = self._live.released(place.tp, records)
        if held := len(released) < len(records):
            records, last = released, not self._live.run(place.tp)
            place.early = last
            end = records[-1].offset + 1 if records else owned.position
        if records:
            self._spawn(place, records, owned.position, end)
        owned.position = max(owned.position, end) if records else owned.position
        place.heard = time.monotonic()
        if held:
            self._consumer.seek(place.tp, owned.position)
        if last:
            place.finished = True
        else:
            self._go_on(place)

    def _go_on(self, place: Place) -> None:
        """Leave out what is covered; a place that ends with that is finished."""
        at, place.until = stretch(self._covered.get(place.tp.partition, ()), place.owned.position)
        if at > place.owned.position:
            self._jump(place, at)
            place.finished = at >= place.target

    def _jump(self, place: Place, at: int) -> None:
        self._spawn(place, [], place.owned.position, at)
        place.owned.position = at
        self._consumer.seek(place.tp, at)

    async def _ended(self) -> None:
        """Finish the places that have nothing more, the broker having said so."""
        for place in self.places.values():
            quiet = time.monotonic() - place.heard
            enough = quiet >= _QUIET + min(1.0, self.settings.kafka.patience / 1000)
            if place.finished or self._live.waits(place.tp) or not enough:
                continue
            polled = self._consumer.last_poll_timestamp(place.tp)
            if polled is None or time.time() - polled / 1000 > quiet:
                continue
            place.finished = await self._consumer.position(place.tp) >= place.target

    def _spawn(self, place: Place, records: list[Any], start: int, end: int) -> None:
        before = place.before
        if not records and before is None:
            place.owned.done = end
            return
        if records:
            work = self._scorer.score(place, records, start, end, self.since, before)
        else:
            work = after(place, end, before)
        place.last = task = asyncio.create_task(work)
        self._batches.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    # -- beside the loop

    async def _watch(self) -> None:
        """Look again and again at what has been covered, what the member is, and how the live hosts are."""
        while True:
            await asyncio.sleep(self.settings.backfill.check_every / 1000)
            await self._look()

    async def _look(self) -> None:
        try:
            self._covered = await self._read_covered()
            self._looked = True
        except Unavailable as error:
            log.debug("what is covered is not known now: %s", error)
        try:
            await self._standing.look()
        except NotAShadow as error:
            self._failure = self._failure or error
        await self._live.look()

    async def _commit(self) -> None:
        done = {p: place.owned.done for p, place in self.places.items()}
        new = {p: at for p, at in done.items() if self._committed.get(p, self.places[p].begin) != at}
        if not new:
            return
        text = str(self.since)
        try:
            offsets = {self.places[p].tp: OffsetAndMetadata(at, text) for p, at in new.items()}
            await asyncio.wait_for(self._consumer.commit(offsets), _PATIENCE)
        except (TimeoutError, KafkaError, IllegalStateError) as error:
            log.debug("progress was not committed, and will be: %r", error)
        else:
            self._committed.update(new)

    async def _settle(self) -> None:
        """Let what is under way end, say that there is nothing more, and commit."""
        if self._batches:
            await asyncio.wait(self._batches, timeout=_PATIENCE if self._stopping else None)
        if self._failure is not None:
            await self._commit()
            raise self._failure
        if not self._stopping:
            for place in self.places.values():
                if place.written or (place.fresh and not self._covered.get(place.tp.partition)):
                    await self._scorer.heartbeat(place.owned)
        await self._commit()
        self._report()

    async def _close(self) -> None:
        for task in self._batches:
            task.cancel()
        clients = [client for client in (self._consumer, self._producer) if client is not None]
        closing = [client.stop() for client in (*clients, self._standing)]
        if self._admin is not None:
            closing.append(self._admin.close())
        await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), _PATIENCE)
        await self._panel.close()

    # -- saying how far it is

    def _report(self) -> None:
        every = list(self.places.values())
        marks = [(at, place.finished) for place in every if (at := place.reached) is not None]
        moving = [mark for mark, finished in marks if not finished]
        reached = min(moving) if moving else max((mark for mark, _ in marks), default=None)
        progress = Progress(
            done=max(0, self._total - left(self.places, self._covered)),
            total=self._total,
            requests=sum(place.requests for place in every),
            event_time=reached,
            seconds=time.monotonic() - self._clock - self._paused,
            throttled=any(not place.finished and self._live.waits(place.tp) for place in every),
            live_lag=self._live.lag,
        )
        self._shown.done.set(progress.done)
        self._shown.wanted.set(progress.total)
        self._shown.throttled.set(progress.throttled)
        set_optional(self._shown.live_lag, progress.live_lag)
        self._scorer.show_watermarks([place.owned for place in every])
        self._tell(progress)

    def _outcome(self) -> Outcome:
        return outcome(self.places, self.since, self.suite.bucket, time.monotonic() - self._clock)

    def _on_member(self, kind: str, member: str, detail: str) -> None:
        self._metrics.member_events.labels(member, kind).inc()
        if kind in ("error", "late"):
            self._reason = detail
            if hasattr(self, "_scorer"):
                self._scorer.reason = detail
