"""The replay: requests and labels written to Kafka in the order in which they really came.

A request is a flight at its scheduled departure, its label comes hours later, when the flight did. Several
thousand events become a few batches; nothing is sent one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from evaluator.demo.features import table
from evaluator.demo.flights import Flights, Ints
from streams.connect import make_producer
from streams.settings import Kafka
from streams.topics import Topics

_CHUNK = 4000
_MINUTE = 60_000
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the replay is: event time (epoch ms) and what has been written so far."""

    time: int
    requests: int
    labels: int


@dataclass(frozen=True)
class Timeline:
    """The events of a replay in order: at[i] (epoch ms), whether it is a label, and of which flight."""

    at: Ints
    label: NDArray[np.bool_]
    flight: Ints

    @property
    def requests(self) -> int:
        """How many of the events are requests."""
        return int(len(self.label) - self.label.sum())

    def __len__(self) -> int:
        return len(self.at)


def timeline(flights: Flights, days: int | None = None) -> Timeline:
    """Requests at the scheduled departure and labels when they came, of the first `days` days (None: all).

    A day begins at midnight UTC. Labels of the last flights come after the last request.
    """
    n = len(flights)
    if days is not None and n:
        first = int(flights.scheduled[0]) // 1440 * 1440
        n = int(np.searchsorted(flights.scheduled, first + days * 1440))
    at = np.concatenate([flights.scheduled[:n], flights.labelled[:n]]) * _MINUTE
    label = np.repeat([False, True], n)
    order = np.lexsort((label, at))
    return Timeline(at[order], label[order], np.tile(np.arange(n), 2)[order])


class Encoder:
    """Flights as the JSON of their requests and labels."""

    def __init__(self, flights: Flights) -> None:
        features = {name: column.tolist() for name, column in table(flights).items()}
        self._names, self._columns = list(features), list(features.values())
        self._ids = flights.ids
        self._scheduled = (flights.scheduled * _MINUTE).tolist()
        self._labelled = (flights.labelled * _MINUTE).tolist()
        self._late = flights.late.tolist()

    def key(self, flight: int) -> bytes:
        """The key of the flight's records: its request id."""
        return self._ids[flight].encode()

    def request(self, flight: int) -> bytes:
        """A record of `requests`. A feature that was not known (NaN) is left out."""
        features: dict[str, Any] = {}
        for name, column in zip(self._names, self._columns, strict=True):
            value = column[flight]
            if value.__class__ is not float or value == value:
                features[name] = value
        return _encode(
            {"request_id": self._ids[flight], "timestamp": self._scheduled[flight], "features": features}
        )

    def label(self, flight: int) -> bytes:
        """A record of `labels`."""
        return _encode(
            {
                "request_id": self._ids[flight],
                "label": self._late[flight],
                "labelled_at": self._labelled[flight],
                "source": "arrivals",
                "requested_at": self._scheduled[flight],
            }
        )


async def replay(
    flights: Flights,
    kafka: Kafka,
    topics: Topics,
    *,
    speed: float = 0,
    days: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    gate: Callable[[int], Awaitable[None]] | None = None,
) -> Progress:
    """Write the events; return what was written once the broker has acknowledged all of it.

    speed: seconds of event time per second of wall clock; 0 is as fast as possible. `gate` is awaited with
    the event time (epoch ms) of what comes next: it holds the replay back while the suite has fallen behind.
    """
    line, encoder = timeline(flights, days), await asyncio.to_thread(Encoder, flights)
    producer = make_producer(kafka, max_batch_size=1 << 19, linger_ms=0)
    await producer.start()
    done = Progress(int(line.at[0]) if len(line) else 0, 0, 0)
    waiting: list[Any] = []
    try:
        began, at = time.monotonic(), 0
        while at < len(line):
            end = min(at + _CHUNK, len(line))
            if speed:
                now = line.at[0] + (time.monotonic() - began) * speed * 1000
                end = min(end, int(np.searchsorted(line.at, now, side="right")))
                if end == at:
                    await asyncio.sleep(min(0.1, max(0.001, (line.at[at] - now) / (speed * 1000))))
                    continue
            if gate is not None:
                await gate(int(line.at[at]))
            sent = await _send(producer, topics, encoder, line, at, end)
            # One chunk is encoded while the broker takes the one before.
            await asyncio.gather(*waiting)
            waiting = sent
            labels = int(line.label[at:end].sum())
            done = Progress(int(line.at[end - 1]), done.requests + end - at - labels, done.labels + labels)
            progress(done)
            at = end
        await asyncio.gather(*waiting)
        return done
    finally:
        await producer.stop()


async def _send(
    producer: Any, topics: Topics, encoder: Encoder, line: Timeline, start: int, end: int
) -> list[Any]:
    """Hand the events start ≤ i < end to the producer; returns what to await for the acknowledgements."""
    counts = {topic: len(await producer.partitions_for(topic)) for topic in (topics.requests, topics.labels)}
    rows: dict[tuple[str, int], list[tuple[bytes, bytes]]] = defaultdict(list)
    flights, labels = line.flight[start:end].tolist(), line.label[start:end].tolist()
    for flight, is_label in zip(flights, labels, strict=True):
        key = encoder.key(flight)
        topic = topics.labels if is_label else topics.requests
        value = encoder.label(flight) if is_label else encoder.request(flight)
        rows[topic, crc32(key) % counts[topic]].append((key, value))
    sent = []
    for (topic, partition), pairs in rows.items():
        batch = producer.create_batch()
        for key, value in pairs:
            if batch.append(key=key, value=value, timestamp=None) is None:
                batch.close()
                sent.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent
