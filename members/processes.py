"""Which process a host is, so that two hosts of one name are not taken for one that was started twice."""

from __future__ import annotations

import os
import socket


def this_process() -> str:
    """``machine:pid``. A container that is started again in its place is the same machine, and often has the
    same pid; one that is made anew is another machine."""
    return f"{socket.gethostname()}:{os.getpid()}"


def ended(process: str) -> bool:
    """Whether a process may be an earlier one of this host: of this machine, and no other that still runs.

    One that nothing is said of may be.
    """
    machine, _, pid = process.rpartition(":")
    if not pid.isdigit():
        return True
    if machine != socket.gethostname():
        return False
    return process == this_process() or not _runs(int(pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
