"""The members of the demo's suite and its candidates: small, and understandable one by one.

Each is an ordinary class, constructed with the suite file's `params`; ``vote`` gets a columnar batch and
answers with one bool per flight. Where a flight lacks a feature that a member `needs`, the member abstains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streams.batch import Batch

Answer = NDArray[np.bool_]


class LateInbound:
    """The plane's previous leg is late, so this one will be."""

    needs: ClassVar = {"inbound": float}

    def __init__(self, above: float) -> None:
        self.above = above

    def vote(self, batch: Batch) -> Answer:
        """True where the plane was more than `above` minutes late on its previous leg."""
        return np.asarray(batch["inbound"] > self.above)


class Queue:
    """The airport is in a jam: whoever should have left just before is late already."""

    needs: ClassVar = {"queue": float, "hour": int}

    def __init__(self, above: float, after: int = 0) -> None:
        self.above, self.after = above, after

    def vote(self, batch: Batch) -> Answer:
        """True where the flights before are late by more than `above` minutes on average, from `after` on."""
        return np.asarray((batch["queue"] > self.above) & (batch["hour"] >= self.after))


class Evening:
    """Delays add up over a day, so the evening's flights are late; of these carriers, or of all."""

    needs: ClassVar = {"hour": int, "carrier": str}

    def __init__(self, after: int, carriers: Sequence[str] = ()) -> None:
        self.after, self.carriers = after, frozenset(carriers)

    def vote(self, batch: Batch) -> Answer:
        """True from `after` o'clock (local) on."""
        late = np.asarray(batch["hour"] >= self.after)
        if self.carriers:
            late &= np.fromiter(
                (carrier in self.carriers for carrier in batch["carrier"]), np.bool_, len(batch)
            )
        return late


class Logistic:
    """A small trained model: see `evaluator.demo.train`. It copes with missing features by itself."""

    needs: ClassVar = {"hour": int, "distance": float}

    def __init__(self, above: float) -> None:
        self.above = above

    def load(self) -> None:
        """Read the weights that lie beside this file."""
        model = json.loads(resources.files("evaluator.demo").joinpath("logistic.json").read_text("utf-8"))
        self.bias = float(model["bias"])
        self.weights = np.array([model["weights"][name] for name in design_names()])

    def score(self, batch: Batch) -> NDArray[np.float64]:
        """The estimated probability of being late."""
        logit = design(batch.__getitem__, len(batch)) @ self.weights + self.bias
        return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float64)

    def vote(self, batch: Batch) -> Answer:
        """True where being late is more probable than `above`."""
        return np.asarray(self.score(batch) > self.above)


class Flaky:
    """`inner`'s idea, badly released: it cannot cope with the summer's schedule and raises from then on."""

    needs: ClassVar = {"hour": int}

    def __init__(self, after: int, until: str) -> None:
        self.after, self.until = after, int(np.datetime64(until, "ms").astype(np.int64))

    def vote(self, batch: Batch) -> Answer:
        """True from `after` o'clock on. Raises RuntimeError for flights later than `until`."""
        if len(batch) and batch.time.max() > self.until:
            raise RuntimeError("the schedule this was built for has ended")
        return np.asarray(batch["hour"] >= self.after)


_CARRIERS = ("9E", "AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN")


_MEASURES = ("queue", "airline_queue", "inbound", "inbound_known", "wind", "fog", "rain", "hour",
             "evening_queue", "distance")  # fmt: skip


def design_names() -> list[str]:
    """The columns of `design`, in order."""
    return [*_MEASURES, *(f"carrier_{name}" for name in _CARRIERS)]


def design(column: Callable[[str], NDArray[Any]], n: int) -> NDArray[np.float64]:
    """Features → the model's inputs, float[n, d], each about as large as 1. Missing counts as calm."""

    def minutes(name: str) -> NDArray[np.float64]:
        return np.asarray(np.clip(np.nan_to_num(column(name), nan=0.0), -15, 180) / 30)

    hour, queue = column("hour") / 12 - 1, minutes("queue")
    carrier = column("carrier")
    return np.stack(
        [
            queue,
            minutes("airline_queue"),
            minutes("inbound"),
            ~np.isnan(column("inbound")),
            np.nan_to_num(column("wind"), nan=10.0) / 10,
            (10 - np.nan_to_num(column("visibility"), nan=10.0)) / 10,
            np.minimum(np.nan_to_num(column("rain"), nan=0.0), 0.3) / 0.1,
            hour,
            np.where(column("hour") >= 16, queue, 0.0),
            column("distance") / 1000,
            *(np.fromiter((value == name for value in carrier), np.float64, n) for name in _CARRIERS),
        ],
        axis=1,
    ).astype(np.float64)
