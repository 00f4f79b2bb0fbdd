"""Where the broker has transactions: the votes, decisions, dead letters and offset of a batch, or none of it.

Each partition of `requests` that a live host has is written by a producer of its own, whose transactional id
names the partition. A host that takes the partition over begins with that id: from then on the broker refuses
whatever its predecessor still sends, and ends the transaction that this one had open. A host that was frozen
and goes on therefore cannot add a single record.

What fails within a transaction is not sent again: the partition is given up, and taken over anew from its
last committed offset, be it by this host or by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    ProducerFenced,
    RequestTimedOutError,
)
from aiokafka.structs import TopicPartition

from members.ownership import Owned
from members.sending import Abandoned, Outage, Sender
from streams.connect import make_producer
from streams.errors import ChorusError
from streams.settings import Kafka

log = logging.getLogger("chorus")
T = TypeVar("T")

#: Seconds that a broker may take for its first answer about a transactional id; it may have to make a topic.
_FIRST = 15.0
#: Attempts before a refusal is believed.
_ATTEMPTS = 3
#: Errors that say nothing about whether there are transactions.
_AWAY = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)
#: What a transaction fails with; the last two where it has failed before.
_FAILED = (KafkaError, IllegalOperation, AssertionError)


class PartitionSender(Sender):
    """Writes what belongs to one partition of `requests`. Whatever goes wrong, it is `lost` from then on.

    `on_lost` is called once with the reason, which may also be that the partition has gone or the host stops.
    """

    def __init__(
        self,
        producer: Any,
        where: str,
        group: str,
        place: TopicPartition,
        on_lost: Callable[[BaseException], None],
        outage: Outage | None = None,
    ) -> None:
        super().__init__(producer, where, outage)
        self.lost = False
        self._group, self._place, self._on_lost = group, place, on_lost
        self._offset: int | None = None
        self._ended: asyncio.Future[None] | None = None
        self._kept: list[tuple[str, int, bytes, bytes]] = []
        self._sent: list[asyncio.Future[Any]] = []
        self._known = 0

    async def insist(self, attempt: Callable[[], Awaitable[T]], wanted: Callable[[], bool]) -> T:
        """Await `attempt`, once: aiokafka itself repeats what may be repeated. Raises Abandoned."""
        if self.lost or not wanted():
            raise Abandoned
        try:
            return await self._once(attempt)
        except _FAILED as error:
            self._lose(error)
            raise Abandoned from None

    async def one(
        self, topic: str, partition: int, key: bytes, value: bytes, wanted: Callable[[], bool]
    ) -> int:
        """Let one record go out with what is written next, in one request to the broker.

        Returns the offset of the last one before it, since its own is not known yet.
        """
        if self.lost or not wanted():
            raise Abandoned
        self._kept.append((topic, partition, key, value))
        return self._known

    async def _many(self, topic: str, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        await self._send_kept()
        await super()._many(topic, partition, rows)

    async def _send_kept(self) -> None:
        kept, self._kept = self._kept, []
        for topic, partition, key, value in kept:
            sent = await self._producer.send(topic, value, key=key, partition=partition)
            sent.add_done_callback(_look_at)
            self._sent.append(sent)

    async def _arrived(self) -> None:
        """Wait until the broker has what `one` was given."""
        await self._send_kept()
        sent, self._sent = self._sent, []
        self._known = (await asyncio.gather(*sent))[-1].offset

    @contextlib.asynccontextmanager
    async def together(
        self, wanted: Callable[[], bool], offset: int | None = None, more: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[asyncio.Future[None]]:
        """A transaction around what is written inside; it commits `offset`, the next one of `requests`, too.

        Where `more` says afterwards that somebody is ready to write, it stays open for that one to join and
        end. Yields what is done once all is committed, with Abandoned when it is not. Raises Abandoned, too.
        Only one at a time may be inside.
        """
        try:
            if self._ended is None:
                await self.insist(self._producer.begin_transaction, wanted)
                self._ended = asyncio.get_running_loop().create_future()
                self._ended.add_done_callback(_look_at)
            ended = self._ended
            yield ended
            self._offset = self._offset if offset is None else offset
            if not more():
                await self._commit(wanted)
        except BaseException as error:
            self._lose(error)
            raise

    async def _commit(self, wanted: Callable[[], bool]) -> None:
        """The offset goes last: a record and an offset at once get in each other's way at the coordinator."""
        if self._kept or self._sent:
            await self.insist(self._arrived, wanted)
        if self._offset is not None:
            offsets, self._offset = {self._place: self._offset}, None
            await self.insist(
                lambda: self._producer.send_offsets_to_transaction(offsets, self._group), wanted
            )
        await self.insist(self._producer.commit_transaction, wanted)
        if self._ended is not None:
            self._ended.set_result(None)
            self._ended = None

    def _lose(self, error: BaseException) -> None:
        if not self.lost:
            self.lost = True
            if self._ended is not None:
                self._ended.set_exception(Abandoned())
            self._on_lost(error)

    async def close(self) -> None:
        """End the open transaction, if any, and let go of the broker."""
        self.lost = True
        with contextlib.suppress(*_FAILED, TimeoutError):
            manager = getattr(self._producer, "_txn_manager", None)
            if manager is not None and manager.is_in_transaction():
                # Its readers wait for it until then. Where the broker is away it ends the transaction itself.
                await asyncio.wait_for(self._producer.abort_transaction(), 1.0)
        await self._producer.stop()
        _look_at_all(self._producer)


