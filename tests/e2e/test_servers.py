"""Servers that are not there yet, and servers that go away: one sentence, patience, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.clients import Senders
from tests.e2e.drive import CHORUS, Process, Up, environment, until
from tests.e2e.generate import Traffic
from tests.e2e.suites import SuiteFile, write_suite
from tests.e2e.verify import recount, settle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def forwarded(port: int, target: str) -> Iterator[None]:
    """A server that appears at `port`: whatever connects there talks to `target` (host:port)."""
    host, _, number = target.rpartition(":")
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(number))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end() -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ready(port: int) -> bool:
    """Whether the process says on /readyz that it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def worker(role: str, suite: SuiteFile, web: int, broker: Any, *, bootstrap: str, redis_url: str) -> Process:
    """`chorus serve` or `chorus evaluate` against these addresses, with the settings `broker` asks for."""
    addresses = ["--bootstrap-servers", bootstrap, "--redis-url", redis_url, "--web-port", str(web)]
    arguments = [role, "--suite", str(suite.path), *addresses]
    return Process(suite.path.parent, *arguments, env=environment(**broker.env))


def says_once(process: Process, sentence: str) -> None:
    """It says so in one line, without a traceback, and goes on trying."""
    until(lambda: sentence in process.output or not process.alive(), f"it does not say {sentence!r}")
    assert process.alive()
    assert process.output.count(sentence) == 1
    assert "Traceback" not in process.output


def create_topics(suite: SuiteFile, bootstrap: str) -> None:
    command = [CHORUS, "topics", "create", "--suite", str(suite.path), "--bootstrap-servers", bootstrap]
    for _ in range(2):  # it can be said twice
        subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=60)


def test_a_missing_broker_is_waited_for(tmp_path, broker):
    """A host without a broker says so in one sentence, waits, and works once the broker is there."""
    suite, port, web = write_suite(tmp_path), free_port(), free_port()
    create_topics(suite, broker.bootstrap_servers)
    nowhere = f"127.0.0.1:{port}"
    with worker("serve", suite, web, broker, bootstrap=nowhere, redis_url="redis://127.0.0.1:1/0") as host:
        says_once(host, f"no Kafka broker answers at {nowhere}")
        assert not ready(web)
        with forwarded(port, broker.bootstrap_servers):
            until(lambda: ready(web), "the host is not ready, though the broker is there")
        assert host.stop() == 0


def test_a_missing_redis_is_waited_for(tmp_path, broker, redis_server):
    """An evaluator without Redis says so in one sentence, waits, and works once Redis is there."""
    suite, port, web = write_suite(tmp_path), free_port(), free_port()
    create_topics(suite, broker.bootstrap_servers)
    place = urlsplit(redis_server.url).netloc
    there, nowhere = broker.bootstrap_servers, f"redis://127.0.0.1:{port}/0"
    with worker("evaluate", suite, web, broker, bootstrap=there, redis_url=nowhere) as evaluator:
        says_once(evaluator, f"no Redis answers at 127.0.0.1:{port}")
        assert not ready(web)
        with forwarded(port, place):
            until(lambda: ready(web), "the evaluator is not ready, though Redis is there")
            assert evaluator.stop() == 0


@pytest.mark.parametrize("loss", ["redis killed", "redis stalled", "broker stalled"])
def test_losing_a_server_in_mid_flight_loses_nothing(tmp_path: Path, loss: str):
    """Redis dies or hangs, or the broker hangs, while traffic runs: work pauses, goes on, and adds up."""

    async def scenario(up: Up) -> None:
        traffic = Traffic(seed=5, requests=600, partitions=4)
        third = len(traffic.events) // 3
        pid = up.pids[up.names(loss.split()[0])[0]]
        async with Senders(up.suite, up.bootstrap) as sent:
            await sent.send(traffic.events[:third])
            if loss == "redis killed":
                os.kill(pid, signal.SIGKILL)
                await sent.send(traffic.events[third:])
            else:
                os.kill(pid, signal.SIGSTOP)
                sending = asyncio.create_task(sent.send(traffic.events[third:]))
                try:
                    await asyncio.wait({sending}, timeout=4)  # how long the server hangs
                finally:
                    os.kill(pid, signal.SIGCONT)
                await sending
            await sent.send(traffic.closing)
        await settle(up, (await recount(up.suite, up.bootstrap, sent)).document())

    with Up(write_suite(tmp_path), "--evaluators", "1", "--shadow-hosts", "1") as up:
        up.wait()
        asyncio.run(scenario(up))
        assert set(up.restarts) <= {"redis"}
