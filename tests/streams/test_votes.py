"""Votes records: built from arrays, and total validation of what comes back."""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.batch import Batch
from streams.errors import BadRecord
from streams.records import Votes
from streams.requests import DecodedBatch
from streams.votes import build_votes, check, decode, encode, hit_members, without

BUCKET = 300_000


def frame(members: list[str], start: int = 10, end: int = 20, **more: Any) -> Votes:
    empty: dict[str, Any] = {
        "schema": 1,
        "stage": "live",
        "host": "h",
        "partition": 0,
        "partitions": 2,
        "start": start,
        "end": end,
        "revision": 1,
        "bucket": BUCKET,
        "members": members,
        "segments": [],
        "runs": [],
        "states": [[] for _ in members],
        "hits": [],
        "ids": [],
        "times": [],
        "true": b"",
        "abstain": b"",
    }
    return Votes(**{**empty, **more})


def requests(offsets: list[int], times: list[int], segment: list[int] | None = None) -> DecodedBatch:
    return DecodedBatch(
        np.array(offsets, dtype=np.int64),
        [f"r{offset}" for offset in offsets],
        np.array(segment or [0] * len(offsets), dtype=np.int64),
        [("A",), ("B",)],
        Batch(np.array(times, dtype=np.int64), {}),
        [],
    )


def expand(runs: list[int], width: int) -> list[tuple[int, ...]]:
    return [tuple(runs[i + 1 : i + width]) for i in range(0, len(runs), width) for _ in range(runs[i])]


def random_votes(rng: random.Random, k: int) -> tuple[Votes, Any]:
    start = rng.randrange(1000)
    span = rng.randrange(1, 60)
    offsets = sorted(rng.sample(range(start, start + span), rng.randrange(span + 1)))
    times = [rng.randrange(4 * BUCKET) for _ in offsets]
    segment = [rng.randrange(2) for _ in offsets]
    n = len(offsets)
    bits = np.random.default_rng(rng.randrange(2**32))
    true, abstain = bits.random((k, n)) < 0.2, bits.random((k, n)) < 0.2
    failed = bits.random(k) < 0.1
    abstain[failed] = True
    members = ["*", *(f"m{i}@1" for i in range(k - 1))]
    votes = build_votes(
        frame(members, start, start + span), requests(offsets, times, segment), true, abstain, failed
    )
    return votes, (offsets, times, segment, true & ~abstain, abstain, failed, members)


