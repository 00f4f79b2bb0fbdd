"""A member in a process of its own: it may hold the interpreter or crash it, and only it is gone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from members.errors import LoadError, VoteError
from members.loading import load_member
from members.protocol import Votes, normalise
from streams.batch import Batch
from streams.suite import MemberSpec

_LOAD_AT_MOST = 60.0  # s


class IsolatedMember:
    """Votes by asking a child process; killed when it is late, and `dead` from then on.

    `allowed(n)` gives the seconds that a vote over n requests may take. Raises LoadError when the child
    cannot load the member.
    """

    def __init__(self, spec: MemberSpec, allowed: Callable[[int], float]) -> None:
        self._allowed = allowed
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec), daemon=True, name=spec.id)
        self._process.start()
        theirs.close()
        self.dead = False
        try:
            if not self._pipe.poll(_LOAD_AT_MOST):
                raise LoadError(f"{spec.id}: its process did not load it within {_LOAD_AT_MOST:.0f} s")
            problem, self.needs = self._pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise LoadError(f"{spec.id}: its process ended while it loaded") from None
        except LoadError:
            self.close()
            raise
        if problem:
            self.close()
            raise LoadError(problem)

    @property
    def pid(self) -> int | None:
        """Of the child process."""
        return self._process.pid

    def vote(self, batch: Batch) -> Any:
        """The child's answer. Raises VoteError when it is late, has crashed, or what its member raised."""
        try:
            self._pipe.send(batch)
            # A little earlier than the panel's own watch, so that the thread comes back.
            if not self._pipe.poll(self._allowed(len(batch)) * 0.9):
                self.close()
                raise VoteError("it was late, and its process was killed")
            problem, answer = self._pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise VoteError(f"its process ended with exit code {self._process.exitcode}") from None
        if problem:
            raise VoteError(problem)
        return answer

    def close(self) -> None:
        """Kill the child; it holds nothing that is not here too."""
        self.dead = True
        if self._process.is_alive():
            self._process.kill()
        self._process.join(1.0)
        self._pipe.close()


def _serve(pipe: Connection, spec: MemberSpec) -> None:
    try:
        member = load_member(spec)
    except LoadError as error:
        pipe.send((str(error), None))
        return
    pipe.send((None, getattr(member, "needs", None) and list(member.needs)))
    while True:
        try:
            batch = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send(_answer(member, batch))


def _answer(member: Any, batch: Batch) -> tuple[str | None, Any]:
    try:
        yes, no = normalise(member.vote(batch), len(batch))
    except VoteError as error:
        return str(error), None
    except Exception as error:
        return f"{type(error).__name__}: {error}", None
    return None, yes if no is None else Votes(yes, no)
