"""Votes, decisions and offsets of a batch in one transaction: all or nothing, and from one host only."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import ProducerFenced
from aiokafka.structs import TopicPartition

from members.host import HostService
from members.ownership import Owned
from members.sending import Abandoned
from members.transactions import PartitionSender, Transactions, open_transactions
from streams.connect import admin_client
from streams.errors import ChorusError
from streams.settings import Kafka
from streams.watermark import Watermark
from tests.conftest import Broker
from tests.members.hosting import World, check_decisions, suite, until

#: The votes go out with the decisions.
STEPS = ["begin", "decisions", "letters", "arrived", "offset", "commit"]


class Gone(Exception):
    """A host that is no more."""


async def check_offsets(world: World) -> None:
    """What is committed is what is answered, position by position.

    The broker ends a transaction topic by topic: the answers may be seen an instant before the offsets are.
    """
    letters = [json.loads(record.value)["origin"] for record in await world.read(world.topics.dead_letters)]
    answered = sorted((each["partition"], each["offset"]) for each in await world.decisions() + letters)
    deadline = time.monotonic() + 10
    while (found := await committed(world)) != answered and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert answered == found


async def committed(world: World) -> list[tuple[int, int]]:
    """The positions (partition, offset) before the offsets of the live hosts' group."""
    admin = await admin_client(world.settings.kafka)
    offsets = await admin.list_consumer_group_offsets(f"{world.suite.name}.live")
    await admin.close()
    ends = {p: offsets.get(TopicPartition(world.topics.requests, p)) for p in (0, 1)}
    return [(p, at) for p, end in ends.items() for at in range(end.offset if end else 0)]


async def die(host: HostService, step: str, *, after: bool) -> None:
    """Let the host die before or after a step of the next transaction of partition 0."""
    sender: Any = host._owned[0].sender
    once, number = sender._once, -1

    async def counted(attempt: Any) -> Any:
        nonlocal number
        number += 1
        if STEPS[number] == step:
            if after:
                await once(attempt)
            raise Gone
        return await once(attempt)

    sender._once = counted


@pytest.mark.kafka
def test_a_host_that_dies_between_any_two_steps(kafka: Broker) -> None:
    """Whatever step it dies at, its successor answers each request that has no answer, once."""

    async def run() -> None:
        async with World(kafka.bootstrap_servers, suite("steps")) as world:
            for step in STEPS:
                for after in (False, True):
                    host = await world.host()
                    await until(lambda host=host: len(host._owned) == 2)  # type: ignore[misc]
                    await die(host, step, after=after)
                    await world.send(1, partition=0, value=b"junk")
                    await world.send(40)
                    await until(lambda host=host: host.crashed)  # type: ignore[misc]
                    host._owned.clear()
                    await host.stop()
                    await check_offsets(world)
            await world.host()
            await world.answered()
            check_decisions(world, await world.decisions(), await world.votes(), bad=2 * len(STEPS))
            await check_offsets(world)

    asyncio.run(run())


async def doomed(servers: str, step: int, number: signal.Signals) -> None:
    """A process is killed or frozen at a step, another host takes over, and the frozen one goes on."""
    async with World(servers, suite("doomed")) as world:
        await world.send(2000)
        arguments = ["-m", "tests.members.doomed", servers, world.suite.name, str(step), str(int(number))]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert process.stdout is not None
        try:
            if number == signal.SIGKILL:
                assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
            else:
                stat = Path(f"/proc/{process.pid}/stat")
                await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
            await world.host(wait=False)
            await world.answered()
            if number == signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
                told = await asyncio.wait_for(process.stdout.readline(), 30)
                assert told.strip() == b"ProducerFenced"
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await world.send(100)
        await world.answered()
        assert world.transactional
        check_decisions(world, await world.decisions(), await world.votes())
        await check_offsets(world)


@pytest.mark.kafka
def test_killed_and_frozen_processes(kafka: Broker) -> None:
    """Neither a killed process nor one that wakes up after its successor took over leaves a trace."""

    async def run() -> None:
        kill, stop = signal.SIGKILL, signal.SIGSTOP
        cases = [(2, kill), (3, kill), (4, kill), (1, stop), (2, stop), (4, stop)]
        await asyncio.gather(*(doomed(kafka.bootstrap_servers, step, number) for step, number in cases))

    asyncio.run(run())


