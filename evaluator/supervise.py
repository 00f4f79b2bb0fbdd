"""Child processes that are started, watched, replaced when they die, and stopped together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from streams.embedded.process import die_with_parent

log = logging.getLogger("chorus.up")

_FIRST, _LONGEST, _HEALTHY = 0.2, 10.0, 30.0  # s
_STOP_WITHIN = 6.0
_CRASHES = 2
_POLL = 0.05

OnRestart = Callable[[str, int], None]


class Child:
    """One process by name. Its stderr is passed on, each line with the name in front.

    careful: arguments that are added to the command once it has crashed twice in a row.
    """

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], careful: Sequence[str] = ()
    ) -> None:
        self.name, self.command, self.env = name, list(command), dict(env)
        self.careful = list(careful)
        self.process: asyncio.subprocess.Process | None = None
        self._relay: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 before it was started."""
        return self.process.pid if self.process else 0

    async def start(self) -> None:
        """Start it, or start it anew."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the children in order
            preexec_fn=die_with_parent(),
        )
        self._relay = asyncio.create_task(self._pass_on(self.process))

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line beyond the reader's limit
                continue
            if not line:
                return
            sys.stderr.write(f"{self.name} | {line.decode(errors='replace')}")
            sys.stderr.flush()

    async def ended(self) -> int:
        """Wait until it has ended; its exit code, or minus the signal.

        `Process.wait` will not do: it also waits for the end of the output, which a process that the child
        has started keeps open.
        """
        assert self.process
        while self.process.returncode is None:
            await asyncio.sleep(_POLL)
        return self.process.returncode

    async def finish(self) -> None:
        """Pass on what is left of its output, once it and what it had started are gone."""
        self.clear()
        if self._relay:
            await asyncio.wait([self._relay], timeout=1.0)
            self._relay.cancel()

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it has started; nothing where it is gone."""
        if self.process and self.process.returncode is None:
            self._signal_group(number)

    def clear(self) -> None:
        """Kill what it has started and left behind when it ended, such as the process of a hung member."""
        if self.process and self.process.returncode is not None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        assert self.process
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Supervisor:
    """Keeps children running until it is stopped; a crash loop is slowed down, never given up."""

    def __init__(self, children: Sequence[Child], on_restart: OnRestart) -> None:
        self.children = list(children)
        self._on_restart = on_restart
        self._watches: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start all of them and watch them from now on."""
        for child in self.children:
            await child.start()
        self._watches = [asyncio.create_task(self._watch(child)) for child in self.children]

    async def _watch(self, child: Child) -> None:
        delay, crashes = _FIRST, 0
        while True:
            began = time.monotonic()
            code = await child.ended()
            child.clear()
            if self._stopping:
                return
            if time.monotonic() - began > _HEALTHY:
                delay, crashes = _FIRST, 0
            crashes += code != -signal.SIGKILL  # that one comes from outside
            if crashes >= _CRASHES and child.careful:
                log.warning(
                    "%s crashes again and again: from now on with %s", child.name, " ".join(child.careful)
                )
                child.command += child.careful
                child.careful = []
            log.warning("%s ended with %s; starting it again in %.1f s", child.name, _say(code), delay)
            await asyncio.sleep(delay)
            delay = min(_LONGEST, delay * 2)
            await child.start()
            self._on_restart(child.name, child.pid)

    async def stop(self) -> None:
        """Ask all to end, and kill those that do not."""
        self._stopping = True
        for watch in self._watches:
            watch.cancel()
        for child in self.children:
            child.signal(signal.SIGTERM)
        await self._wait(_STOP_WITHIN)
        self.kill()
        await self._wait(2.0)
        for child in self.children:
            await child.finish()

    def kill(self) -> None:
        """End all at once."""
        for child in self.children:
            child.signal(signal.SIGKILL)

    async def _wait(self, seconds: float) -> None:
        running = [
            asyncio.ensure_future(child.ended())
            for child in self.children
            if child.process and child.process.returncode is None
        ]
        if running:
            await asyncio.wait(running, timeout=seconds)
            for each in running:
                each.cancel()


async def until(check: Callable[[], Awaitable[bool]], *, every: float = 0.1) -> None:
    """Await until `check` says True."""
    while not await check():
        await asyncio.sleep(every)


def _say(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
