"""Figures repaired for selective labels, with their intervals: for reading, beside the plain counts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import ANCHORED, LABEL, Cells
from evaluator.evidence.classes import Estimate, Strata, classes, estimate, strata
from streams.suite import Suite

_DRAWS = 400


def repaired(cells: Cells, suite: Suite, start: int, end: int) -> dict[str, dict[str, Any]]:
    """Per member id, and for the suite under "": post-stratified ratios of the window [start, end) in ms.

    suite: precision, recall; member: precision, unique_precision, unique_recall. Each is {value, low, high,
    coverage, missing, insufficient}; recall is None where a label came without `requested_at`. Empty for a
    suite that holds out: acting may have distorted what is labelled there, and its verdicts know that.
    """
    if suite.holdout or not ((cells.starts >= start) & (cells.starts < end)).any():
        return {}
    inside = ((cells.starts >= start) & (cells.starts < end))[cells.bucket]
    state = cells.state[inside]
    anchored = not bool(((state & LABEL > 0) & (state & ANCHORED == 0)).any())
    live = suite.live
    # Labels may be there for what a candidate flagged: the finest patterns known everywhere serve all.
    common = [*live, *_along(cells, suite, start, end)]
    view = _View(cells, common, live, start, end, suite.policy.block)
    out = {
        "": {
            "precision": view.ratio(view.fired),
            "recall": view.ratio(view.fired, view.everything) if anchored else None,
        }
    }
    for name in suite.members:
        one = view
        if name not in common:
            one = _View(cells, [*common, name], live, start, end, suite.policy.block)
        mine = one.g.yes[:, one.ids.index(name)]
        own = mine & ~one.other_than(name)
        out[name] = {
            "precision": one.ratio(mine),
            "unique_precision": one.ratio(own),
            "unique_recall": one.ratio(own, one.everything) if anchored else None,
        }
    return out


def _along(cells: Cells, suite: Suite, start: int, end: int) -> list[str]:
    """The candidates that have scored whatever all live members have."""
    inside = (cells.starts >= start) & (cells.starts < end)
    covered = cells.scored[inside] >= cells.volume[inside, None]
    live = np.all(covered[:, [cells.ids.index(name) for name in suite.live]], axis=1)
    return [name for name in suite.shadow if covered[live, cells.ids.index(name)].all()]


@dataclass(slots=True)
class _View:
    """Strata over some members, in the buckets that all of them covered."""

    g: Strata
    ids: list[str]
    live: list[str]
    member: NDArray[np.int64]

    def __init__(
        self, cells: Cells, ids: Sequence[str], live: Sequence[str], start: int, end: int, block: int
    ) -> None:
        self.ids, self.live = list(ids), list(live)
        self.g, _ = strata(cells, self.ids, start, end, block)
        self.member = classes(self.g, self.fired[:, None])

    @property
    def everything(self) -> NDArray[np.bool_]:
        return np.ones(len(self.g.yes), dtype=np.bool_)

    @property
    def fired(self) -> NDArray[np.bool_]:
        return self.other_than("")

    def other_than(self, name: str) -> NDArray[np.bool_]:
        """bool[G]: a live member other than this one says True."""
        columns = [self.ids.index(each) for each in self.live if each != name]
        return np.asarray(np.any(self.g.yes[:, columns], axis=1))

    def ratio(self, part: NDArray[np.bool_], whole: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        return _document(estimate(self.g, self.member, part, whole, draws=_DRAWS))


def _document(found: Estimate) -> dict[str, Any]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "coverage": found.coverage,
        "missing": found.missing,
        "insufficient": found.insufficient(),
    }
