"""`chorus up`: one command, everything runs; one Ctrl-C, nothing does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evaluator.up import Up
from streams.errors import ConfigError

pytestmark = pytest.mark.slow

MODULE = 'class Big:\n    needs = {"x": float}\n    def vote(self, batch):\n        return batch["x"] > 0.5\n'
MEMBER = '[[member]]\nname = "m"\nversion = "{}"\nstage = "{}"\nowner = "o"\nloader = "voters_up:Big"\n'


def write(folder: Path, shadows: int = 3) -> Path:
    (folder / "voters_up.py").write_text(MODULE)
    path = folder / "suite.toml"
    members = MEMBER.format(0, "live") + "".join(MEMBER.format(i + 1, "shadow") for i in range(shadows))
    path.write_text(f'name = "up-{uuid.uuid4().hex[:8]}"\n[features]\nx = "float"\n{members}')
    return path


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Running:
    """`chorus up --json` and the events that it has printed."""

    def __init__(self, suite: Path, *arguments: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("CHORUS_")}
        self.errors = suite.with_suffix(".log")
        self.events: list[dict[str, Any]] = []
        with self.errors.open("wb") as stderr:
            self.popen = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "evaluator.cli.main",
                    "up",
                    "--suite",
                    str(suite),
                    "--json",
                    *arguments,
                ],
                env=env,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            self.events.append(json.loads(line))

    def ready(self) -> dict[str, Any]:
        until(lambda: self.events or self.popen.poll() is not None)
        assert self.events, self.errors.read_text()
        assert self.events[0]["event"] == "ready"
        return self.events[0]

    def restarted(self, name: str) -> int:
        """The new pid of what was started again."""

        def found() -> list[int]:
            return [e["pid"] for e in self.events if e["event"] == "restarted" and e["process"] == name]

        until(found)
        return found()[-1]


@contextmanager
def up(suite: Path, *arguments: str) -> Iterator[Running]:
    running = Running(suite, *arguments)
    try:
        yield running
    finally:
        running.popen.kill()
        running.popen.wait()


def test_everything_comes_up_and_one_ctrl_c_ends_it(tmp_path):
    """`ready` names every process; each answers; what dies is replaced; after Ctrl-C none is left."""
    with up(write(tmp_path), "--evaluators", "2", "--shadow-hosts", "2") as running:
        ready = running.ready()
        pids = dict(ready["processes"])
        assert set(pids) == {
            "live-host-0", "shadow-host-0", "shadow-host-1", "evaluator-0", "evaluator-1", "broker", "redis",
        }  # fmt: skip
        assert ready["redis_url"].startswith("redis://127.0.0.1:")
        assert ready["dashboard"]
        for url in ready["metrics"].values():
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert b"chorus_" in answer.read()
        everyone = set(pids.values())
        for name in ("evaluator-1", "redis"):
            os.kill(pids[name], signal.SIGKILL)
            everyone.add(running.restarted(name))
            assert running.restarted(name) != pids[name]
        running.popen.send_signal(signal.SIGINT)
        assert running.popen.wait(15) == 0
        assert all(map(gone, everyone))
        assert {event["event"] for event in running.events} == {"ready", "restarted"}


def test_a_broker_that_dies_ends_it_all(tmp_path):
    """Its log is lost with it: one sentence, exit code 1, and no process is left."""
    with up(write(tmp_path, shadows=0)) as running:
        pids = running.ready()["processes"]
        assert not [name for name in pids if name.startswith("shadow")]
        os.kill(pids["broker"], signal.SIGKILL)
        assert running.popen.wait(20) == 1
        assert "the embedded broker has ended, and its log with it" in running.errors.read_text()
        assert all(map(gone, pids.values()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent")
def test_kill_9_leaves_nothing_behind(tmp_path):
    """Children and servers end with a supervisor that could not say good-bye."""
    with up(write(tmp_path, shadows=1)) as running:
        pids = running.ready()["processes"]
        running.popen.kill()
        until(lambda: all(map(gone, pids.values())), 10)


@pytest.mark.kafka
def test_servers_of_ones_own(tmp_path, kafka, redis_server):
    """What is named is used, and not among the processes."""
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--redis-url", redis_server.url]
    with up(write(tmp_path), *arguments) as running:
        ready = running.ready()
        assert set(ready["processes"]) == {"live-host-0", "shadow-host-0", "shadow-host-1", "evaluator-0"}
        assert (ready["bootstrap_servers"], ready["redis_url"]) == (kafka.bootstrap_servers, redis_server.url)
        running.popen.send_signal(signal.SIGTERM)
        assert running.popen.wait(15) == 0
        assert redis_server.running


def test_ctrl_c_while_it_waits_for_a_broker(tmp_path):
    """A broker that is not there is waited for, in one sentence; Ctrl-C ends the waiting."""
    with up(write(tmp_path), "--bootstrap-servers", "127.0.0.1:1") as running:
        until(lambda: "no Kafka broker answers at 127.0.0.1:1" in running.errors.read_text())
        running.popen.send_signal(signal.SIGINT)
        assert running.popen.wait(10) == 0
        assert running.errors.read_text().count("no Kafka broker answers") == 1
        assert running.events == []


def test_a_suite_that_cannot_be_read(tmp_path):
    """Nothing is started for it."""
    with pytest.raises(ConfigError, match="no such suite file"):
        Up(tmp_path / "none.toml")
