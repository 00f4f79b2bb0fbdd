"""Traffic: three event days of requests and labels, in the worst order, with everything that can be wrong."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from tests.e2e.bad import BAD

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp() * 1000)
#: The watermark at the end; its bucket begins at `LAST`, so windows end there.
LAST = START + 3 * DAY + 5 * MINUTE
END = LAST + 2 * MINUTE + 345
#: How far the labels come.
THROUGH = END + HOUR


@dataclass(frozen=True)
class Event:
    """One record to be sent. `bad` is the reason under which it must turn up in dead letters."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    client: str = "aiokafka"
    partition: int | None = None
    bad: str | None = None


class Traffic:
    """`events` in the order in which they are to be sent, and `closing` for after them.

    Closing records go to every partition and stand at END and THROUGH, so that it is known where the
    watermark and the labels come to in the end.
    """

    def __init__(self, seed: int, requests: int, partitions: int) -> None:
        self._random = random.Random(seed)
        self.events: list[Event] = []
        edges = [LAST - length + shift for length in (HOUR, DAY, 2 * DAY) for shift in (-1, 0)]
        times = [*edges, LAST - 1, LAST, LAST - 6 * HOUR, START]
        times += [START + int(self._random.random() * (LAST - START)) for _ in range(requests - len(times))]
        for number, time in enumerate(times):
            self._request(f"r{number:05d}", time)
        self._labels_for_nothing()
        for topic, value, key, reason in BAD:
            self.events.append(
                Event(topic, value, key, partition=0 if topic == "votes" else None, bad=reason)
            )
        self._random.shuffle(self.events)
        self.closing = [event for p in range(partitions) for i in range(5) for event in _closing(p, i)]

    def _request(self, request_id: str, time: int) -> None:
        rnd = self._random
        features: dict[str, Any] = {"x": rnd.random(), "y": rnd.random(), "unheard_of": [1, {"a": None}]}
        if rnd.random() < 0.8:
            features["z"] = rnd.random()
        elif rnd.random() < 0.5:
            features["z"] = None
        if rnd.random() < 0.9:
            features["region"] = rnd.choice(["north", "süd", "oeste"])
        copies = 1 if rnd.random() < 0.9 else rnd.choice([2, 2, 3])
        for _ in range(copies):
            value = {"request_id": request_id, "timestamp": self._instant(time), "features": features}
            self._send("requests", request_id, value)
        if rnd.random() < 0.65:
            self._labels(request_id, time, features["x"] + 0.4 * features["y"] > 0.75)

    def _labels(self, request_id: str, time: int, truth: bool) -> None:
        """One to three versions of a label: revised, withdrawn, tied in part, sent twice."""
        rnd = self._random
        early = time < START + 12 * HOUR and rnd.random() < 0.4
        asked = time if rnd.random() < 0.9 else max(0, time + rnd.randint(-20, 20) * MINUTE)
        if asked >= LAST:
            asked = time
        # Those that may have to wait for their request wait in one day: labels wait by the day.
        at = START + DAY + 10 * HOUR if early else time + rnd.randint(10 * MINUTE, 20 * HOUR)
        at = min(at, THROUGH - 3 * HOUR)
        revision = rnd.randint(0, 3)
        source = "bank"
        for number in range(rnd.choice([1, 1, 1, 2, 3])):
            if number:  # the next one beats the one before by its revision, its time or its source
                match rnd.randint(0, 2):
                    case 0:
                        revision, at = revision + rnd.randint(1, 3), at - rnd.randint(0, 2 * HOUR)
                    case 1:
                        at += rnd.randint(1, HOUR)
                    case _:
                        source += "s"
            label = None if rnd.random() < 0.1 else truth if rnd.random() < 0.8 else not truth
            value: dict[str, Any] = {
                "request_id": request_id,
                "label": label,
                "labelled_at": self._instant(at),
                "source": source,
                "revision": revision,
            }
            # In the first half day many labels come without; a few everywhere do, beside others that have it.
            if not early and (number == 0 or rnd.random() < 0.7):
                value["requested_at"] = self._instant(asked)
            for _ in range(2 if rnd.random() < 0.1 else 1):
                self._send("labels", request_id, value)

    def _labels_for_nothing(self) -> None:
        """Some wait for a request that never comes; some say when it was asked, and are placed there."""
        for number in range(30):
            value: dict[str, Any] = {
                "request_id": f"nobody-{number}",
                "label": [True, False, None][number % 3],
                "labelled_at": self._instant(START + DAY + number * MINUTE),
            }
            if number % 2:
                value["requested_at"] = self._instant(START + number * HOUR)
            self._send("labels", value["request_id"], value)

    def _send(self, topic: str, request_id: str, value: dict[str, Any]) -> None:
        client = self._random.choice(["aiokafka", "confluent"])
        self.events.append(Event(topic, json.dumps(value).encode(), request_id.encode(), client))

    def _instant(self, ms: int) -> Any:
        """The same instant in one of the ways in which people write it."""
        rnd = self._random
        kind = rnd.randint(0, 5)
        if kind < 3:
            return ms if kind else float(ms)
        moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
        if kind == 3:
            moment = moment.astimezone(timezone(timedelta(hours=rnd.choice([-5, 1, 9]), minutes=30)))
        text = moment.isoformat(timespec="milliseconds")
        if kind == 4:
            return text.removesuffix("+00:00")  # without a zone it is UTC
        return text.replace("+00:00", "Z")


def _closing(partition: int, number: int) -> list[Event]:
    name = f"closing-{partition}-{number}"
    request = {"request_id": name, "timestamp": END, "features": {"x": 0.0, "y": 0.0, "z": 0.0}}
    label = {"request_id": name, "label": False, "labelled_at": THROUGH, "requested_at": END}
    return [
        Event("requests", json.dumps(request).encode(), name.encode(), partition=partition),
        Event("labels", json.dumps(label).encode(), name.encode(), partition=partition),
    ]
