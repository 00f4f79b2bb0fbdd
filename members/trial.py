"""A member tried in a process of its own before it comes near a host.

A module that crashes the interpreter, hangs, or keeps the interpreter to itself while it is imported does so
there. The process has a low priority and a time limit, and what it prints goes nowhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from members.check import Finding, check_member
from streams.suite import FeatureType, MemberSpec

#: Seconds that loading and checking may take together.
TRIAL_AT_MOST = 60.0
#: Findings that are worth a warning and no reason to refuse.
TOLERATED = frozenset(("random", "order"))
#: Seconds of work with the interpreter held, while it is loaded and asked, that the live members can bear.
_HELD = 1.0
_ROOT = str(Path(__file__).resolve().parents[1])


async def try_member(
    spec: MemberSpec, features: Mapping[str, FeatureType], *, limit: float = TRIAL_AT_MOST
) -> list[Finding]:
    """Load a member and check its contract in a child process of at most `limit` seconds; [] is well.

    Raises OSError when no process can be started.
    """
    asked = {"spec": spec.model_dump(mode="json"), "features": dict(features), "path": sys.path}
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "members.trial", str(int(limit) + 5),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        told, _ = await asyncio.wait_for(process.communicate(json.dumps(asked).encode()), limit)
    except TimeoutError:
        return [Finding("load", f"{spec.id}: it was not loaded and checked within {limit:g} s")]
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    try:
        return [Finding(code, detail) for code, detail in json.loads(told)]
    except ValueError:
        return [Finding("load", f"{spec.id}: {_ended(process.returncode)} while it was loaded and checked")]


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


class Pulse:
    """`longest`: seconds of this process's own work during which no other thread got its turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        last = time.process_time()  # not the wall's: a busy machine is nobody's fault
        while True:
            time.sleep(0.01)
            now = time.process_time()
            self.longest, last = max(self.longest, now - last), now


def main() -> None:
    """The child: reads what to try from standard input, and writes the findings to standard output."""
    signal.alarm(int(sys.argv[1]))  # also when nobody is left to end it
    os.nice(10)
    answer = os.dup(1)
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    sys.path[:] = asked["path"]
    spec, pulse = MemberSpec.model_validate(asked["spec"]), Pulse()
    found = check_member(spec, asked["features"])
    if (held := pulse.longest) > _HELD and not spec.isolate:
        found.append(
            Finding(
                "load",
                f"{spec.id}: it keeps the interpreter to itself for {held:.1f} s at a time, and nobody else "
                "could answer: set `isolate = true`",
            )
        )
    os.write(answer, json.dumps([[each.code, each.detail[:1000]] for each in found]).encode())
    os._exit(0)  # whatever threads the member has started


if __name__ == "__main__":
    main()
