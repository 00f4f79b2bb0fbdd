"""Records that are more than a broker takes are written as several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from members.batches import Scorer, _split
from members.crew import Crew
from members.ownership import Owned
from members.panel import Ballot
from members.sending import Sender
from streams.batch import Batch
from streams.metrics import Metrics
from streams.requests import DecodedBatch
from streams.settings import Settings
from streams.topics import Topics
from streams.votes import MAX_BYTES, decode
from streams.watermark import Watermark
from tests.members.hosting import T0, suite
from tests.streams.test_requests import record
from tests.streams.test_votes import frame


def test_large_batches_are_split() -> None:
    """The pieces fit, cover the positions without gap or overlap, and hold every hit once."""
    n = 5000
    ids = [f"{i:0512d}" for i in range(n)]
    offsets = np.arange(100, 100 + 2 * n, 2)
    decoded = DecodedBatch(
        offsets, ids, np.zeros(n, np.int64), [()], Batch(np.full(n, T0, dtype=np.int64), {}), []
    )
    true = np.ones((2, n), dtype=np.bool_)
    whole = frame(["*", "a@1"], 90, 100 + 2 * n)
    values = _split(whole, decoded, true, ~true, np.zeros(2, dtype=np.bool_))
    pieces = [decode(value) for value in values]
    assert max(map(len, values)) <= MAX_BYTES
    assert len(pieces) > 1
    assert [piece.start for piece in pieces] == [90, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == whole.end
    assert [name for piece in pieces for name in piece.ids] == ids
    assert [piece.start + hit for piece in pieces for hit in piece.hits] == offsets.tolist()


@pytest.mark.parametrize(
    ("partitions", "stands"),
    [
        ([(T0, False), (T0 + 5000, False), (None, True)], T0),
        ([(T0, True), (T0 + 5000, False), (None, True)], T0 + 5000),
        ([(T0, True), (T0 + 5000, True)], T0 + 5000),
    ],
)
def test_the_watermark_gauge_leaves_idle_partitions_out(
    partitions: list[tuple[int | None, bool]], stands: int
) -> None:
    """It says what the status says: the least of the partitions that move, the furthest where none does."""
    owned = []
    for number, (known, idle) in enumerate(partitions):
        watermark = Watermark(1000, 3, known=known)
        owned.append(Owned(number, watermark, idle_told=idle))
    metrics = Metrics()
    scorer = SimpleNamespace(_members=["a@1"], _metrics=metrics.host)
    Scorer.show_watermarks(scorer, owned)  # type: ignore[arg-type]
    shown = metrics.registry.get_sample_value("chorus_watermark_timestamp_seconds", {"member": "a@1"})
    assert shown == stands / 1000


@pytest.mark.parametrize("stage", ["live", "shadow"])
def test_nothing_overtakes_a_batch_that_is_being_scored(stage: str) -> None:
    """A batch of bad records alone, or one that nobody votes on, is not done before the one ahead of it."""

    async def scenario() -> None:
        written: list[tuple[str, int]] = []

        class Sent(Sender):
            async def one(self, topic: str, partition: int, key: bytes, value: bytes, wanted: object) -> int:
                written.append((topic, decode(value).end))
                return len(written)

            async def many(self, *_: object) -> None: ...

        asked = asyncio.Event()
        answer = asyncio.Event()

        async def vote(batch: Batch) -> Ballot:
            asked.set()
            await answer.wait()
            none = np.zeros((1, len(batch)), dtype=np.bool_)
            return Ballot(none, none, np.zeros(1, dtype=np.bool_))

        declared = suite("s")
        topics = Topics(declared.name)
        counts = dict.fromkeys((topics.requests, topics.votes, topics.decisions, topics.dead_letters), 1)
        scorer = Scorer(
            declared, Settings(), stage=stage, members=["a@1"], name="h", panel=SimpleNamespace(vote=vote),
            sender=Sent(None, "nowhere"),
            metrics=Metrics().host, partitions=counts,
        )  # fmt: skip
        owned = Owned(0, Watermark(1000, 3))
        value = {"request_id": "r", "timestamp": T0, "features": {"wind": 1.0}}
        good, bad = [record(value, 0)], [record(b"no", 1)]
        nobody = Crew((), 2, vote)
        tasks = [asyncio.create_task(scorer.batch(owned, good, 0, 1, Crew(("a@1",), 1, vote)))]
        await asyncio.wait_for(asked.wait(), 30)
        tasks.append(asyncio.create_task(scorer.batch(owned, bad, 1, 2, Crew(("a@1",), 1, vote))))
        tasks.append(asyncio.create_task(scorer.batch(owned, [], 2, 3, nobody)))
        for _ in range(20):
            await asyncio.sleep(0)  # every task runs as far as it can
        assert owned.done == 0
        answer.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert owned.done == 3
        assert [end for _, end in written] == sorted(end for _, end in written)

    asyncio.run(scenario())


def test_what_is_written_does_not_wait_for_a_crew_that_is_not_announced() -> None:
    """A transaction is left open for the next batch of the same crew, and for no other."""

    async def scenario() -> None:
        left_open: list[tuple[int | None, bool]] = []
        go, said = asyncio.Event(), asyncio.Event()
        ended = asyncio.get_running_loop().create_future()
        ended.set_result(None)

        class Sent(Sender):
            async def one(self, *_: object) -> int:
                await go.wait()
                return 1

            async def many(self, *_: object) -> None: ...

            @asynccontextmanager
            async def together(
                self, wanted: object, offset: int | None = None, more: Callable[[], bool] = lambda: False
            ) -> AsyncIterator[Any]:
                yield ended
                left_open.append((offset, more()))

        async def vote(batch: Batch) -> Ballot:
            none = np.zeros((1, len(batch)), dtype=np.bool_)
            return Ballot(none, none, np.zeros(1, dtype=np.bool_))

        async def announced(partition: int) -> None:
            await said.wait()

        declared = suite("s")
        topics = Topics(declared.name)
        counts = dict.fromkeys((topics.requests, topics.votes, topics.decisions, topics.dead_letters), 1)
        scorer = Scorer(
            declared, Settings(), stage="live", members=["a@1"], name="h", panel=SimpleNamespace(vote=vote),
            sender=Sent(None, "nowhere"), metrics=Metrics().host, partitions=counts,
        )  # fmt: skip
        owned = Owned(0, Watermark(1000, 3), revision=1)
        value = {"request_id": "r", "timestamp": T0, "features": {"wind": 1.0}}
        old, new = Crew(("a@1",), 1, vote), Crew(("a@1",), 2, vote, announced)
        tasks = []
        for at, crew in enumerate((old, old, new, new)):
            batch = scorer.batch(owned, [record(value, at)], at, at + 1, crew)
            tasks.append(asyncio.create_task(batch))
        for _ in range(50):
            await asyncio.sleep(0)  # every task runs as far as it can
        go.set()
        await asyncio.wait_for(asyncio.gather(*tasks[:2]), 30)
        assert owned.done == 2
        said.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert left_open == [(1, True), (2, False), (3, False), (4, False)]

    asyncio.run(scenario())
