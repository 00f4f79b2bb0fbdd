"""Train the demo's small model: ``python -m evaluator.demo.train [FOLDER]``.

Logistic regression on the flights that were scheduled before `THROUGH`, by Newton's method; the weights go
into ``logistic.json``. Prints how precise it is afterwards, on flights that it has never seen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluator.demo.features import table
from evaluator.demo.flights import load_flights
from evaluator.demo.members import design, design_names
from streams.times import format_time, parse_time

#: End of February 28, New York time: what suite.toml calls trained_through.
THROUGH = parse_time("2013-03-01T05:00:00Z")
_RIDGE = 1.0


def fit(
    inputs: NDArray[np.float64], late: NDArray[np.bool_], rounds: int = 12
) -> tuple[NDArray[np.float64], float]:
    """(weights[d], bias) of the ridge-regularised logistic regression of `late` on `inputs` float[n, d]."""
    columns = np.hstack([inputs, np.ones((len(inputs), 1))])
    penalty = np.full(columns.shape[1], _RIDGE)
    penalty[-1] = 0.0
    beta = np.zeros(columns.shape[1])
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-columns @ beta))
        gradient = columns.T @ (late - chance) - penalty * beta
        curvature = (columns * (chance * (1 - chance))[:, None]).T @ columns + np.diag(penalty)
        beta += np.linalg.solve(curvature, gradient)
    return beta[:-1], float(beta[-1])


def main(folder: Path) -> None:
    """Train, write `folder`/logistic.json and print the precision at a few thresholds."""
    flights = load_flights()
    features = table(flights)
    inputs = design(features.__getitem__, len(flights))
    # Only labels that had come by then: the last evening's flights were still in the air.
    seen = flights.labelled * 60_000 <= THROUGH
    weights, bias = fit(inputs[seen], flights.late[seen])
    model = {
        "trained_through": format_time(THROUGH),
        "flights": int(seen.sum()),
        "bias": round(bias, 5),
        "weights": {name: round(float(w), 5) for name, w in zip(design_names(), weights, strict=True)},
    }
    (folder / "logistic.json").write_text(json.dumps(model, indent=2) + "\n", encoding="utf-8")
    chance = 1 / (1 + np.exp(-(inputs @ weights + bias)))
    after = flights.scheduled * 60_000 > THROUGH
    for above in (0.3, 0.4, 0.5, 0.6):
        flagged = after & (chance > above)
        print(f"above {above}: flags {flagged.sum()} later flights, {flights.late[flagged].mean():.3f} late")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
