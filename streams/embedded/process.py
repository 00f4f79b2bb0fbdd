"""A server as a child process: on a free loopback port, gone when its parent is."""

from __future__ import annotations

import ctypes
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from streams.errors import Unavailable

#: Seconds that a server may take to accept connections.
START_WITHIN = 20.0
#: Seconds between asking a server to end and killing it.
STOP_WITHIN = 3.0
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A loopback port that nobody listens on at this moment.

    It lies below those that systems give to outgoing connections: one of those could hold it just when a
    server that died is to come back on it.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def die_with_parent(number: int = signal.SIGKILL) -> Callable[[], None] | None:
    """What a child runs before its program, so that it gets this signal when its parent dies.

    Linux only, None elsewhere. The parent is the thread that starts the child: that must be one that stays.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may be loaded
    return lambda: prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) and None


def accepts(port: int) -> bool:
    """Whether somebody listens on this loopback port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Server:
    """One server process. Subclasses say how it is called; `start` returns once its port accepts."""

    name = "server"

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Program and arguments. Raises MissingDependency."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Called once the process is gone."""

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it. Raises MissingDependency."""
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for whoever started it
            preexec_fn=die_with_parent(),
        )

    def answers(self) -> bool:
        """Whether the process that was launched does its work."""
        return accepts(self.port)

    def start(self) -> Self:
        """Start it and wait until it answers. Raises MissingDependency, Unavailable."""
        if accepts(self.port):
            raise Unavailable(f"the embedded {self.name} cannot start: port {self.port} is taken")
        self.launch()
        deadline = time.monotonic() + START_WITHIN
        while True:
            # Asked in this order: somebody else on the port must not pass for a server that is dead.
            answers = self.answers()
            if self.running and answers:
                return self
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"the embedded {self.name} did not start on port {self.port}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask it to end, then kill it. Doing so twice is harmless."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self.clean_up()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