@pytest.mark.parametrize("k", [1, 2, 8, 9, 70])
def test_round_trip(k: int) -> None:
    """Every vote, abstention, bucket and segment comes back, over gaps, for any number of members."""
    rng = random.Random(k)
    for _ in range(50):
        built, (offsets, times, segment, true, abstain, failed, members) = random_votes(rng, k)
        votes = decode(encode(built))
        span, at = votes.end - votes.start, {offset: i for i, offset in enumerate(offsets)}
        runs = expand(votes.runs, 3)
        assert len(runs) == span
        for position, (bucket, index) in enumerate(runs):
            i = at.get(votes.start + position)
            assert (bucket, index) == ((-1, 0) if i is None else (times[i] // BUCKET * BUCKET, segment[i]))
        for m in range(k):
            states = [state for (state,) in expand(votes.states[m], 2)] or [0] * span
            for offset, i in at.items():
                assert states[offset - votes.start] == (2 if failed[m] else 1 if abstain[m, i] else 0)
        expected = {
            o: [members[m] for m in range(k) if true[m, i]] for o, i in at.items() if true[:, i].any()
        }
        assert dict(zip((votes.start + h for h in votes.hits), hit_members(votes), strict=True)) == expected
        assert votes.ids == [f"r{offset}" for offset in expected]
        assert votes.times == [times[at[offset]] for offset in expected]


def test_runs_are_short() -> None:
    """Requests of one bucket and segment are one run, however many; a huge gap costs nothing."""
    none = np.zeros((1, 3), bool)
    votes = build_votes(
        frame(["*"], 0, 10**12), requests([5, 6, 10**12 - 1], [1, 2, 3]), none, none, none[:, 0]
    )
    assert votes.runs == [5, -1, 0, 2, 0, 0, 10**12 - 8, -1, 0, 1, 0, 0]
    check(votes)


def test_what_is_held_out_stays_known() -> None:
    """It is a hit of those that fired, less the suite's bit; it goes only with the last that fired."""
    true = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.bool_)
    held = np.array([True, False, True])
    none = np.zeros((3, 3), dtype=np.bool_)
    decoded = requests([12, 13, 17], [1, 2, 3])
    votes = build_votes(frame(["*", "a@1", "b@1"], holdout=0.5), decoded, true, none, none[:, 0], held)
    assert decode(encode(votes)) == votes
    assert (votes.held, votes.hits, votes.holdout) == ([2, 7], [2, 3, 7], 0.5)
    assert hit_members(votes) == [["a@1"], ["*", "a@1"], ["b@1"]]
    left = without(votes, ["b@1"])
    assert left is not None
    check(left)
    assert (left.held, left.hits) == ([2], [2, 3])


def test_records_from_before_the_hold_out_are_read() -> None:
    """A record without the last two fields held nothing out."""
    fields = msgspec.msgpack.decode(encode(GOOD), type=list)
    votes = decode(msgspec.msgpack.encode(fields[:-2]))
    assert votes == GOOD
    assert (votes.held, votes.holdout) == ([], 0.0)


GOOD = frame(
    ["*", "a@1"],
    segments=[["A"]],
    runs=[10, 0, 0],
    hits=[1, 4],
    ids=["x", "y"],
    times=[5, 6],
    true=b"\x03\x03",
    abstain=b"\0\0",
)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"stage": "retired"},
        {"stage": "shadow"},
        {"partition": 2},
        {"partition": -1},
        {"start": -1},
        {"end": 9},
        {"end": 2**63},
        {"revision": -1},
        {"bucket": 0},
        {"members": []},
        {"members": ["*", "*"]},
        {"members": ["*", ""]},
        {"members": ["a@1", "*"]},
        {"segments": [["A"], []]},
        {"segments": []},
        {"runs": []},
        {"runs": [9, 0, 0]},
        {"runs": [10, 0]},
        {"runs": [10, 1, 0]},
        {"runs": [10, 0, 1]},
        {"runs": [10, -1, 0]},
        {"runs": [11, 0, 0, -1, 0, 0]},
        {"runs": [10, 2**64 - 1, 0]},
        {"states": [[]]},
        {"states": [[10, 3], []]},
        {"states": [[9, 1], []]},
        {"states": [[10], []]},
        {"hits": [4, 1]},
        {"hits": [1, 1]},
        {"hits": [1, 10]},
        {"hits": [-1, 1]},
        {"hits": [1]},
        {"ids": ["x"]},
        {"ids": ["x", ""]},
        {"ids": ["x", "y" * 513]},
        {"times": [5]},
        {"times": [5, BUCKET]},
        {"times": [5, -1]},
        {"times": [5, 2**63]},
        {"true": b"\x03"},
        {"true": b"\x03\0"},
        {"true": b"\x03\x07"},
        {"abstain": b"\x01\0"},
        {"abstain": b""},
        {"watermark": -1},
        {"hello": "x"},
        {"held": [1]},
        {"held": [2]},
        {"held": [-1]},
        {"held": [2**64 - 1]},
        {"true": b"\x03\x02", "held": [4, 4]},
        {"true": b"\x02\x02", "held": [4, 1]},
        {"true": b"\x03\x02", "held": [4], "stage": "shadow", "members": ["a@1", "b@1"]},
        {"hits": [], "ids": [], "times": [], "true": b"", "abstain": b"", "held": [4]},
        {"holdout": 1.0},
        {"holdout": -0.1},
        {"holdout": float("nan")},
    ],
)
def test_check_refuses(change: dict[str, Any]) -> None:
    """A record whose parts do not fit together is bad_votes."""
    check(GOOD)
    with pytest.raises(BadRecord) as caught:
        decode(encode(msgspec.structs.replace(GOOD, **change)))
    assert caught.value.reason == "bad_votes"


def test_any_bytes_are_votes_or_a_bad_record() -> None:
    """Whatever a record holds, decode answers Votes or raises BadRecord."""
    rng = random.Random(0)
    whole = encode(GOOD)
    tried = [
        None,
        b"",
        whole[:-1],
        whole + b"\0",
        msgspec.msgpack.encode([1] * 20),
        msgspec.msgpack.encode(None),
    ]
    for _ in range(5000):
        at, cut = rng.randrange(len(whole)), rng.randrange(len(whole))
        tried += [
            whole[:at] + os.urandom(rng.randrange(1, 4)) + whole[at + 1 :],
            whole[:at] + whole[cut:],
            os.urandom(at),
        ]
    for value in tried:
        try:
            answer: Votes | str = decode(value)
        except BadRecord as error:
            answer = error.reason
        assert isinstance(answer, Votes) or answer in ("bad_votes", "malformed", "empty")
