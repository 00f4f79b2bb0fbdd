"""The member host: reads requests in batches, lets its members vote, and writes what they said.

What a live host does with a batch, in this order, is a write-ahead log (members/recovery.py reads it):

1. decode and score it;
2. write the votes record and wait for it to be there;
3. write the decisions and the dead letters and wait for them;
4. commit the offset of `requests` (throttled);
5. commit how far back on `votes` a successor has to read (throttled, after 4).

Where the broker has transactions, 2 to 4 are one of them (members/transactions.py). A shadow host does 1, 2
and 4, in a consumer group of its own. Batches of one partition are written in order; while one waits for the
broker the next is scored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition
from mode import Service

from members.batches import Scorer
from members.crew import Fixed, arrange, share_out
from members.deploying import LiveRoster
from members.ownership import Listener, Owned, group_of, new
from members.panel import Panel
from members.recovery import Found, Replay, Tail
from members.registry.log import RegistryLog
from members.sending import Abandoned, Sender, briefly
from members.sharing import ShadowRoster
from members.silence import Silence
from members.transactions import Transactions, open_transactions
from streams.connect import check_topics, make_consumer, make_producer, no_broker, until_available
from streams.errors import Unavailable
from streams.metrics import Metrics
from streams.settings import Settings
from streams.suite import Stage, Suite
from streams.topics import Topics
from streams.watermark import Watermark

log = logging.getLogger("chorus")

#: Batches under way at once: some wait for the broker while the next is scored.
_UNDER_WAY = 4
#: Seconds.
_TICK = 0.25


class HostService(Service):
    """Runs `members` (ids) of the suite over its requests. `ready` once it has its first partitions.

    With a `registry`, which is this host's own from then on, it runs the members that stand there instead and
    follows its changes: a live host all live ones, a shadow host its `share` (number, of how many).
    """

    mundane_level = "debug"

    def __init__(
        self,
        suite: Suite,
        settings: Settings,
        *,
        stage: Stage,
        members: list[str],
        name: str,
        metrics: Metrics | None = None,
        panel: Any = None,
        registry: RegistryLog | None = None,
        share: tuple[int, int] = (0, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ready = False
        self.suite, self.settings, self.stage, self.members, self.name = suite, settings, stage, members, name
        self.topics = Topics(suite.name)
        self.group = group_of(suite.name, stage, members)
        self._metrics = (metrics or Metrics()).host
        self._silence = Silence(settings, self.topics.requests, self._metrics)
        self._said = ""
        self._tick = int(min(_TICK * 1000, settings.host.commit_every, settings.host.idle_after / 2))
        specs = [] if registry else [suite.members[each] for each in members]
        self._panel = panel or Panel(specs, settings.host, suite.features, on_event=self._on_member)
        self._owned: dict[int, Owned] = {}
        self._fresh: dict[int, Owned] = {}
        self._assigned_once = False
        self._batches: set[asyncio.Task[None]] = set()
        self._committed: dict[int, int] = {}
        self._commit_due = 0.0
        self._consumer: Any = None
        self._producer: Any = None
        self._tail: Tail | None = None
        self._transactions: Transactions | None = None
        self._main: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._roster: Fixed | LiveRoster | ShadowRoster = Fixed(members, self._panel)
        if registry is not None:
            host: dict[str, Any] = {"name": name, "owned": self._owned, "under_way": lambda: self._batches}
            if stage == "live":
                recent = lambda: self._scorer.recent if hasattr(self, "_scorer") else None  # noqa: E731
                self._roster = LiveRoster(registry, self._panel, recent=recent, **host)
            else:
                self.group = f"{suite.name}.shadow.{share[0]}of{share[1]}"
                host |= {"kafka": settings.kafka, "topic": self.topics.requests, "group": self.group}
                self._roster = ShadowRoster(registry, self._panel, share=share, **host)

    # -- start and stop

    async def on_start(self) -> None:
        """Begin to look for the broker; returns at once, `ready` says when it has been found."""
        self._main = asyncio.create_task(self._run())
        self._main.add_done_callback(self._ended)

    async def on_stop(self) -> None:
        """Finish the batches under way (briefly), commit, leave the group."""
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait({self._main}, timeout=1)
        if self._batches:
            await asyncio.wait(self._batches, timeout=1)
        for task in self._batches:
            task.cancel()
        if self._following is not None:
            self._following.cancel()
        if self._consumer is not None:
            await briefly(self._commit(force=True))
        await briefly(self._close())
        await briefly(self._roster.close())
        await briefly(self._panel.close())

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Crash, as `Service.crash` does, without its traceback: run_worker tells why in one line."""
        log.debug("host %s failed", self.name, exc_info=error)
        self.ready = False
        self._crash(error)

    async def _run(self) -> None:
        self.suite = await self._roster.open(self.suite)
        self.members = list(self._roster.ids)
        await until_available(self._connect)
        self._following = asyncio.create_task(self._roster.run())
        self._following.add_done_callback(self._ended)
        while not self.should_stop:
            try:
                await self._turn()
            except Abandoned:
                continue
            except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
                await self._lost_place(error)
            except (KafkaError, IllegalStateError) as error:
                self._tell(error)
                await asyncio.sleep(_TICK)
            else:
                self._said = ""

    def _tell(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        # That a partition has just gone to another host is no trouble.
        if not isinstance(error, IllegalStateError) and text != self._said:
            log.warning("requests cannot be read (%s); trying again until they can", text)
            self._said = text

    async def _connect(self) -> None:
        """Connect and check the topics. Raises Unavailable, and leaves nothing open then."""
        kafka = self.settings.kafka
        self._consumer = make_consumer(kafka, group=self.group, max_partition_fetch_bytes=4 << 20)
        self._producer = make_producer(kafka, max_batch_size=900_000, request_timeout_ms=10_000)
        if self.stage == "live":
            group = f"{self.suite.name}.live.tail"
            tail = make_consumer(kafka, group=group, max_partition_fetch_bytes=4 << 20)
            self._tail = Tail(tail, self.topics.votes)
        try:
            await self._consumer.start()
            await self._producer.start()
            wanted = [self.topics.requests, self.topics.votes]
            if self._tail is not None:
                await self._tail.consumer.start()
                wanted += [self.topics.decisions, self.topics.dead_letters]
                self._transactions = await open_transactions(kafka, wanted[0], self.group, self._again)
            await check_topics(self._consumer, wanted)
            counts = {topic: len(await self._producer.partitions_for(topic)) for topic in wanted}
        except KafkaError:
            await self._close()
            raise Unavailable(no_broker(kafka)) from None
        except Unavailable:
            await self._close()
            raise
        votes = counts[self.topics.votes]
        if self._tail is not None:
            if votes < counts[self.topics.requests]:
                log.warning(
                    "%s has fewer partitions than %s: a host that takes over has to read all of it",
                    self.topics.votes,
                    self.topics.requests,
                )
            every = [TopicPartition(self.topics.votes, i) for i in range(votes)]
            self._tail.consumer.assign(every)
            self._tail.consumer.pause(*every)
        self._scorer = Scorer(
            self.suite,
            self.settings,
            stage=self.stage,
            members=self.members,
            name=self.name,
            panel=self._panel,
            sender=Sender(self._producer, kafka.bootstrap_servers),
            metrics=self._metrics,
            partitions=counts,
        )
        self._consumer.subscribe([self.topics.requests], listener=Listener(self._revoked, self._assigned))

    async def _close(self) -> None:
        tail = self._tail.consumer if self._tail else None
        every = (self._transactions, self._consumer, tail, self._producer)
        self._consumer = self._producer = self._tail = None
        await asyncio.gather(*(each.stop() for each in every if each is not None), return_exceptions=True)

    # -- the loop

    async def _turn(self) -> None:
        """One round: take over what is new, read, hand out, commit, tell what is idle."""
        if fresh := {p: owned for p, owned in self._fresh.items() if owned.wanted}:
            await self._take_over(fresh)
        for each in [owned for owned in self._owned.values() if owned.wanted]:
            await arrange(self._roster, self._consumer, self._tp(each.partition), each, self._batches)
        self.ready = self.ready or self._assigned_once
        while len(self._batches) >= _UNDER_WAY:
            await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)
        began = time.perf_counter()
        data = await self._consumer.getmany(timeout_ms=self._tick, max_records=self.settings.host.batch)
        if data:
            self._metrics.stage.labels("fetch").observe(time.perf_counter() - began)
        for tp, records in data.items():
            owned = self._owned.get(tp.partition)
            if owned is not None and owned.wanted and records:
                owned.heard, owned.idle_told = time.monotonic(), False
                for crew, part, start, end in share_out(self._roster, tp.partition, records, owned.position):
                    owned.position = end
                    self._spawn(owned, self._scorer.batch(owned, part, start, end, crew))
                if owned.position <= records[-1].offset:  # a member is still being loaded
                    self._consumer.seek(tp, owned.position)
        if not data and not self._batches:
            self._silence.tell(self._consumer, self._owned)
        for owned in self._silence.idle(self._consumer, list(self._owned.values())):
            found = self._roster.at(owned.partition, owned.done)
            if found is not None and (found[0].ids or self.stage == "live"):
                self._spawn(owned, self._scorer.heartbeat(owned, found[0]))
        await self._commit()

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topics.requests, partition)

    def _spawn(self, owned: Owned, work: Any) -> None:
        owned.under_way += 1

        async def run() -> None:
            try:
                await work
            except Abandoned:
                pass
            finally:
                owned.under_way -= 1

        task = asyncio.create_task(run())
        self._batches.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._ended(task)

    # -- offsets

    async def _commit(self, *, force: bool = False) -> None:
        """Steps 4 and 5, when they are due."""
        now = time.monotonic()
        if not force and now < self._commit_due:
            return
        self._scorer.show_watermarks(self._owned.values(), self._roster.ids)
        done = {p: owned.done for p, owned in self._owned.items() if owned.done != self._committed.get(p)}
        tails = {p: owned.tail for p, owned in self._owned.items() if owned.tail is not None}
        began = time.perf_counter()
        if done:
            self._commit_due = now + self.settings.host.commit_every / 1000
            # A transaction has committed its own.
            offsets = {self._tp(p): offset for p, offset in done.items() if self._owned[p].sender is None}
            try:
                if offsets:
                    await self._consumer.commit(offsets)
            except (KafkaError, IllegalStateError) as error:
                log.debug("the offsets were not committed, and will be: %r", error)
                return
            self._committed.update(done)
        if self._tail is not None and not self._scorer.shared_votes:
            await self._tail.commit({self._scorer.votes_partition(p): at for p, at in tails.items()})
        await self._roster.keep(list(self._owned.values()))
        if done:
            self._metrics.stage.labels("commit").observe(time.perf_counter() - began)

    async def _lost_place(self, error: Exception) -> None:
        """Go on at the beginning of the log where retention has overtaken this host."""
        places = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        for tp in places:
            owned = self._owned.get(tp.partition)
            if owned is None or owned.lost:
                continue
            begin = await self._beginning(tp)
            at, where = owned.position, f"{tp.topic}/{tp.partition}"
            log.warning("offset %s of %s is no longer there: going on at %s", at, where, begin)
            owned.position = begin
            self._consumer.seek(tp, begin)

    async def _beginning(self, tp: TopicPartition) -> int:
        offset: int = (await self._consumer.beginning_offsets([tp]))[tp]
        return offset

    # -- rebalances

    async def _revoked(self, partitions: Iterable[int]) -> None:
        if self._batches:
            # What is under way may still be finished and committed, as long as the group waits for this
            # host. A votes record that arrived after the successor's hello would be one it does not know.
            await asyncio.wait(self._batches, timeout=self.settings.kafka.session_timeout * 0.8 / 1000)
        if not self.should_stop:
            await briefly(self._commit(force=True))
        for partition in list(partitions):
            for table in (self._owned, self._fresh):
                if (owned := table.pop(partition, None)) is not None:
                    owned.lost = True
                    if self._transactions is not None:
                        self._transactions.give_back(owned)
            self._committed.pop(partition, None)

    async def _assigned(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._fresh[partition] = new(partition, self.settings.host)
        self._assigned_once = True

    def _again(self, owned: Owned) -> None:
        """Take a partition over anew after a failed transaction, where the group has left it to this host."""
        for table in (self._owned, self._fresh):
            if table.get(owned.partition) is owned and not self.should_stop:
                del table[owned.partition]
                self._fresh[owned.partition] = new(owned.partition, self.settings.host)

    async def _take_over(self, fresh: dict[int, Owned]) -> None:
        """Find where to go on with new partitions, and what of it was answered already."""
        found: dict[int, dict[int, Found]] = {}
        for partition, owned in fresh.items():
            tp = self._tp(partition)
            if self._transactions is not None:
                await self._transactions.take(owned)
            committed = await self._consumer.committed(tp)
            owned.position = owned.done = await self._beginning(tp) if committed is None else committed
            await self._roster.look_up(owned)
            if self._tail is not None and (at := self._roster.at(partition, owned.position)) is not None:
                hello = await self._scorer.hello(owned, at[0])
                place = self._scorer.votes_partition(partition)
                found.setdefault(place, {})[partition] = Found(hello, Replay(owned.done))
        for place, hellos in found.items():
            assert self._tail is not None
            await self._tail.read(place, hellos, lambda: any(o.wanted for o in fresh.values()))
            for partition, each in hellos.items():
                host, owned = self.settings.host, fresh[partition]
                owned.replay = each.replay
                owned.watermark = Watermark(host.leap, host.agree, known=each.watermark)
        for partition, owned in fresh.items():
            if owned.wanted and self._fresh.get(partition) is owned:
                self._consumer.seek(self._tp(partition), owned.position)
                owned.heard = time.monotonic()
                self._committed[partition] = owned.done
                self._roster.enter(owned)
                self._owned[partition] = self._fresh.pop(partition)

    def _on_member(self, kind: str, member: str, detail: str) -> None:
        self._metrics.member_events.labels(member, kind).inc()
        if kind in ("suspended", "resumed"):
            self._metrics.suspended.labels(member).set(kind == "suspended")
        if isinstance(self._roster, LiveRoster):
            self._roster.on_event(kind, member, detail)
        log.log(
            logging.INFO if kind == "resumed" else logging.WARNING, "member %s %s: %s", member, kind, detail
        )
