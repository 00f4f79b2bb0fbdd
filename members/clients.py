"""A host's connections to the broker: made together, checked, and let go together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka.structs import TopicPartition

from members.ownership import Owned
from members.recovery import Tail
from members.transactions import Transactions, open_transactions
from streams.connect import check_topics, connecting, make_consumer, make_producer
from streams.settings import Kafka
from streams.topics import Topics

log = logging.getLogger("chorus")


class Clients:
    """`consumer` reads requests in `group`. A live host has a `tail` to read votes back, and `transactions`
    where the broker has them. counts: topic → its partitions.
    """

    def __init__(self, kafka: Kafka, suite: str, group: str, *, live: bool) -> None:
        self._kafka, self._topics, self._group, self._live = kafka, Topics(suite), group, live
        self.consumer = make_consumer(kafka, group=group, max_partition_fetch_bytes=4 << 20)
        self.producer = make_producer(kafka, max_batch_size=900_000, request_timeout_ms=10_000)
        self.tail: Tail | None = None
        if live:
            reader = make_consumer(kafka, group=f"{suite}.live.tail", max_partition_fetch_bytes=4 << 20)
            self.tail = Tail(reader, self._topics.votes)
        self.transactions: Transactions | None = None
        self.counts: dict[str, int] = {}

    async def open(self, again: Callable[[Owned], None]) -> None:
        """Connect and check the topics; `again` hears of partitions whose transaction failed.

        Raises Unavailable, and leaves nothing open then.
        """
        wanted = [self._topics.requests, self._topics.votes]
        async with connecting(self._kafka, self.close):
            await self.consumer.start()
            await self.producer.start()
            if self.tail is not None:
                await self.tail.consumer.start()
                wanted += [self._topics.decisions, self._topics.dead_letters]
                self.transactions = await open_transactions(self._kafka, wanted[0], self._group, again)
            await check_topics(self.consumer, wanted)
            self.counts = {topic: len(await self.producer.partitions_for(topic)) for topic in wanted}
        if self.tail is not None:
            self._prepare(self.tail)

    def _prepare(self, tail: Tail) -> None:
        requests, votes = self._topics.requests, self._topics.votes
        if self.counts[votes] < self.counts[requests]:
            log.warning(
                "%s has fewer partitions than %s: a host that takes over has to read all of it",
                votes,
                requests,
            )
        every = [TopicPartition(votes, i) for i in range(self.counts[votes])]
        tail.consumer.assign(every)
        tail.consumer.pause(*every)

    async def close(self) -> None:
        """Let go of all of them, well or not."""
        tail = self.tail.consumer if self.tail else None
        every: list[Any] = [self.transactions, self.consumer, tail, self.producer]
        await asyncio.gather(*(each.stop() for each in every if each is not None), return_exceptions=True)
