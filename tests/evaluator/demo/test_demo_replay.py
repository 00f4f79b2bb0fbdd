"""The replay: the order of events, their records, and when everything has been counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from evaluator.demo.flights import Flights
from evaluator.demo.replay import Encoder, replay, timeline
from evaluator.demo.run import suite_file, uncounted
from evaluator.demo.story import Trend, story
from streams.labels import decode_labels
from streams.requests import RequestDecoder
from streams.settings import Kafka, Limits
from streams.suite import load_suite
from streams.topics import Topics


class Record:
    """What aiokafka hands out, as far as decoding looks."""

    def __init__(self, value: bytes, offset: int) -> None:
        self.value, self.offset, self.timestamp = value, offset, -1
        self.topic, self.partition, self.key, self.headers = "t", 0, None, ()


def test_events_come_in_the_order_of_time_and_labels_after_their_requests(year: Flights) -> None:
    """One request and one label for every flight of the year."""
    line = timeline(year)
    assert np.all(np.diff(line.at) >= 0)
    assert line.requests == len(year)
    place = np.empty((2, len(year)), np.int64)
    place[line.label.astype(int), line.flight] = np.arange(len(line))
    assert np.all(place[0] < place[1])


def test_days_are_cut_at_midnight_with_all_their_labels(year: Flights) -> None:
    """Two days: only flights of these days, each with its label, though it comes on the third."""
    line = timeline(year, 2)
    midnight = int(year.scheduled[0]) // 1440 * 1440 + 2 * 1440
    assert line.at[~line.label].max() < midnight * 60_000
    assert line.at[line.label].max() > midnight * 60_000
    assert line.requests * 2 == len(line) < 4000


def test_records_are_what_the_pipeline_reads(year: Flights) -> None:
    """Decoded by the real decoders: no bad one, missing features left out, segments and instants right."""
    suite, encoder = load_suite(suite_file()), Encoder(year)
    some = list(range(5000, 5200))
    decoded = RequestDecoder(suite, Limits()).decode(
        [Record(encoder.request(i), n) for n, i in enumerate(some)]
    )
    assert decoded.bad == []
    assert decoded.ids == [year.ids[i] for i in some]
    assert decoded.times.tolist() == (year.scheduled[some] * 60_000).tolist()
    assert [decoded.segments[k][0] for k in decoded.segment] == year.carrier[some].tolist()
    assert 0 < decoded.batch.missing("inbound").sum() < len(some)
    labels, bad = decode_labels([Record(encoder.label(i), n) for n, i in enumerate(some)], Limits())
    assert bad == []
    for (_, label), i in zip(labels, some, strict=True):
        assert label.request_id == year.ids[i]
        assert label.label == (1 if year.late[i] else 2)
        assert (
            label.labelled_at == year.labelled[i] * 60_000 > label.requested_at == year.scheduled[i] * 60_000
        )


def count(n: int, precision: float | None, unlabelled: int = 0) -> dict[str, Any]:
    return {"n": n, "unlabelled": unlabelled, "precision": precision, "positive": None, "negative": None}


def document(year: Flights, days: int, **more: Any) -> dict[str, Any]:
    line = timeline(year, days)
    last = int(line.at[~line.label][-1])
    end = last // 3_600_000 * 3_600_000
    inside = int((line.at[~line.label] < end).sum())
    member = {"id": "m@1", "stage": "live", "watermark": last}
    suite = {"flagged": count(10, 0.5), "unflagged": count(inside - 10, None)}
    window = {"name": "365d", "view": "latest", "start": 0, "end": end, "volume": inside, "suite": suite}
    return {"watermark": last, "windows": [{**window, "members": [{**member, **more}]}]}


def test_the_demo_ends_only_when_everything_is_counted(year: Flights) -> None:
    """A lagging watermark or member, a request too few, an open label: all are waited for."""
    line, hour = timeline(year, 2), 3_600_000
    assert uncounted(document(year, 2), line, hour) == ""
    assert uncounted(None, line, hour) == "no status yet"
    assert "watermark" in uncounted(document(year, 1), line, hour)
    assert uncounted(document(year, 2, watermark=None), line, hour) == "m@1 have not scored everything"
    doc = document(year, 2)
    doc["windows"][0]["volume"] -= 1
    assert uncounted(doc, line, hour) == "1 requests"
    doc = document(year, 2)
    doc["windows"][0]["suite"]["unflagged"]["unlabelled"] = 3
    assert uncounted(doc, line, hour) == "the labels of 3 requests"


def member(name: str, stage: str, flagged: int, unique: dict[str, Any], **more: Any) -> dict[str, Any]:
    figures = {"scored": 1000, "errors": 0, "abstained": 0, "overlap": {"a@1": flagged}}
    return {"id": name, "stage": stage, "flagged": count(flagged, 0.5), "unique": unique, **figures, **more}


def test_the_story_is_made_from_the_figures() -> None:
    """Every kind of member gets its sentence, and a live one whose rolling precision fell is told."""
    trend = Trend(since=0)
    for end, precision in ((0, 0.9), (1, 0.4), (2, 0.5), (3, 0.2), (4, 0.3)):
        figures = [member("b@1", "live", 900, count(800, precision))]
        suite = {"flagged": count(900, 0.45)}
        rolling = {"name": "28d", "view": "latest", "start": end - 1, "end": end * 86_400_000, "suite": suite}
        trend.add({"windows": [{**rolling, "members": figures}]})
    members = [
        member("a@1", "live", 500, count(400, 0.6)),
        member("b@1", "live", 900, count(800, 0.2)),
        member("c@1", "shadow", 500, count(400, 0.6)),
        member("d@1", "shadow", 500, count(400, 0.1)),
        member("e@1", "shadow", 500, count(0, None)),
        member("f@1", "shadow", 500, count(400, 0.6), errors=400),
        member("g@1", "shadow", 5, count(5, None, 5)),
    ]
    window = {"name": "365d", "view": "latest", "volume": 5000, "suite": {"flagged": count(1500, 0.4)}}
    told = story({"windows": [{**window, "members": members}]}, trend)
    assert told[0] == "The suite flags 1,500 of 5,000 flights and is right about 40 % of them."
    assert "earns its place" in told[1]
    assert "is not worth its place" in told[2]
    assert "decays: 50 % in the 28 days to 1970-01-03, 20 % in those to 1970-01-04" in told[2]
    assert "would make the suite better: of the 400 flights that it alone flags 60 % are late" in told[3]
    assert "would make the suite worse" in told[4]
    assert "is redundant: 100 % of its flags are also flagged by a@1" in told[5]
    assert "is failing: 40 % of its answers" in told[6]
    assert "cannot be judged yet: too few labels" in told[7]


class Broker:
    """A producer that keeps what it is given; a batch holds seven records."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int, bytes, bytes]] = []
        self.running = False

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2} if topic.endswith("requests") else {0, 1}

    def create_batch(self) -> Any:
        return Batch()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.written += [(topic, partition, *row) for row in batch.rows]
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Batch:
    def __init__(self) -> None:
        self.rows: list[tuple[bytes, bytes]] = []

    def append(self, *, key: bytes, value: bytes, timestamp: int | None) -> object | None:
        if len(self.rows) == 7:
            return None
        self.rows.append((key, value))
        return self

    def close(self) -> None: ...


def test_everything_is_written_once_in_order_and_by_key(
    year: Flights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches lose nothing; the partition is crc32 of the key; progress and the gate see the time."""
    broker, seen, gates = Broker(), [], []
    monkeypatch.setattr("evaluator.demo.replay.make_producer", lambda *_, **__: broker)

    async def gate(time: int) -> None:
        gates.append(time)

    done = asyncio.run(
        replay(year, Kafka(), Topics("flights"), days=1, speed=1e9, progress=seen.append, gate=gate)
    )
    assert not broker.running
    line = timeline(year, 1)
    assert (done.requests, done.labels) == (line.requests, line.requests)
    assert seen[-1] == done
    assert gates[0] == line.at[0]
    assert len(broker.written) == len({(row[0], row[2]) for row in broker.written}) == len(line)
    for topic, partition, key, _ in broker.written:
        assert partition == crc32(key) % (3 if topic == "flights.requests" else 2)
    for partition in range(3):
        rows = [row for row in broker.written if row[:2] == ("flights.requests", partition)]
        times = [json.loads(value)["timestamp"] for *_, value in rows]
        assert times == sorted(times)
