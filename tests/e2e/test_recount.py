"""The recount itself, on events that can be counted by hand, and on all of the generated traffic."""

from __future__ import annotations

import json
import random

import msgpack

from tests.e2e.generate import END, LAST, THROUGH, Traffic
from tests.e2e.logs import Raw, ballots_of, labels_of, requests_of
from tests.e2e.recount import Recount, differences
from tests.e2e.suites import BUCKET, MEMBERS, write_suite

NOW = 1_900_000_000_000


def _request(offset, who, time, x, y=0.0, **more):
    value = {"request_id": who, "timestamp": time, "features": {"x": x, "y": y, **more}}
    return Raw(0, offset, json.dumps(value).encode(), NOW)


def _label(offset, who, label, revision=0, **more):
    value = {"request_id": who, "label": label, "labelled_at": THROUGH, "revision": revision, **more}
    return Raw(0, offset, json.dumps(value).encode(), NOW)


def _votes(requests):
    """One record of every host over all of partition 0, whose random members and `moody` are silent."""
    rows = []
    for offset, stage in enumerate(("live", "shadow")):
        members = [who for who, (at, _) in MEMBERS.items() if at == stage]
        n = len(requests)
        states = [[n, 2] if who == "moody@1" else [] for who in members]
        body = [["*", *members] if stage == "live" else members, [[]], [n, 0, 0]]
        body += [[[], *states] if stage == "live" else states, [], [], [], b"", b""]
        rows.append(Raw(0, offset, msgpack.packb([1, stage, "h", 0, 1, 0, n, 1, BUCKET, *body]), NOW))
    return rows


def _count(suite, raw_requests, raw_labels):
    requests = requests_of(raw_requests)
    ballots = ballots_of(_votes(raw_requests), ())
    return Recount(suite, requests, labels_of(raw_labels), ballots, [], 0).document()


def test_by_hand(tmp_path):
    """Five requests (one of them sent twice) and their labels give the numbers that one can count."""
    suite = write_suite(tmp_path)
    at = LAST - 1000
    requests = [
        _request(0, "a", at, 0.9),  # steep and twin
        _request(1, "a", at, 0.9),
        _request(2, "b", at, 0.9, 0.9, z=0.9),  # steep, twin, tall, gap, total
        _request(3, "c", at, 0.1, z=0.1),  # nobody
        _request(4, "d", at, 0.1, z=0.8),  # gap
        _request(5, "end", END, 0.0),
    ]
    labels = [
        _label(0, "a", False, requested_at=at),
        _label(1, "a", True, revision=2, requested_at=at),
        _label(2, "a", False, revision=1, requested_at=at),
        _label(3, "b", True, requested_at=at),
        _label(4, "b", None, revision=1),
        _label(5, "c", True, requested_at=at),
        _label(6, "nobody", True),
    ]
    document = _count(suite, requests, labels)
    assert (document["watermark"], document["counters"]["pending_labels"]) == (END, 1)
    window = next(w for w in document["windows"] if w["name"] == "1h" and w["view"] == "latest")
    assert (window["volume"], window["end"]) == (5, LAST)
    assert window["suite"]["flagged"] == {
        "n": 3, "positive": 1, "negative": 0, "unlabelled": 2, "precision": 1.0,
    }  # fmt: skip
    assert window["suite"]["unflagged"]["n"] == 2
    assert window["suite"]["recall"] == 0.5
    members = {member["id"]: member for member in window["members"]}
    assert members["steep@1"]["flagged"]["n"] == 2
    assert members["steep@1"]["unique"]["n"] == 1
    assert members["steep@1"]["unique_recall"] == 0.5
    assert members["steep@1"]["overlap"]["gap@1"] == 1
    assert members["gap@1"]["abstained"] == 2
    assert members["twin@2"]["unique"]["n"] == 0
    assert members["moody@1"]["errors"] == members["moody@1"]["scored"] == 5


def test_a_label_without_the_time_of_its_request_takes_recall_away(tmp_path):
    """Recall is null where a labelled request of the window has no `requested_at`."""
    document = _count(
        write_suite(tmp_path),
        [_request(0, "a", LAST - 1000, 0.9), _request(1, "end", END, 0.0)],
        [_label(0, "a", True)],
    )
    assert document["windows"][0]["suite"]["recall"] is None


def test_the_traffic_holds_what_it_is_for(tmp_path):
    """Duplicates, revisions, withdrawals, waiting labels, and windows that differ: all of it occurs."""
    traffic = Traffic(seed=7, requests=1500, partitions=4)
    places, raw = {"requests": 0, "labels": 0}, {"requests": [], "labels": []}
    for event in traffic.events + [e for e in traffic.closing if e.partition == 0]:
        if event.topic in raw:
            raw[event.topic].append(Raw(0, places[event.topic], event.value, NOW))
            places[event.topic] += 1
    requests, labels = requests_of(raw["requests"]), labels_of(raw["labels"])
    for kind, usable in (("requests", requests), ("labels", labels)):
        bad = sum(event.bad is not None for event in traffic.events if event.topic == kind)
        assert len(raw[kind]) - len(usable) == bad > 5
    assert len({request.id for request in requests}) < len(requests)
    assert any(label.label is None for label in labels)
    document = _count(write_suite(tmp_path), raw["requests"], raw["labels"])
    assert (document["watermark"], document["labels_through"]) == (END, THROUGH)
    assert document["counters"]["pending_labels"] > 10
    windows = {(w["name"], w["view"]): w for w in document["windows"]}
    assert len({w["volume"] for w in windows.values()}) == len(windows)
    recalls = {key: window["suite"]["recall"] for key, window in windows.items()}
    assert recalls["7d", "latest"] is None
    assert recalls["48h", "latest"] is not None
    assert differences(document, json.loads(json.dumps(document))) == []
    shuffled = {kind: random.sample(rows, len(rows)) for kind, rows in raw.items()}
    again = _count(write_suite(tmp_path), shuffled["requests"], shuffled["labels"])
    assert differences(again, {**document, "suite": again["suite"]}) == []
