"""The evaluator's service: partitions that come and go at the worst moment."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from evaluator.service import EvaluatorService
from streams.connect import make_producer
from streams.topics import create_topics
from tests.evaluator.test_reviewer import make_settings, make_suite, make_votes, until


def losing(service: EvaluatorService) -> tuple[Any, list[Any], asyncio.Event]:
    """The fetch of its consumer: the first with records is followed by the loss of their partitions.

    With it which those were, and whether it has been called.
    """
    gone: list[Any] = []
    called = asyncio.Event()
    fetch = service._consumer.getmany

    async def getmany(**options: Any) -> Any:
        called.set()
        fetched = await fetch(**options)
        if fetched and not gone:
            gone.extend(fetched)
            loop = asyncio.get_running_loop()
            loop.call_soon(service.revoked, gone)
            loop.call_later(0.5, service.assigned, gone)
        return fetched

    return getmany, gone, called


def test_a_partition_that_goes_between_its_fetch_and_its_folding_ends_nobody(
    valkey, embedded_broker, monkeypatch
):
    """What was fetched is folded, nothing fails, and who gets the partition goes on from there."""

    async def scenario() -> None:
        suite = make_suite()
        settings = make_settings(valkey, embedded_broker.bootstrap_servers)
        await create_topics(suite, settings.kafka)
        producer = make_producer(settings.kafka)
        await producer.start()
        service = EvaluatorService(suite, settings, group=False)
        await service.start()
        try:

            async def placed() -> bool:
                return bool(service.partitions) and not service._unplaced

            await until(placed)
            getmany, gone, called = losing(service)
            monkeypatch.setattr(service._consumer, "getmany", getmany)
            await called.wait()
            for votes in make_votes():
                await producer.send_and_wait(suite.name + ".votes", msgspec.msgpack.encode(votes), key=b"0")

            async def folded() -> bool:
                return service.crashed or (gone and service.positions.get("votes:0") == 2)

            await until(folded)
            assert not service.crashed, service.crash_reason
        finally:
            await service.stop()
            await producer.stop()

    asyncio.run(scenario())


def test_the_ends_of_the_logs_are_told_whoever_reads_them(valkey, broker):
    """Each of two evaluators knows where votes and labels end, of all partitions."""

    async def scenario() -> None:
        suite = make_suite()
        settings = make_settings(valkey, broker.bootstrap_servers)
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 2})})
        await create_topics(suite, settings.kafka)
        producer = make_producer(settings.kafka)
        await producer.start()
        services = [EvaluatorService(suite, settings, name=f"e{i}") for i in range(2)]
        try:
            for service in services:
                await service.start()
            for votes in make_votes():
                await producer.send_and_wait(
                    suite.name + ".votes", msgspec.msgpack.encode(votes), partition=0
                )

            async def folded() -> bool:
                return any(service.positions.get("votes:0") == 2 for service in services)

            await until(folded)
            wanted = {"votes:0": 2, "votes:1": 0, "labels:0": 0, "labels:1": 0}
            assert [await service._ends() for service in services] == [wanted, wanted]
        finally:
            for service in services:
                await service.stop()
            await producer.stop()

    asyncio.run(scenario())
