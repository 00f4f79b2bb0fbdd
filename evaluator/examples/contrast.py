"""In which features two groups of requests differ most. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_ENOUGH = 5  # requests that have the feature, in each group


def telling(
    ours: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], declared: Sequence[str]
) -> list[str]:
    """Names of the features of `ours`: those first whose values differ most from those of `others`.

    The difference is the greatest gap between the distribution functions for numbers, and half of the summed
    differences of the shares for anything else. Where it cannot be known the order is that of `declared`.
    """
    names = dict.fromkeys(name for name in declared if any(name in each for each in ours))
    names |= dict.fromkeys(name for each in ours for name in each)
    gaps = {name: _gap(_values(ours, name), _values(others, name)) for name in names}
    return sorted(names, key=lambda name: -gaps[name])


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row.get(name) is not None]


def _gap(a: list[Any], b: list[Any]) -> float:
    if min(len(a), len(b)) < _ENOUGH:
        return 0.0
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in (*a, *b)):
        left, right = np.sort(np.array(a, dtype=np.float64)), np.sort(np.array(b, dtype=np.float64))
        at = np.concatenate((left, right))
        steps = (np.searchsorted(x, at, side="right") / len(x) for x in (left, right))
        return float(np.abs(np.subtract(*steps)).max())
    if len(set(map(str, (*a, *b)))) > (len(a) + len(b)) / 2:
        return 0.0  # free text and ids differ in any two groups, which tells nothing
    shares = [Counter(map(str, x)) for x in (a, b)]
    every = shares[0].keys() | shares[1].keys()
    return sum(abs(shares[0][v] / len(a) - shares[1][v] / len(b)) for v in every) / 2
