"""Real processes: starting `chorus`, following what it says, killing its children, asking for the status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.suites import SuiteFile

CHORUS = str(Path(sys.executable).parent / "chorus")


def environment(**more: str) -> dict[str, str]:
    """The tests' own environment, less whatever settings the developer has there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHORUS_")}
    return {**clean, "CHORUS_KAFKA__SESSION_TIMEOUT": "4s", **more}


def until(condition: Callable[[], Any], why: str, *, seconds: float = 60.0, every: float = 0.05) -> Any:
    """The first true answer of `condition`; fails with `why` when there was none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{why} (waited {seconds:g} s)"
        time.sleep(every)
    return answer


class Process:
    """One `chorus …` process. Standard error goes to a file, standard output is read line by line."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.errors = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
        self.lines: list[str] = []
        with self.errors.open("wb") as stderr:
            self.popen = subprocess.Popen(
                [CHORUS, *arguments],
                cwd=folder,
                env=dict(env or environment()),
                stdout=subprocess.PIPE,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            self.lines.append(line.decode())

    @property
    def stderr(self) -> str:
        return self.errors.read_text(errors="replace")

    @property
    def output(self) -> str:
        """All that it said, on either stream."""
        return "".join(self.lines) + self.stderr

    def alive(self) -> bool:
        return self.popen.poll() is None

    def stop(self, seconds: float = 30.0) -> int:
        """One Ctrl-C; the exit code. Fails when the process does not end."""
        if self.alive():
            self.popen.send_signal(signal.SIGINT)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise AssertionError(f"it did not stop on Ctrl-C:\n{self.output[-3000:]}") from None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            print(self.output[-15_000:])
        self.stop()


class Up(Process):
    """`chorus up --json`, with the pids of its children as they are now."""

    def __init__(self, suite: SuiteFile, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        super().__init__(suite.path.parent, "up", "--suite", str(suite.path), "--json", *arguments, env=env)
        self.suite = suite
        self._seen = 0
        self._pids: dict[str, int] = {}
        self._killed: dict[str, int] = {}
        self.ready: dict[str, Any] = {}
        self.restarts: list[str] = []
        self.killed: list[str] = []

    def wait(self) -> None:
        """Until it says that all is up."""
        until(
            lambda: (self.pids and self.ready) or not self.alive(), f"not ready:\n{self.output}", seconds=90
        )
        assert self.ready, f"it ended instead of being ready:\n{self.output[-5000:]}"

    @property
    def bootstrap(self) -> str:
        return str(self.ready["bootstrap_servers"])

    @property
    def redis_url(self) -> str:
        return str(self.ready["redis_url"])

    @property
    def pids(self) -> dict[str, int]:
        """Name → pid of every child, the replaced ones under their new pid."""
        while self._seen < len(self.lines):
            line = self.lines[self._seen]
            self._seen += 1
            said = json.loads(line)  # standard output holds nothing but JSON lines
            if said["event"] == "ready":
                self.ready = said
                self._pids.update(said["processes"])
            elif said["event"] == "restarted":
                self._pids[said["process"]] = said["pid"]
                self.restarts.append(said["process"])
        return dict(self._pids)

    def names(self, kind: str) -> list[str]:
        """The children whose name begins with `kind`."""
        found = sorted(name for name in self.pids if name.startswith(kind))
        assert found, f"no process {kind}… among {sorted(self.pids)}"
        return found

    def kill(self, name: str) -> None:
        """kill -9, once what was killed before it under that name has been replaced."""
        self.back(name)
        pid = self.pids[name]
        self._killed[name] = pid
        self.killed.append(name)
        os.kill(pid, signal.SIGKILL)

    def back(self, name: str) -> None:
        """Until the child has been replaced after it was killed."""
        until(lambda: self.pids[name] != self._killed.get(name), f"{name} was not started again")

    def status(self) -> dict[str, Any]:
        return status(self.suite, self.redis_url)


def status(suite: SuiteFile, redis_url: str) -> dict[str, Any]:
    """`chorus status --json`, by itself: it needs Redis and nothing else."""
    done = subprocess.run(
        [CHORUS, "status", "--suite", str(suite.path), "--redis-url", redis_url, "--json"],
        env=environment(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def gone(pid: int) -> bool:
    """Whether no such process is left (one that nobody has waited for counts as gone)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"