@pytest.mark.kafka
def test_a_fenced_host_that_still_has_the_partition(kafka: Broker) -> None:
    """It takes over anew, and is obeyed again; whoever fenced it is not."""

    async def run() -> None:
        async with World(kafka.bootstrap_servers, suite("fenced")) as world:
            host = await world.host()
            await world.send(100)
            await world.answered()
            rival, again = Owned(0, Watermark(1, 1)), []
            others = Transactions(world.settings.kafka, world.topics.requests, host.group, again.append)
            await others.take(rival)
            await world.send(300)
            await world.answered()
            assert rival.sender is not None
            with pytest.raises(Abandoned):
                async with rival.sender.together(lambda: True):
                    await rival.sender.one(world.topics.decisions, 0, b"a", b"zombie", lambda: True)
            assert rival.lost
            await until(lambda: again == [rival])
            await others.stop()
            assert not host.crashed
            check_decisions(world, await world.decisions(), await world.votes())
            await check_offsets(world)

    asyncio.run(run())


def test_without_transactions(embedded_broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Where the broker refuses them, "auto" says so once and does without, "on" ends, "off" does not ask."""

    async def run() -> None:
        servers = embedded_broker.bootstrap_servers
        caplog.set_level(logging.INFO, "chorus")
        async with World(servers, suite("none")) as world:
            await world.host()
            await world.send(20)
            await world.answered()
            assert not world.transactional
            check_decisions(world, await world.decisions(), await world.votes())
        said = [record for record in caplog.records if "has no transactions" in record.getMessage()]
        assert [record.levelname for record in said] == ["INFO"]
        with pytest.raises(ChorusError, match=r"refuses transactions .*CHORUS_KAFKA__TRANSACTIONS=auto"):
            await open_transactions(Kafka(bootstrap_servers=servers, transactions="on"), "t", "g", print)
        caplog.clear()
        off = Kafka(bootstrap_servers=servers, transactions="off")
        assert await open_transactions(off, "t", "g", print) is None
        assert not caplog.records

    asyncio.run(run())


class Recorder:
    """A producer that writes down what it is asked, and fails at one of it."""

    def __init__(self, fails: str = "") -> None:
        self.asked: list[Any] = []
        self.fails = fails

    async def _do(self, what: str, *detail: Any) -> Any:
        self.asked.append((what, *detail) if detail else what)
        if what == self.fails:
            raise ProducerFenced

    async def begin_transaction(self) -> None:
        await self._do("begin")

    async def send_offsets_to_transaction(self, offsets: dict[TopicPartition, int], group: str) -> None:
        await self._do("offsets", *offsets.values())

    async def commit_transaction(self) -> None:
        await self._do("commit")


def test_batches_that_are_ready_share_a_transaction() -> None:
    """The first leaves it open for the next, whose offset is committed; both are told when it is done."""

    async def run() -> None:
        producer = Recorder()
        sender = PartitionSender(producer, "", "g", TopicPartition("t", 0), lambda error: None)
        async with sender.together(lambda: True, 10, lambda: True) as first:
            pass
        assert not first.done()
        async with sender.together(lambda: True, 20, lambda: False) as second:
            pass
        assert first.done()
        assert second.done()
        async with sender.together(lambda: True):
            pass
        assert producer.asked == ["begin", ("offsets", 20), "commit", "begin", "commit"]

    asyncio.run(run())


@pytest.mark.parametrize("fails", ["begin", "offsets", "commit"])
def test_a_failure_is_everybodys(fails: str) -> None:
    """What fails takes all in the transaction with it, is told once, and nothing is sent after it."""

    async def run() -> None:
        producer, lost = Recorder(fails), []
        sender = PartitionSender(producer, "", "g", TopicPartition("t", 0), lost.append)
        told = []
        for more in (True, False, False):
            try:
                async with sender.together(lambda: True, 10, lambda more=more: more) as ended:  # type: ignore[misc]
                    told.append(ended)
            except Abandoned:
                pass
        for ended in told:
            with pytest.raises(Abandoned):
                await ended
        assert [type(error) for error in lost] == [ProducerFenced]
        last = producer.asked[-1]
        assert fails in (last, last[0])

    asyncio.run(run())
