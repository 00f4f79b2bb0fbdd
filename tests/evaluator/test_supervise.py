"""Children are kept running, and all of them are gone in the end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluator.supervise import Child, Supervisor

WAITS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n" + WAITS
)
DIES = "raise SystemExit(3)"
#: It starts a process of its own that nothing but SIGKILL ends, and says which.
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print("grandchild", child.pid, flush=True)
time.sleep(600)
"""


def child(name: str, program: str) -> Child:
    return Child(name, [sys.executable, "-c", program], os.environ)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def run(scenario: Callable[[list[tuple[str, int]]], object]) -> None:
    asyncio.run(scenario([]))  # type: ignore[arg-type]


def test_a_child_that_dies_is_replaced():
    """kill -9 of a child: it runs again under a new pid, which is told; the others are left alone."""

    async def scenario(told):
        a, b = child("a", WAITS), child("b", WAITS)
        supervisor = Supervisor([a, b], lambda name, pid: told.append((name, pid)))
        await supervisor.start()
        first, other = a.pid, b.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: bool(told))
        assert told == [("a", a.pid)]
        assert a.pid != first
        assert b.pid == other
        await supervisor.stop()
        assert all(map(gone, (first, a.pid, b.pid)))
        assert len(told) == 1

    run(scenario)


def test_a_crash_loop_is_slowed_down():
    """One that dies at once is started again and again, later each time."""

    async def scenario(told):
        moments = []
        supervisor = Supervisor([child("a", DIES)], lambda name, pid: moments.append(time.monotonic()))
        began = time.monotonic()
        await supervisor.start()
        await until(lambda: len(moments) == 3)
        await supervisor.stop()
        assert moments[2] - began >= 0.2 + 0.4 + 0.8

    run(scenario)


def test_what_ignores_the_request_is_killed(capfd, monkeypatch):
    """A child that does not end when it is asked to is killed after a while."""
    monkeypatch.setattr("evaluator.supervise._STOP_WITHIN", 0.3)

    async def scenario(told):
        stubborn = child("a", STUBBORN)
        supervisor = Supervisor([stubborn], lambda name, pid: None)
        await supervisor.start()
        seen = []
        await until(lambda: bool(seen.append(capfd.readouterr().err) or "up" in "".join(seen)))
        await supervisor.stop()
        assert gone(stubborn.pid)

    run(scenario)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_what_a_child_leaves_behind_goes_too(how, capfd, monkeypatch):
    """A process that a child had started (a hung member's) does not outlive it."""
    monkeypatch.setattr("evaluator.supervise._STOP_WITHIN", 1.0)

    async def scenario(told):
        parent = child("a", PARENT)
        supervisor = Supervisor([parent], lambda name, pid: told.append(pid))
        await supervisor.start()
        said = ""

        def grandchild() -> int:
            nonlocal said
            said += capfd.readouterr().err
            return int(said.split("grandchild ")[1].split("\n")[0]) if "grandchild " in said else 0

        await until(lambda: grandchild() > 0)
        pid = grandchild()
        assert not gone(pid)
        if how == "killed":
            os.kill(parent.pid, signal.SIGKILL)
            await until(lambda: gone(pid))
        await supervisor.stop()
        await until(lambda: gone(pid))

    run(scenario)


def test_lines_of_a_child_carry_its_name(capfd):
    """What a child writes comes out on standard error with its name in front, however long the line."""

    async def scenario(told):
        program = "import time; print('x' * 300_000); print('hello', flush=True); time.sleep(600)"
        supervisor = Supervisor([child("host-0", program)], lambda name, pid: None)
        await supervisor.start()
        seen = []
        await until(lambda: bool(seen.append(capfd.readouterr().err) or "hello" in "".join(seen)))
        await supervisor.stop()
        assert "host-0 | hello\n" in "".join(seen)

    run(scenario)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent")
def test_children_die_with_a_supervisor_that_is_killed():
    """kill -9 of the supervisor leaves no child."""
    program = f"""
import asyncio, os, sys
from evaluator.supervise import Child, Supervisor

async def main():
    children = [Child(n, [sys.executable, "-c", {WAITS!r}], os.environ) for n in "ab"]
    await Supervisor(children, lambda name, pid: None).start()
    print(*(child.pid for child in children), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert supervisor.stdout
    pids = [int(part) for part in supervisor.stdout.readline().split()]
    assert len(pids) == 2
    supervisor.kill()
    supervisor.communicate()
    asyncio.run(until(lambda: all(map(gone, pids))))


def test_one_that_crashes_twice_is_started_with_care():
    """Its careful arguments are added once; a kill from outside is no crash."""
    program = "import sys, time\nif '--care' not in sys.argv: raise SystemExit(3)\n" + WAITS

    async def scenario(told):
        careful = Child("a", [sys.executable, "-c", program], os.environ, ["--care"])
        killed = Child("b", [sys.executable, "-c", WAITS], os.environ, ["--care"])
        supervisor = Supervisor([careful, killed], lambda name, pid: told.append(name))
        await supervisor.start()
        for n in (1, 2):
            os.kill(killed.pid, signal.SIGKILL)
            await until(lambda n=n: told.count("b") == n)
        await until(lambda: told.count("a") == 2)
        assert careful.command[-1] == "--care"
        assert killed.command[-1] != "--care"
        assert careful.process is not None
        assert careful.process.returncode is None
        await supervisor.stop()

    run(scenario)
