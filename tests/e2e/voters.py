"""The members of the end-to-end suite, as a user would write them; copied beside the suite file."""

from __future__ import annotations

import numpy as np


class Above:
    """True where one feature is above a bound."""

    def __init__(self, feature, above):
        self.feature, self.above = feature, above
        self.needs = {feature: float}

    def vote(self, batch):
        return batch[self.feature] > self.above


class Total:
    """True where two features together are above a bound."""

    def __init__(self, above):
        self.above = above
        self.needs = {"x": float, "y": float}

    def vote(self, batch):
        return batch["x"] + batch["y"] > self.above


class Dice:
    """Answers at random, each time that it is asked."""

    def __init__(self, share):
        self.share = share
        self.random = np.random.default_rng()

    def vote(self, batch):
        return self.random.random(len(batch)) < self.share


class Moody(Above):
    """Fails on a fifth of its batches."""

    def vote(self, batch):
        if np.random.default_rng().random() < 0.2:
            raise RuntimeError("not today")
        return super().vote(batch)
