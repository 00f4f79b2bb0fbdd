"""The members of the suite beside this file. docs/members.md says how to write one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.batch import Batch


class Above:
    """True where one feature lies above a threshold; a request without that feature abstains."""

    def __init__(self, feature: str, above: float) -> None:
        self.needs = {feature: float}
        self.feature, self.above = feature, above

    def vote(self, batch: Batch) -> NDArray[np.bool_]:
        """bool[n]."""
        answer: NDArray[np.bool_] = batch[self.feature] > self.above
        return answer


class Squall:
    """True where wind and rain come together, each below what `Above` waits for."""

    needs = {"wind": float, "rain": float}  # noqa: RUF012

    def __init__(self, wind: float, rain: float) -> None:
        self.wind, self.rain = wind, rain

    def vote(self, batch: Batch) -> NDArray[np.bool_]:
        """bool[n]."""
        answer: NDArray[np.bool_] = (batch["wind"] > self.wind) & (batch["rain"] > self.rain)
        return answer
