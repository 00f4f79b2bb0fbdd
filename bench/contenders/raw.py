"""aiokafka's getmany and nothing else: what reading alone costs."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from bench.job import PARTITIONS, Clock, arguments


async def main() -> None:
    servers, suite, n = arguments()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    await consumer.topics()
    clock, seen = Clock(), 0
    clock.start()
    consumer.assign([TopicPartition(f"{suite}.requests", i) for i in range(PARTITIONS)])
    while seen < n:
        for records in (await consumer.getmany(timeout_ms=200, max_records=2000)).values():
            seen += len(records)
    clock.report(seen)
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
