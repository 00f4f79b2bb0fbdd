"""The registry's log on both brokers: who writes at once, what is no event, and who reads from the start."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from members.registry.events import Event, encode_event
from members.registry.lifecycle import Registry, draft, fold
from members.registry.log import Conflict, RegistryLog
from streams.connect import make_producer, until_available
from streams.errors import ChorusError
from streams.settings import Kafka, load_settings
from streams.suite import MemberSpec, Suite
from streams.topics import Topics, create_topics


def spec(name: str, stage: str = "shadow", **more: Any) -> MemberSpec:
    return MemberSpec(name=name, version="1", stage=stage, owner="ana", loader="m:C", **more)


class Place:
    """A suite of its own on a broker; `logs` opens readers, as so many processes would."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.suite = Suite(name=f"reg-{uuid.uuid4().hex[:8]}", member=[spec("a", "live"), spec("b")])

    def log(self) -> RegistryLog:
        return RegistryLog(self.kafka, self.suite.name, keep=True)

    def run(self, n: int, job: Callable[..., Awaitable[None]]) -> None:
        async def main() -> None:
            await create_topics(self.suite, self.kafka)
            async with AsyncExitStack() as stack:
                # what the controller has made, the broker may not know yet
                await job(
                    *[await until_available(lambda: stack.enter_async_context(self.log())) for _ in range(n)]
                )

        asyncio.run(asyncio.wait_for(main(), 60))

    async def send(self, *values: bytes | None) -> None:
        producer = make_producer(self.kafka)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(Topics(self.suite.name).members, value, key=b"k", partition=0)
        finally:
            await producer.stop()


@pytest.fixture
def place(broker, monkeypatch):
    for name, value in broker.env.items():
        monkeypatch.setenv(name, value)
    return Place(load_settings(bootstrap_servers=broker.bootstrap_servers).kafka)


def told(registry: Registry, kind: Any, name: str, who: str, **more: Any) -> Event:
    return draft(registry, kind, name, who=who, why="w", at=1, **more)


def refolded(log: RegistryLog) -> Registry:
    """What the records that a reader took make of an empty registry."""
    registry = Registry()
    for each in log.recorded:
        registry, ignored = fold(registry, each.offset, each.event)
        assert ignored == each.ignored
    return registry.model_copy(update={"applied": log.registry.applied})


def test_one_of_many_founds(place):
    """Processes that start at once all find the same first revision, written by one of them."""

    async def job(*logs):
        await asyncio.gather(*(log.found(place.suite, f"p{n}") for n, log in enumerate(logs)))
        read = [await log.refresh() for log in logs]
        assert all(each == read[0] for each in read)
        assert (read[0].revision, read[0].live) == (1, ("a@1",))
        counted = [each for each in logs[0].recorded if each.ignored is None]
        assert [each.event.kind for each in counted] == ["founded"]
        await logs[0].found(place.suite, "again")
        assert (await logs[1].refresh()) == read[0]

    place.run(4, job)


def test_one_of_many_writers_wins(place):
    """Each round all write for the same registry: one counts, the others are told, and everybody agrees."""

    async def job(*logs):
        await logs[0].found(place.suite, "p")
        for turn in range(6):
            for log in logs:
                await log.refresh()
            kind = "retired" if turn % 2 == 0 else "back_to_shadow"
            writes = [
                log.append(told(log.registry, kind, "b@1", f"p{n}", watermark=turn))
                for n, log in enumerate(logs)
            ]
            done = await asyncio.gather(*writes, return_exceptions=True)
            assert [type(each) for each in done if isinstance(each, Exception)] == [Conflict] * 3
        read = [await log.refresh() for log in logs]
        assert all(each == read[0] for each in read)
        assert [len(log.recorded) for log in logs] == [1 + 6 * 4] * 4
        assert all(refolded(log) == read[0] for log in logs)

    place.run(4, job)


