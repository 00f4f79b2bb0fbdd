"""`chorus up` as a process: what it says, what it replaces, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.embedded.process import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SUITE = """name = "{name}"

[features]
x = "float"

{members}"""
MEMBER = """[[member]]
name = "{name}"
version = "1"
stage = "{stage}"
owner = "ana@example.com"
loader = "mine:Steep"
"""
MODULE = """
class Steep:
    needs = {"x": float}

    def vote(self, batch):
        return batch["x"] > 0.5
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """One live member and three shadows."""
    members = [("a", "live"), ("b", "shadow"), ("c", "shadow"), ("d", "shadow")]
    text = "\n".join(MEMBER.format(name=name, stage=stage) for name, stage in members)
    (tmp_path / "mine.py").write_text(MODULE)
    # Modules of the folder where it is called must not pass for parts of Chorus.
    (tmp_path / "evaluator.py").write_text("raise RuntimeError('the wrong evaluator')\n")
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(name=f"up-{uuid.uuid4().hex[:8]}", members=text))
    return path


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def until(condition: Callable[[], Any], why: Callable[[], str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


class Running:
    """One `chorus up --json`, its standard streams in files."""

    def __init__(self, suite: Path, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        self.out, self.err = suite.with_name("out"), suite.with_name("err")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHORUS_")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "chorus"),
                    "up",
                    "--suite",
                    str(suite),
                    "--json",
                    *arguments,
                ],
                cwd=suite.parent,
                env={**clean, **env},
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().split("\n")[:-1]]

    @property
    def said(self) -> str:
        return self.err.read_text(errors="replace")

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event with these fields, waited for."""

        def found() -> list[dict[str, Any]]:
            wanted = {"event": kind, **fields}
            return [event for event in self.events if wanted.items() <= event.items()]

        until(lambda: found() or self.process.poll() is not None, lambda: f"no {kind} {fields}:\n{self.said}")
        assert found(), self.said
        return found()[0]

    def end(self, *signals: int, within: float = 15.0) -> int:
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(within)


@contextmanager
def up(suite: Path, *arguments: str, **env: str) -> Iterator[Running]:
    running = Running(suite, arguments, env)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status, answer.read().decode()


def test_from_ready_to_ctrl_c(suite):
    """All processes with their pids, all of them answering; Ctrl-C ends every one within seconds, with 0."""
    with up(suite, "--evaluators", "2") as running:
        ready = running.event("ready")
        pids = ready["processes"]
        hosts = {"live-host-0", "shadow-host-0", "shadow-host-1", "evaluator-0", "evaluator-1"}
        assert set(pids) == hosts | {"broker", "redis"}
        assert set(ready["metrics"]) == hosts
        for url in ready["metrics"].values():
            status, text = get(url)
            assert status == 200
            assert "chorus_" in text
            assert get(url.replace("/metrics", "/readyz")) == (200, "ready\n")
        assert redis.Redis.from_url(ready["redis_url"]).ping()
        assert running.end(signal.SIGINT, within=10) == 0
        assert all(map(gone, pids.values()))
        assert len(running.events) == 1
        assert "Traceback" not in running.said


@pytest.mark.parametrize("name", ["live-host-0", "evaluator-0"])
def test_a_child_that_is_killed_is_replaced(suite, name):
    """kill -9: it is there again under a new pid, with the same address, and is told of."""
    with up(suite, "--shadow-hosts", "0") as running:
        ready = running.event("ready")
        assert not any(each.startswith("shadow") for each in ready["processes"])
        old = ready["processes"][name]
        os.kill(old, signal.SIGKILL)
        new = running.event("restarted", process=name)["pid"]
        assert new != old
        assert not gone(new)

        def answers() -> bool:
            try:
                return get(ready["metrics"][name].replace("/metrics", "/readyz"))[0] == 200
            except OSError:
                return False

        until(answers, lambda: running.said)
        assert f"{name} ended with signal SIGKILL" in running.said
        assert running.end(signal.SIGTERM) == 0
        assert gone(new)


def test_an_embedded_redis_that_is_killed_comes_back(suite):
    """It is empty, on the same port, and the evaluators lay the store out again."""
    with up(suite, "--shadow-hosts", "0") as running:
        ready = running.event("ready")
        client = redis.Redis.from_url(ready["redis_url"])
        client.set("left-over", 1)
        os.kill(ready["processes"]["redis"], signal.SIGKILL)
        running.event("restarted", process="redis")

        def stands() -> bool:
            try:
                return client.dbsize() > 0
            except redis.RedisError:
                return False

        until(stands, lambda: running.said)
        assert client.get("left-over") is None
        assert running.end(signal.SIGINT) == 0


def test_an_embedded_broker_that_is_killed_ends_it_all(suite):
    """The log is gone with it: everything stops with 1 and one sentence that says why."""
    with up(suite, "--shadow-hosts", "0") as running:
        pids = running.event("ready")["processes"]
        os.kill(pids["broker"], signal.SIGKILL)
        assert running.process.wait(20) == 1
        assert "chorus: the embedded broker has ended, and its log with it" in running.said
        assert all(map(gone, pids.values()))


def test_servers_of_ones_own(suite, broker, redis_server):
    """With both addresses given nothing is embedded, and the servers outlive it."""
    arguments = ["--bootstrap-servers", broker.bootstrap_servers, "--redis-url", redis_server.url]
    with up(suite, *arguments, "--shadow-hosts", "1", **broker.env) as running:
        ready = running.event("ready")
        assert set(ready["processes"]) == {"live-host-0", "shadow-host-0", "evaluator-0"}
        assert (ready["bootstrap_servers"], ready["redis_url"]) == (
            broker.bootstrap_servers,
            redis_server.url,
        )
        assert running.end(signal.SIGINT) == 0
    assert redis.Redis.from_url(redis_server.url).ping()


def test_a_broker_that_is_not_there_is_waited_for(suite):
    """One sentence, said once; Ctrl-C ends the wait, and the embedded Redis with it."""
    nowhere = f"127.0.0.1:{free_port()}"
    with up(suite, "--bootstrap-servers", nowhere) as running:
        sentence = f"no Kafka broker answers at {nowhere}"
        until(lambda: sentence in running.said, lambda: running.said)
        assert running.end(signal.SIGINT) == 0
        assert running.said.count(sentence) == 1
        assert len(running.said.strip().splitlines()) == 1
        assert running.events == []


def test_ctrl_c_while_it_comes_up(suite):
    """It ends as quietly as later, and nothing is left."""
    with up(suite, "--shadow-hosts", "0") as running:
        until(lambda: "answers on" in running.said, lambda: running.said)
        assert running.end(signal.SIGTERM, within=10) == 0
        assert "Traceback" not in running.said
        assert "ERROR" not in running.said


def test_a_second_ctrl_c_kills(suite):
    """What hangs does not hold it up: twice is at once."""
    with up(suite, "--shadow-hosts", "0") as running:
        pids = running.event("ready")["processes"]
        os.kill(pids["live-host-0"], signal.SIGSTOP)
        running.process.send_signal(signal.SIGINT)
        until(lambda: gone(pids["evaluator-0"]), lambda: running.said)
        began = time.monotonic()
        running.end(signal.SIGINT, within=10)
        assert time.monotonic() - began < 4
        assert all(map(gone, pids.values()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent")
def test_kill_9_leaves_nothing(suite):
    """Not even a supervisor that is killed leaves a process behind."""
    with up(suite, "--shadow-hosts", "0") as running:
        pids = running.event("ready")["processes"]
        running.process.kill()
        until(lambda: all(map(gone, pids.values())), lambda: running.said)
