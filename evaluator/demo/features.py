"""What could be known at a flight's scheduled departure, computed for the whole year at once.

Only the past may be looked at: a departure counts once it has happened, and a flight that still stands at
the gate is as late as it is by now, no more. All functions take flights sorted by scheduled departure, times
in minutes, and return one value per flight (NaN where nothing was known).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluator.demo.flights import Flights, Floats, Ints

#: The queue at an airport is made of the flights scheduled in this many minutes before.
QUEUE = 120
#: A plane's previous departure from New York tells something for this many minutes.
TURN = 10 * 60


def known_delay(scheduled: Floats, departed: Floats, delay: Floats, arrived: Floats, now: Floats) -> Floats:
    """How late a flight was known to be at `now` (min): on arrival, else on departure, else so far."""
    gone = departed < now  # NaN: never
    there = (arrived < now) & ~np.isnan(delay)
    return np.where(there, delay, np.where(gone, departed - scheduled, now - scheduled))


def inbound(flights: Flights) -> Floats:
    """How late the same plane's previous flight from New York was known to be.

    (The leg that brought the plane back is not in the data.) NaN without a tail number, or when the plane
    did not leave New York in the `TURN` minutes before.
    """
    _, plane = np.unique(flights.tailnum.astype(str), return_inverse=True)
    order = np.lexsort((flights.scheduled, plane))
    before, after = order[:-1], order[1:]
    same = (plane[before] == plane[after]) & (flights.tailnum[after] != "NA")
    gap = flights.scheduled[after] - flights.scheduled[before]
    same &= (gap > 0) & (gap <= TURN)
    out = np.full(len(flights), np.nan)
    now = flights.scheduled[after].astype(np.float64)
    late = known_delay(
        flights.scheduled[before].astype(np.float64), flights.departed[before], flights.delay[before],
        flights.arrived[before], now,
    )  # fmt: skip
    out[after[same]] = late[same]
    return out


def queue(flights: Flights, group: NDArray[np.object_], span: int = QUEUE) -> Floats:
    """How late the flights of one group (airport, airline) scheduled in the `span` minutes before were known
    to be on average, at the gate of departure. NaN when there were none."""
    out = np.full(len(flights), np.nan)
    for name in np.unique(group.astype(str)):
        where = np.flatnonzero(group == name)
        out[where] = _queue(flights.scheduled[where], flights.departed[where], span)
    return out


def _queue(scheduled: Ints, departed: Floats, span: int) -> Floats:
    total, count = np.zeros(len(scheduled)), np.zeros(len(scheduled))
    for lag in range(1, len(scheduled)):
        now, then = scheduled[lag:], scheduled[:-lag]
        near = now - then <= span
        if not near.any():
            break
        near &= now > then
        late = np.where(departed[:-lag] < now, departed[:-lag] - then, now - then)
        total[lag:] += np.where(near, late, 0.0)
        count[lag:] += near
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count, dtype=np.float64)


def table(flights: Flights) -> dict[str, NDArray[np.object_] | Floats | Ints]:
    """Feature name → column, as suite.toml declares them, to the hundredth."""
    return {
        "inbound": inbound(flights),
        "queue": np.round(queue(flights, flights.origin), 2),
        "airline_queue": np.round(queue(flights, flights.carrier), 2),
        **{name: np.round(column, 2) for name, column in flights.weather.items()},
        "hour": flights.hour,
        "distance": flights.distance,
        "carrier": flights.carrier,
        "origin": flights.origin,
        "dest": flights.dest,
    }
