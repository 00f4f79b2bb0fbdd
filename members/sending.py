"""Writing to Kafka until it is written: one outage is told once, and pauses what depends on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.errors import ChorusError
from streams.refusals import explain

log = logging.getLogger("chorus")
T = TypeVar("T")

#: Seconds without an answer after which an outage is told.
_PATIENCE = 5.0


class Abandoned(Exception):
    """The partition has gone to another host: what was under way for it is dropped."""


class Outage:
    """Tells an outage of the broker at `where` once, what it refuses once, and once when it is over."""

    def __init__(self, where: str) -> None:
        self._where, self._down, self._refused = where, False, ""

    def tell(self, error: KafkaError | None = None) -> None:
        """The broker does not take what it is given; None: it has not answered for a while."""
        why = (str(error) or type(error).__name__) if error is not None else "no answer"
        if error is not None and (refused := explain(error, "Write")):
            if refused != self._refused:
                log.warning("%s; scoring pauses until then (broker %s)", refused, self._where)
            self._down, self._refused = True, refused
        elif not self._down:
            log.warning(
                "the broker at %s does not answer (%s); scoring pauses and goes on when it does",
                self._where,
                why,
            )
            self._down = True

    def over(self) -> None:
        """It has taken something."""
        if self._down:
            log.info("the broker at %s answers again", self._where)
            self._down, self._refused = False, ""


class Sender:
    """A producer that is asked again until the broker has what it was given.

    Sending again may write a record twice; every reader of these topics is made for that.
    """

    def __init__(self, producer: Any, where: str, outage: Outage | None = None) -> None:
        """`outage` is shared by senders whose outages are one."""
        self._producer, self._where = producer, where
        self._outage = outage or Outage(where)

    async def insist(self, attempt: Callable[[], Awaitable[T]], wanted: Callable[[], bool]) -> T:
        """Await `attempt` until it comes through. Raises Abandoned once `wanted` says no."""
        delay = 0.1
        while wanted():
            try:
                return await self._once(attempt)
            except KafkaError as error:
                self._outage.tell(error)
            await asyncio.sleep(delay)
            delay = min(5.0, delay * 1.6)
        raise Abandoned

    @contextlib.asynccontextmanager
    async def together(
        self, wanted: Callable[[], bool], offset: int | None = None, more: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[asyncio.Future[None]]:
        """What is written inside belongs together; here there is no transaction (members/transactions.py)."""
        ended = asyncio.get_running_loop().create_future()
        ended.set_result(None)
        yield ended

    async def _once(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await self._patiently(attempt())
        except MessageSizeTooLargeError as error:
            raise ChorusError(
                f"the broker at {self._where} refuses records of the size that it should take: "
                f"set max.message.bytes of the topic to 1 MB or more ({error})"
            ) from None
        self._outage.over()
        return answer

    async def _patiently(self, awaitable: Awaitable[T]) -> T:
        task = asyncio.ensure_future(awaitable)
        try:
            done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
            if not done:
                self._outage.tell()
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def one(
        self, topic: str, partition: int, key: bytes, value: bytes, wanted: Callable[[], bool]
    ) -> int:
        """Write one record and return its offset."""
        metadata = await self.insist(
            lambda: self._producer.send_and_wait(topic, value, key=key, partition=partition), wanted
        )
        offset: int = metadata.offset
        return offset

    async def many(
        self,
        topic: str,
        partition: int,
        rows: Sequence[tuple[bytes, bytes]],
        wanted: Callable[[], bool],
    ) -> None:
        """Write (key, value) rows in order, in as few batches as they fit into."""
        if rows:
            await self.insist(lambda: self._many(topic, partition, rows), wanted)

    async def _many(self, topic: str, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        sent, stamp, at = [], time.time_ns() // 1_000_000, 0
        while at < len(rows):
            batch = self._producer.create_batch()
            taken = _fill(batch, rows[at:] if at else rows, stamp)
            if not taken:
                raise MessageSizeTooLargeError(f"{len(rows[at][1])} bytes for {topic}")
            at += taken
            batch.close()
            sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)


def _fill(batch: Any, rows: Sequence[tuple[bytes, bytes]], stamp: int) -> int:
    """Append as many rows as fit into an empty batch; returns how many."""
    taken = 0
    inner = getattr(batch, "_builder", None)
    if inner is not None and hasattr(batch, "_relative_offset"):
        # What BatchBuilder.append does for each record, less its wrapping: a third of the time.
        append, none = inner.append, list[Any]()
        for key, value in rows:
            if append(taken, stamp, key, value, none) is None:
                break
            taken += 1
        batch._relative_offset = taken
    else:
        for key, value in rows:
            if batch.append(key=key, value=value, timestamp=stamp) is None:
                break
            taken += 1
    return taken


async def briefly(work: Any, seconds: float = 1.0) -> None:
    """Await what may fail or hang while a host stops, but not for long (s)."""
    try:
        await asyncio.wait_for(work, seconds)
    except Exception as error:
        log.debug("while stopping: %r", error)
