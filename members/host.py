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
import socket
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

from members.alarms import Alarms
from members.batches import Scorer
from members.clients import Clients
from members.crew import Fixed, arrange, share_out
from members.deploying import LiveRoster
from members.ownership import Listener, Owned, group_of, new
from members.panel import Panel
from members.recovery import Found, Replay, Tail
from members.registry.log import RegistryLog
from members.sending import Abandoned, Sender, briefly
from members.sharing import ShadowRoster
from members.silence import Silence
from members.transactions import Transactions
from streams.connect import until_available
from streams.metrics import Metrics
from streams.refusals import explain
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
    follows its changes: a live host all live ones, a shadow host its `share` (number, of how many), or those
    of `members` where some are named. `isolate` gives each member a process of its own.
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
        isolate: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ready = False
        self.suite, self.settings, self.stage, self.members, self.name = suite, settings, stage, members, name
        self.topics = Topics(suite.name)
        self.group = group_of(suite.name, stage, members)
        self._metrics = (metrics or Metrics()).host
        self._silence = Silence(settings, self.topics.requests, self._metrics)
        self._alarms = Alarms(
            suite.name, name, stage, lag_after=settings.host.lag_after, instance=socket.gethostname()
        )
        self._said = ""
        self._tick = int(min(_TICK * 1000, settings.host.commit_every, settings.host.idle_after / 2))
        specs = [] if registry else [suite.members[each] for each in members]
        more: dict[str, Any] = {"on_event": self._on_member, "isolate": isolate}
        self._panel = panel or Panel(specs, settings.host, suite.features, **more)
        self._owned: dict[int, Owned] = {}
        self._fresh: dict[int, Owned] = {}
        self._assigned_once = False
        self._batches: set[asyncio.Task[None]] = set()
        self._committed: dict[int, int] = {}
        self._commit_due = 0.0
        self._clients: Clients | None = None
        self._consumer: Any = None
        self._tail: Tail | None = None
        self._transactions: Transactions | None = None
        self._main: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._roster: Fixed | LiveRoster | ShadowRoster = Fixed(members, self._panel)
        if registry is not None:
            host: dict[str, Any] = {"name": name, "owned": self._owned, "under_way": lambda: self._batches}
            if stage == "live":
                recent = lambda: self._scorer.recent if hasattr(self, "_scorer") else None  # noqa: E731
                session = settings.kafka.session_timeout / 1000
                self._roster = LiveRoster(registry, self._panel, recent=recent, session=session, **host)
            else:
                if not members:
                    self.group = f"{suite.name}.shadow.{share[0]}of{share[1]}"
                host |= {"kafka": settings.kafka, "topic": self.topics.requests, "group": self.group}
                self._roster = ShadowRoster(registry, self._panel, share=share, only=members, **host)

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
        for task in self._beside:
            task.cancel()
        if self._consumer is not None:
            await briefly(self._commit(force=True))
        if self._clients is not None:
            await briefly(self._clients.close())
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
        for work in (self._roster.run(), self._alarms.run(self._send_alert)):
            self._beside.append(asyncio.create_task(work))
            self._beside[-1].add_done_callback(self._ended)
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
        text = explain(error, "Read", self.settings.kafka) or str(error) or type(error).__name__
        # That a partition has just gone to another host is no trouble.
        if not isinstance(error, IllegalStateError) and text != self._said:
            log.warning("requests cannot be read (%s); trying again until they can", text)
            self._said = text

    async def _connect(self) -> None:
        """Connect, and join the group. Raises Unavailable, and leaves nothing open then."""
        kafka = self.settings.kafka
        clients = Clients(kafka, self.suite.name, self.group, live=self.stage == "live")
        await clients.open(self._again)
        self._clients, self._consumer = clients, clients.consumer
        self._tail, self._transactions = clients.tail, clients.transactions
        self._scorer = Scorer(
            self.suite,
            self.settings,
            stage=self.stage,
            members=self.members,
            name=self.name,
            panel=self._panel,
            sender=Sender(clients.producer, kafka.bootstrap_servers),
            metrics=self._metrics,
            partitions=clients.counts,
        )
        self._consumer.subscribe([self.topics.requests], listener=Listener(self._revoked, self._assigned))

    async def _send_alert(self, key: bytes, value: bytes) -> None:
        assert self._clients
        await self._clients.producer.send_and_wait(self.topics.alerts, value, key=key)

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
        self._alarms.look(self._consumer, self.topics.requests, self._owned.values(), data)
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
        # One that went back meanwhile has a mark that its committed offset does not know of yet.
        await self._roster.keep([o for p, o in self._owned.items() if o.done >= self._committed.get(p, 0)])
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
            tell = self._alarms.suspended if kind == "suspended" else self._alarms.resumed
            tell(member, detail, time.time_ns() // 1_000_000)
        if isinstance(self._roster, LiveRoster):
            self._roster.on_event(kind, member, detail)
        log.log(
            logging.INFO if kind == "resumed" else logging.WARNING, "member %s %s: %s", member, kind, detail
        )
