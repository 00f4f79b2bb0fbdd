"""The sample of hits: what is kept does not depend on how it came, and is fair."""

from __future__ import annotations

import zlib
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.examples.sampling import Hit, Place, Sieve, least, scores
from evaluator.fold import Layout
from streams.records import SUITE, Votes

DAY, BUCKET = 86_400_000, 300_000


def record(stage: str, members: list[str], start: int, flags: dict[str, tuple[int, int]]) -> Votes:
    """One record over these requests: id → (event time, who flagged it as bits over `members`)."""
    hits = [i for i, (_, bits) in enumerate(flags.values()) if bits]
    ids, rows = list(flags), list(flags.values())
    return Votes(
        1, stage, "h", 0, 1, start, start + len(flags), 1, BUCKET, members, [[]],
        [x for time, _ in rows for x in (1, time - time % BUCKET, 0)], [[] for _ in members], hits,
        [ids[i] for i in hits], [rows[i][0] for i in hits],
        b"".join(rows[i][1].to_bytes(1, "little") for i in hits), bytes(len(hits)),
    )  # fmt: skip


class Samples:
    """What the store does with offers, in plain Python."""

    def __init__(self, k: int, shards: int = 1) -> None:
        self.k = k
        self.sieve = Sieve("s", Layout(BUCKET, DAY, shards), k)
        self.held: dict[Place, dict[bytes, float]] = {}

    def take(self, run: list[Votes]) -> int:
        """Returns how many hits were offered."""
        offers = self.sieve.offers(run)
        for place, hits in offers.items():
            held = self.held.setdefault(place, {})
            for hit, score in hits.items():
                held[hit] = min(score, held.get(hit, score))
            self.held[place] = held = least(held, self.k)
            if len(held) == self.k:
                self.sieve.learn(place, max(held.values()))
        return sum(map(len, offers.values()))


def log(seed: int, n: int = 12) -> list[Votes]:
    """Records of a live and of a shadow host over three days, some of them scored twice."""
    rng = Random(seed)
    out = []
    for _ in range(n):
        members = [SUITE, "a@1", "b@1"] if rng.random() < 0.6 else ["c@1", "d@1"]
        start = rng.randrange(4) * 50
        flags = {}
        for j in range(50):
            bits = rng.randrange(4)
            live = members[0] == SUITE
            flags[f"r{start + j}"] = (
                20_000 * DAY + (start + j) * 1_300_000,
                bits << 1 | (bits > 0) if live else bits,
            )
        out.append(record("live" if members[0] == SUITE else "shadow", members, start, flags))
    return out


def everything(run: list[Votes], k: int, shards: int) -> dict[Place, dict[bytes, float]]:
    """The samples by definition: all hits, then the least."""
    whole = Samples(10**6, shards)
    whole.take(run)
    return {place: least(hits, k) for place, hits in whole.held.items()}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1, 3]), st.randoms(use_true_random=False))
def test_the_sample_is_the_same_whatever_the_order_and_the_cuts(seed, k, shards, rng):
    """Any order, any cut into runs, anything read again, limits forgotten at any time: the k least of all."""
    run = log(seed)
    want = everything(run, k, shards)
    samples = Samples(k, shards)
    again = [*run, *rng.choices(run, k=6)]
    rng.shuffle(again)
    while again:
        cut = rng.randint(1, len(again))
        samples.take(again[:cut])
        again = again[cut:]
        if rng.random() < 0.2:
            samples.sieve.forget()
    assert samples.held == want
    assert all(0 < len(hits) <= k for hits in samples.held.values())


def test_what_is_unique_comes_first():
    """Of a live record, hits that no other live member shares fill the sample as far as they go."""
    flags = {f"r{i}": (20_000 * DAY + i, 0b011 if i % 10 == 0 else 0b111) for i in range(1000)}
    samples = Samples(128)
    samples.take([record("live", [SUITE, "a@1", "b@1"], 0, flags)])
    found = [Hit.unpack(hit) for hit in samples.held[0, 20_000, "a@1"]]
    assert len(found) == 128
    assert all(hit.offset % 10 == 0 for hit in found[:100])  # there are a hundred of them
    assert all(hit.offset % 10 for hit in found[100:])
    assert found[0].id == f"r{found[0].offset}"


def test_a_hit_knows_where_its_request_is():
    """Partition and offset count from the start of the record, whatever has no hit before it."""
    flags = {"x": (20_000 * DAY, 0), "y": (20_000 * DAY + 5, 1)}
    samples = Samples(3)
    samples.take([record("shadow", ["c@1"], 700, flags)])
    (found,) = samples.held[0, 20_000, "c@1"]
    assert Hit.unpack(found) == Hit("y", 20_000 * DAY + 5, 0, 701)


def test_few_are_offered_once_the_sample_is_full():
    """About k · ln(n / k) of n hits change a sample of k: the rest costs nothing but its score."""
    samples, offered = Samples(50), 0
    for start in range(0, 50_000, 500):
        flags = {f"r{start + i}": (20_000 * DAY + start + i, 1) for i in range(500)}
        offered += samples.take([record("shadow", ["c@1"], start, flags)])
    assert offered < 2 * 50 * (1 + np.log(50_000 / 50))


def test_scores_are_spread_evenly_even_for_ids_in_a_row():
    """Ids that only count up: each tenth has its share, and neighbours, or days, have no relation."""
    crcs = np.array([zlib.crc32(f"request-{i:09d}".encode()) for i in range(20_000)], dtype=np.uint64)
    score = scores(crcs, np.full(20_000, 20_000, dtype=np.uint64), 7)
    counts = np.histogram(score, bins=10, range=(0, 1))[0]
    assert counts.min() > 1800
    assert counts.max() < 2200
    assert abs(np.corrcoef(score[:-1], score[1:])[0, 1]) < 0.03
    other = scores(crcs, np.full(20_000, 20_001, dtype=np.uint64), 7)
    assert abs(np.corrcoef(score, other)[0, 1]) < 0.03