class Transactions:
    """The transactions of a live host: a sender for each partition that it has.

    A partition of which one failed is `lost`. `again` is called with it half a session timeout later: by then
    the group has said whether it is still this host's, who is to take it over anew if so.
    """

    def __init__(self, kafka: Kafka, topic: str, group: str, again: Callable[[Owned], None]) -> None:
        self._kafka, self._topic, self._group, self._again = kafka, topic, group, again
        self._outage = Outage(kafka.bootstrap_servers)
        self._senders: set[PartitionSender] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self, owned: Owned) -> None:
        """Shut out every other host from this partition, and give it a sender. Raises KafkaError, Abandoned.

        What the partition's committed offset is can be asked after that, not before.
        """
        if owned.sender is not None:
            return
        producer = _producer(self._kafka, f"{self._group}.{owned.partition}")
        await _start(producer)
        place = TopicPartition(self._topic, owned.partition)
        lost = functools.partial(self._lost, owned)
        sender = PartitionSender(
            producer, self._kafka.bootstrap_servers, self._group, place, lost, self._outage
        )
        if owned.lost:  # it has gone in the meantime
            self._close(sender)
            raise Abandoned
        self._senders.add(sender)
        owned.sender = sender

    def _lost(self, owned: Owned, error: BaseException) -> None:
        self.give_back(owned)
        if owned.lost or not isinstance(error, _FAILED):  # it has gone anyway, or the host ends
            return
        owned.lost = True
        log.warning("partition %d of %s is taken over anew: %s", owned.partition, self._topic, _why(error))
        wait = self._kafka.session_timeout / 2000
        asyncio.get_running_loop().call_later(wait, self._again, owned)

    def give_back(self, owned: Owned) -> None:
        """The partition has gone: close its sender, in the background, since the broker may be away."""
        if owned.sender in self._senders:
            self._senders.discard(owned.sender)
            self._close(owned.sender)

    def _close(self, sender: PartitionSender) -> None:
        task = asyncio.ensure_future(sender.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(_look_at)

    async def stop(self) -> None:
        """Close every sender."""
        while self._senders:
            self._close(self._senders.pop())
        if self._closing:
            await asyncio.wait(self._closing)


async def open_transactions(
    kafka: Kafka, topic: str, group: str, again: Callable[[Owned], None]
) -> Transactions | None:
    """Transactions for the partitions of `topic` read by `group`; None where there are to be none.

    Raises KafkaError where the broker is away, and ChorusError where it has no transactions and must.
    """
    if kafka.transactions == "off":
        return None
    why = await _refusal(kafka, f"{group}.probe")
    if why is None:
        return Transactions(kafka, topic, group, again)
    if kafka.transactions == "on":
        raise ChorusError(
            f"the broker at {kafka.bootstrap_servers} refuses transactions ({why}): allow {group}.* as "
            "transactional ids there, or set CHORUS_KAFKA__TRANSACTIONS=auto to do without"
        )
    log.info(
        "the broker at %s has no transactions (%s): votes, decisions and offsets go out one after the other",
        kafka.bootstrap_servers,
        why,
    )
    return None


async def _refusal(kafka: Kafka, name: str) -> str | None:
    """Why the broker gives no transactional id, or None where it does."""
    why = ""
    for _ in range(_ATTEMPTS):
        producer = _producer(kafka, name)
        try:
            await _start(producer)
        except KafkaTimeoutError:
            return f"it did not give a transactional id within {_FIRST:g} s"
        except _AWAY:
            raise
        except KafkaError as error:
            why = str(error) or type(error).__name__
        else:
            await producer.stop()
            return None
    return why


def _producer(kafka: Kafka, name: str) -> Any:
    return make_producer(
        kafka,
        max_batch_size=900_000,
        request_timeout_ms=10_000,
        transactional_id=name,
        transaction_timeout_ms=kafka.transaction_timeout,
    )


async def _start(producer: Any) -> None:
    """Raises KafkaError, KafkaTimeoutError where there is no answer; the producer is stopped then."""
    try:
        await asyncio.wait_for(producer.start(), _FIRST)
    except TimeoutError:
        await producer.stop()
        raise KafkaTimeoutError("no transactional id was given in time") from None
    except BaseException:
        await producer.stop()
        raise


def _why(error: BaseException) -> str:
    """What it means that a transaction failed with this."""
    if isinstance(error, ProducerFenced | InvalidProducerEpoch):
        return (
            "another host has it, or a transaction was open for longer than CHORUS_KAFKA__TRANSACTION_TIMEOUT"
        )
    return str(error) or type(error).__name__


def _look_at_all(producer: Any) -> None:
    """The errors of a failed producer that nobody waits for, which asyncio would print with a traceback."""
    manager = getattr(producer, "_txn_manager", None)
    waiters = [getattr(manager, "_transaction_waiter", None)]
    batches = getattr(getattr(producer, "_message_accumulator", None), "_batches", {})
    waiters += [getattr(batch, "_drain_waiter", None) for each in batches.values() for batch in each]
    for waiter in waiters:
        if waiter is not None:
            _look_at(waiter)


def _look_at(done: asyncio.Future[Any]) -> None:
    """Errors that somebody else has been told of are not told again."""
    if done.done() and not done.cancelled():
        done.exception()
