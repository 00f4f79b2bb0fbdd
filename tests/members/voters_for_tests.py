"""Members that misbehave in every way, for the tests of members/."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, ClassVar

import numpy as np

#: What Hang waits for, by the name that a test gave it.
GATES: dict[str, threading.Event] = {}
#: How often Switch was loaded, and whether it can be.
SWITCH = {"loads": 0, "broken": 0}


class Above:
    needs: ClassVar = {"wind": float}

    def __init__(self, above: float = 0.0) -> None:
        self.above = above

    def vote(self, batch: Any) -> Any:
        return batch["wind"] > self.above


class Returns:
    """Answers with whatever the expression makes of the batch."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def vote(self, batch: Any) -> Any:
        return eval(self.expression, {"np": np, "batch": batch, "n": len(batch)})


class Raises:
    def __init__(self, what: str = "ValueError") -> None:
        self.what = what

    def vote(self, batch: Any) -> Any:
        raise {"ValueError": ValueError, "SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[
            self.what
        ]("no idea")


class Hang:
    """Does not return before its gate opens."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def vote(self, batch: Any) -> Any:
        GATES[self.gate].wait(60)
        return np.ones(len(batch), bool)


class HangsLoading(Hang):
    """Does not finish loading before its gate opens."""

    def load(self) -> None:
        GATES[self.gate].wait(60)


class Switch(Above):
    def load(self) -> None:
        SWITCH["loads"] += 1
        if SWITCH["broken"]:
            raise OSError("the model is not there")


class Exits:
    """Ends the interpreter where the first wind is negative."""

    def vote(self, batch: Any) -> Any:
        if batch["wind"][0] < 0:
            os._exit(7)
        return batch["wind"] > 0


class HoldsGil:
    """Sleeps for a minute with the GIL held where the first wind is negative."""

    def vote(self, batch: Any) -> Any:
        if batch["wind"][0] < 0:
            ctypes.PyDLL(None).sleep(60)
        return batch["wind"] > 0


class NoVote:
    pass
