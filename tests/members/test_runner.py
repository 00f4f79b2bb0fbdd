"""The thread that can be left behind."""

from __future__ import annotations

import asyncio
import threading

from members.runner import Job, Runner


def test_calls_run_in_order_in_one_thread() -> None:
    """One hop for all calls; an exception is the outcome of its own call."""

    async def go() -> None:
        where: list[int] = []

        def fail() -> None:
            raise SystemExit(2)

        runner = Runner()
        job = Job(
            [lambda: where.append(threading.get_ident()) or 1, fail, lambda: 3], asyncio.get_running_loop()
        )
        runner.submit(job)
        await asyncio.wait_for(job.done, 10)
        assert job.outcomes[0] == (1, None)
        assert isinstance(job.outcomes[1][1], SystemExit)
        assert job.outcomes[2] == (3, None)
        assert where[0] != threading.get_ident()
        runner.close()

    asyncio.run(go())


def test_an_abandoned_call_tells_when_it_returns() -> None:
    """Its result is dropped, the calls after it are not made, and its thread ends."""

    async def go() -> None:
        gate, returned, begun, after = (threading.Event() for _ in range(4))
        runner = Runner()

        def wait() -> None:
            begun.set()
            gate.wait(30)

        job = Job([wait, after.set], asyncio.get_running_loop())
        runner.submit(job)
        assert await asyncio.to_thread(begun.wait, 10)
        assert job.abandon(0, returned.set)
        assert not returned.is_set()
        gate.set()
        assert await asyncio.to_thread(returned.wait, 10)
        assert job.outcomes == []
        assert not after.is_set()
        assert not job.done.done()

    asyncio.run(go())


def test_what_is_over_cannot_be_abandoned() -> None:
    """A call that came back just in time counts."""

    async def go() -> None:
        runner, job = Runner(), Job([lambda: 1], asyncio.get_running_loop())
        runner.submit(job)
        await asyncio.wait_for(job.done, 10)
        assert not job.abandon(0, lambda: None)
        runner.close()

    asyncio.run(go())
