"""The worker process: its web server, its signals, its exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.streams.brokers import embedded_broker, free_port

SCRIPT = """
import sys
from mode import Service
from streams.app import run_worker
from streams.metrics import Metrics
from streams.settings import Kafka, Settings
from streams.suite import parse_suite

metrics = Metrics()

class Work(Service):
    ready = False

    async def on_start(self):
        metrics.host.requests.inc(3)
        self.add_future(self.work())

    async def work(self):
        print("started", flush=True)
        await self.sleep(0.1)
        if "crash" in sys.argv:
            raise ValueError("the work went wrong")
        self.ready = "unready" not in sys.argv

settings = Settings(kafka=Kafka(bootstrap_servers=sys.argv[1]))
sys.exit(run_worker("live-host", parse_suite('name = "t"'), settings, Work, metrics=metrics))
"""


class Worker:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read what it logs until a line matches."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern!r} in {self.said}")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        began = time.monotonic()
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=20)
        self.said += rest
        return self.process.returncode, time.monotonic() - began


@contextmanager
def worker(*arguments: str) -> Iterator[Worker]:
    running = Worker(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def eventually(url: str, status: int) -> None:
    deadline = time.monotonic() + 10
    while get(url)[0] != status:
        assert time.monotonic() < deadline, f"{url} did not answer {status}"


def test_web_server_and_stop() -> None:
    """Port 0 takes a free one and says which; SIGTERM stops within three seconds with code 0."""
    with embedded_broker() as broker, worker(broker.servers) as running:
        url = running.until(r"answers on (http://\S+)")[1]
        eventually(url + "/readyz", 200)
        assert get(url + "/healthz") == (200, "alive\n")
        status, text = get(url + "/metrics")
        assert status == 200
        assert "chorus_requests_scored_total 3.0" in text
        code, seconds = running.end()
        assert (code, seconds < 3) == (0, True)


def test_kill_9_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays on disk of a process that had no chance to tidy up."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with embedded_broker() as broker, worker(broker.servers) as running:
        running.until("answers on")
        running.process.kill()
        running.process.wait(20)
        assert not list(tmp_path.iterdir())


def test_not_ready() -> None:
    """/readyz answers 503 until the service is ready; SIGINT stops it as well."""
    with embedded_broker() as broker, worker(broker.servers, "unready") as running:
        url = running.until(r"answers on (http://\S+)")[1]
        assert get(url + "/readyz")[0] == 503
        assert get(url + "/healthz")[0] == 200
        assert running.end(signal.SIGINT)[0] == 0


def test_crash() -> None:
    """A crash ends the process with code 1 and one clear line."""
    with embedded_broker() as broker, worker(broker.servers, "crash") as running:
        running.until("live-host stops: the work went wrong")
        assert running.process.wait(timeout=10) == 1
        assert running.process.stderr is not None
        assert "Traceback" not in running.said + running.process.stderr.read()


def test_waits_for_the_broker() -> None:
    """Without a broker it says so in one sentence, tries again, and goes on when there is one."""
    port = free_port()
    with worker(f"127.0.0.1:{port}") as running:
        running.until(f"WARNING chorus: no Kafka broker answers at 127.0.0.1:{port}")
        with embedded_broker(port):
            running.until(r"answers on http")
            assert running.end()[0] == 0
        assert running.said.count("no Kafka broker") == 1


def test_stops_while_it_waits() -> None:
    """A signal ends the wait for a broker too."""
    with worker(f"127.0.0.1:{free_port()}") as running:
        running.until("no Kafka broker")
        assert running.end()[0] == 0
