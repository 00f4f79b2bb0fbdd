"""What stands beside a ratio: its confidence sequence, and what an immature one may come to.

For reading only; nothing is decided on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluator.cells import LABEL, Cells
from evaluator.evidence.confidence import dispersion, interval
from evaluator.evidence.maturity import Delays, arrival, inflate
from evaluator.tables import block_tables, sets
from evaluator.windows import evaluate
from streams.labels import NEGATIVE, POSITIVE
from streams.suite import Suite

_FINE = 1_000  # counts are inflated in thousandths


@dataclass(frozen=True, slots=True)
class Dispersions:
    """φ of the mature blocks: by how much labels of one block repeat each other; at least 1."""

    suite: float
    flagged: Mapping[str, float]
    unique: Mapping[str, float]


def dispersions(cells: Cells, suite: Suite, matured: int) -> Dispersions:
    """φ for the suite, for what each member flags, and for what it alone flags."""
    tables = block_tables(cells, suite.live, matured, suite.policy.block)
    column = {name: i for i, name in enumerate(tables.ids)}
    live = [column[name] for name in suite.live]
    firing = tables.yes[:, live].sum(axis=1)
    mine = np.zeros_like(tables.yes)
    mine[:, live] = tables.yes[:, live]
    parts = {
        "suite": (firing > 0)[:, None],
        "flagged": tables.yes,
        "unique": tables.yes & (firing[:, None] == mine),
    }
    phi = {name: _phi(sets(tables, select)) for name, select in parts.items()}
    by_member = {name: dict(zip(tables.ids, phi[name], strict=True)) for name in ("flagged", "unique")}
    return Dispersions(phi["suite"][0], by_member["flagged"], by_member["unique"])


def _phi(found: Any) -> list[float]:
    out: list[float] = dispersion(found.positives, found.labels).tolist()
    return out


def add_intervals(windows: list[dict[str, Any]], phi: Dispersions) -> None:
    """Give every count of the windows its `interval`: a confidence sequence for the precision at 95 %."""
    counts = [(c, p) for c, p in _counts(windows, phi) if c["n"] is not None and c["positive"] is not None]
    s = np.array([c["positive"] for c, _ in counts], dtype=np.float64)
    n = s + np.array([c["negative"] for c, _ in counts], dtype=np.float64)
    low, high = interval(s, n, 0.05, np.array([p for _, p in counts]))
    for (count, _), a, b, labels in zip(counts, low.tolist(), high.tolist(), n.tolist(), strict=True):
        count["interval"] = [a, b] if labels else None


def _counts(windows: list[dict[str, Any]], phi: Dispersions) -> Iterator[tuple[dict[str, Any], float]]:
    for window in windows:
        for name in ("flagged", "unflagged", "answered"):
            yield window["suite"][name], phi.suite
        for member in window["members"]:
            yield member["flagged"], phi.flagged.get(member["id"], 1.0)
            yield member["unique"], phi.unique.get(member["id"], 1.0)


def add_estimates(
    window: dict[str, Any], cells: Cells, suite: Suite, delays: Delays, through: int, matured: int
) -> None:
    """Give the counts of an immature window their `estimate`: the precision once all labels have come.

    Each bucket's labels are weighed by 1 / F(age) of their outcome, F having been measured from the delays.
    """
    if window["end"] is None or window["end"] <= matured:
        return
    come = {outcome: arrival(delays, through, outcome) for outcome in (POSITIVE, NEGATIVE)}
    if not all(one.enough for one in come.values()):
        return
    age = np.maximum(through - cells.starts - suite.bucket // 2, 0)
    weight = {outcome: inflate(1.0, one.arrived(age)) for outcome, one in come.items()}
    label = cells.state & LABEL
    w = np.ones(len(cells.count))
    for outcome, per_bucket in weight.items():
        chosen = label == outcome
        w[chosen] = per_bucket[cells.bucket[chosen]]
    grown = replace(cells, count=np.rint(cells.count * w * _FINE).astype(np.int64))
    found = evaluate(grown, suite.live, window["start"], window["end"], suite.bucket)
    window["suite"]["flagged"]["estimate"] = found.flagged.precision
    by_id = {member.id: member for member in found.members}
    for member in window["members"]:
        member["flagged"]["estimate"] = by_id[member["id"]].flagged.precision
        member["unique"]["estimate"] = by_id[member["id"]].unique.precision
