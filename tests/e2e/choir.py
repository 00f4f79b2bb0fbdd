"""The members of the promotion tests, as a user would write them; copied beside the suite file."""

from __future__ import annotations

import os
import sys


class Above:
    """True where one feature is above a bound."""

    def __init__(self, feature, above):
        self.feature, self.above = feature, above
        self.needs = {feature: float}

    def vote(self, batch):
        return batch[self.feature] > self.above


class Brittle(Above):
    """Well while it is a shadow, and for its first batches in the live host; then it fails each time."""

    calls = 0

    def vote(self, batch):
        if "serve" in sys.argv:
            type(self).calls += 1
            if self.calls > 8:
                raise RuntimeError("the disk is full")
        return super().vote(batch)


class Deadly(Above):
    """Well while it is a shadow; in the live host it ends the whole process."""

    calls = 0

    def vote(self, batch):
        if "serve" in sys.argv:
            type(self).calls += 1
            if self.calls > 4:
                os._exit(3)
        return super().vote(batch)


class Fatal(Above):
    """It ends the process that asks it: its host, or its own."""

    def vote(self, batch):
        if {"shadow", "serve"} & set(sys.argv) or "spawn_main" in "".join(sys.orig_argv):
            os._exit(3)
        return super().vote(batch)
