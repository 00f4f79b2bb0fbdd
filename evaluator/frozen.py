"""The counts that a verdict was reached on, as an event keeps them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from evaluator.cells import Cells
from evaluator.tables import block_tables, sets
from streams.suite import Suite


def frozen_counts(cells: Cells, suite: Suite, matured: int, members: Collection[str]) -> dict[str, Any]:
    """Per member its mature blocks: [start (ms), positives and labels of its unique set, positives and labels
    of the live suite's OR]. `matured` (ms) is where mature buckets end."""
    tables = block_tables(
        cells,
        suite.live,
        matured,
        suite.policy.block,
        missing_is_negative=suite.labels.missing_is_negative,
    )
    names = [name for name in suite.members if name in members]
    column = {name: i for i, name in enumerate(tables.ids)}
    live = [column[name] for name in suite.live]
    fired = np.any(tables.yes[:, live], axis=1)
    firing = tables.yes[:, live].sum(axis=1)
    own = np.zeros((len(tables.yes), len(names)), dtype=np.bool_)
    for k, name in enumerate(names):
        mine = tables.yes[:, column[name]]
        own[:, k] = mine & (firing == 1 if name in suite.live else ~fired)
    one, other = sets(tables, own), sets(tables, fired[:, None])
    rows = [tables.starts, other.positives[0], other.labels[0]]
    return {
        name: np.stack([rows[0], one.positives[k], one.labels[k], rows[1], rows[2]], axis=1)
        .astype(np.int64)
        .tolist()
        for k, name in enumerate(names)
    }