def test_changes_of_different_members_exclude_each_other_where_the_suite_changes(place):
    """A writer who expected another revision is ignored, so that no OR comes to be that nobody decided on."""

    async def job(one, two):
        await one.found(place.suite, "p")
        await one.append(told(one.registry, "added", "c@1", "p", spec=spec("c")))
        old = await two.refresh()
        await one.append(told(one.registry, "retired", "a@1", "p"))
        with pytest.raises(Conflict, match="it expected revision 1 of the suite, which is at 2"):
            await two.append(told(old, "retired", "c@1", "q"))
        await two.append(told(two.registry, "retired", "c@1", "q"))
        assert await one.refresh() == two.registry

    place.run(2, job)


def test_what_is_no_event_is_passed_over(place):
    """Rubbish between events stops nobody; it is kept for whoever tells of it."""

    async def job(log):
        await log.found(place.suite, "p")
        await place.send(b"", None, b"{", b'{"kind": "exploded"}', b"\xff\xfe", b'{"version": 2}')
        await log.append(told(await log.refresh(), "retired", "b@1", "p"))
        assert [str(error) for _, error in log.bad] == [
            "empty: the record has no value", "empty: the record has no value",
            "bad_event: it is no JSON object", "newer_event: written by a newer Chorus: upgrade this one",
            "bad_event: it is no JSON object", "newer_event: written by a newer Chorus: upgrade this one",
        ]  # fmt: skip
        assert [each.event.kind for each in log.recorded] == ["founded", "retired"]

    place.run(1, job)


def test_what_is_no_event_is_told_once_by_services_and_not_at_all_by_commands(place, caplog):
    """In one line, also when the connection is made anew; what was read is not read again."""

    async def job(log):
        await log.found(place.suite, "p")
        await place.send(b'{"version": 2}', b"{}")
        await log.refresh()
        await log.refresh()
        before = log.registry
        await log.stop()
        await log.start()
        assert log.registry == before
        assert (len(log.recorded), len(log.bad)) == (1, 2)
        topic = Topics(place.suite.name).members
        assert [record.getMessage() for record in caplog.records if record.name == "chorus.registry"] == [
            f"{topic}, record 1 is passed over: written by a newer Chorus: upgrade this one",
            f"{topic}, record 2 is passed over: kind is missing",
        ]
        caplog.clear()
        async with RegistryLog(place.kafka, place.suite.name, quiet=True) as quiet:
            assert len(quiet.bad) == 2
        assert not [record for record in caplog.records if record.levelno >= logging.INFO]

    place.run(1, job)


def test_a_record_twice_counts_once(place):
    """A producer that sends again what the broker already had changes nothing."""

    async def job(log):
        await log.found(place.suite, "p")
        event = told(log.registry, "retired", "b@1", "p")
        await place.send(*[encode_event(event)] * 3)
        await log.refresh()
        assert [each.ignored is None for each in log.recorded] == [True, True, False, False]

    place.run(1, job)


def test_writing_while_following(place):
    """A process that polls all the time and writes in between sees its own events once, in their order."""

    async def job(log, other):
        await log.found(place.suite, "p")
        await other.refresh()
        stop = asyncio.Event()

        async def follow() -> None:
            while not stop.is_set():
                await log.poll(50)

        following = asyncio.create_task(follow())
        for turn in range(8):
            writer = other if turn % 4 == 3 else log
            await writer.refresh()
            event = told(writer.registry, "described", "b@1", f"p{turn}", spec=spec("b", team=f"t{turn}"))
            await writer.append(event)
        stop.set()
        await following
        assert [each.event.who for each in log.recorded] == ["p", *(f"p{turn}" for turn in range(8))]
        assert log.registry.entries["b@1"].spec.team == "t7"

    place.run(2, job)


def test_a_restart_reads_the_same(place):
    """The log is all there is: a new process has the registry of the old one."""

    async def job(log):
        await log.found(place.suite, "p")
        for kind, more in (("recommended", {"token": 3, "watermark": 9}), ("aborted", {}), ("retired", {})):
            await log.append(told(log.registry, kind, "b@1", "p", **more))
        async with place.log() as again:
            assert again.registry == log.registry
            assert again.recorded == log.recorded

    place.run(1, job)


def test_no_topics(place):
    """Before `chorus topics create` there is one sentence."""

    async def main() -> None:
        async with place.log():
            raise AssertionError("it started")

    with pytest.raises(ChorusError, match="topics create"):
        asyncio.run(main())
