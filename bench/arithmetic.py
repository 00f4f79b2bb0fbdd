"""The third row: figures and verdicts of 64 members, 10 000 patterns and 7 days, whatever the traffic."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from evaluator.cells import Cells
from evaluator.judgement import Moment, judge_suite
from evaluator.whatif import change, histogram, order
from evaluator.windows import evaluate
from streams.suite import DAY, Suite, parse_suite

MEMBERS, LIVE, PATTERNS, DAYS, CELLS = 64, 20, 10_000, 7, 100_000
BUCKET, HOUR = 300_000, 3_600_000
BAR = 50.0  # ms


def suite() -> Suite:
    """64 members, 20 of them live."""
    members = "".join(
        f'[[member]]\nname = "m{i}"\nversion = "1"\nstage = "{"live" if i < LIVE else "shadow"}"\n'
        'owner = "o"\nloader = "x:Y"\n'
        for i in range(MEMBERS)
    )
    return parse_suite(f'name = "b"\nbucket = "5m"\nwindows = ["7d"]\n{members}')


def cells(requests: int) -> Cells:
    """A histogram of so many requests; its size does not depend on their number."""
    rng = np.random.default_rng(5)
    ids = [f"m{i}@1" for i in range(MEMBERS)]
    yes = rng.random((PATTERNS, MEMBERS)) < 0.05
    yes[np.arange(PATTERNS), rng.integers(0, MEMBERS, PATTERNS)] = True
    buckets = DAYS * DAY // BUCKET
    volume = np.full(buckets, requests // buckets, dtype=np.int64)
    scored = np.repeat(volume[:, None], MEMBERS, axis=1)
    return Cells(
        ids,
        rng.integers(0, buckets, CELLS),
        rng.integers(0, PATTERNS, CELLS),
        rng.choice([0, 5, 6], CELLS),
        np.full(CELLS, max(requests // CELLS // 4, 1), dtype=np.int64),
        yes,
        np.zeros_like(yes),
        [""] * PATTERNS,
        np.ones(PATTERNS, dtype=np.int64),
        np.arange(buckets, dtype=np.int64) * BUCKET,
        volume,
        scored,
        np.zeros_like(scored),
        np.zeros_like(scored),
    )


def rows(rounds: int) -> list[dict[str, Any]]:
    """Median ms of each computation, at a million requests and at a thousand million."""
    declared = suite()
    end = DAYS * DAY
    moment = Moment(end, end + HOUR, end + 7 * HOUR, 6 * HOUR)
    out = []
    tables = {requests: cells(requests) for requests in (10**6, 10**9)}
    work = {
        "contributions and verdicts": lambda c: (
            evaluate(c, declared.live, 0, end, BUCKET),
            judge_suite(c, declared, moment),
        ),
        "what-if and promotion order": lambda c: (
            change(h := histogram(c, c.ids, 0, end, DAY), declared.live, ["m30@1"], ["m3@1"]),
            order(h, declared.shadow, declared.live),
        ),
    }
    for name, call in work.items():
        spent: dict[int, list[float]] = {requests: [] for requests in tables}
        for _ in range(2 * rounds + 1):
            for requests, table in tables.items():
                began = time.perf_counter()
                call(table)
                spent[requests].append((time.perf_counter() - began) * 1e3)
        ms = {requests: statistics.median(values[1:]) for requests, values in spent.items()}
        out.append(
            {
                "name": f"{name}, 64 × 10 000 × 7 d: {BAR:g} ms / measured",
                "ratio": round(BAR / max(ms.values()), 2),
                "bar": 1.0,
                "ms": [round(value, 1) for value in ms.values()],
            }
        )
    return out
