"""Members run one after the other in a thread that can be left behind when one of them does not return."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any


class Job:
    """Calls to make in order. `outcomes[i]` is (result, None) or (None, error) once call i is over;
    `took[i]` the seconds that it took."""

    def __init__(self, calls: Sequence[Callable[[], Any]], loop: asyncio.AbstractEventLoop) -> None:
        self.calls = calls
        self.outcomes: list[tuple[Any, BaseException | None]] = []
        self.took: list[float] = []
        self.done: asyncio.Future[None] = loop.create_future()
        self.abandoned = False
        self.began = time.monotonic()
        self.returned: Callable[[], None] = lambda: None
        self._loop = loop
        self._lock = threading.Lock()

    def run(self) -> bool:
        """In the thread. False where the job was abandoned: another thread has gone on with the rest."""
        self.began = time.monotonic()
        for call in self.calls:
            try:
                outcome: tuple[Any, BaseException | None] = (call(), None)
            except BaseException as error:  # SystemExit and the like too: a member does not end its host
                outcome = (None, error)
            with self._lock:
                if self.abandoned:
                    self.returned()
                    return False
                # Before the next call counts as the current one: it does not inherit this one's time.
                now = time.monotonic()
                self.took.append(now - self.began)
                self.began = now
                self.outcomes.append(outcome)
        self._loop.call_soon_threadsafe(self._finish)
        return True

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def abandon(self, at: int, returned: Callable[[], None]) -> bool:
        """Leave call number `at` behind if it is still running; `returned` is called when it comes back."""
        with self._lock:
            if len(self.outcomes) != at:
                return False
            self.abandoned, self.returned = True, returned
            return True


class Runner:
    """One worker thread. Daemon: a call that never returns does not keep the process alive."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        threading.Thread(target=self._work, name="members", daemon=True).start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def close(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not job.run():
                    return
            except RuntimeError:  # the loop is closed: the process is on its way out
                return
