"""Scoring in a backfill: nothing that failed is written, and nothing that was not asked for is claimed."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from members.batches import Scored, Scorer
from members.replay import Place
from streams.errors import ChorusError
from streams.requests import DecodedBatch

#: Seconds to wait before a member that failed on a batch is asked about it again.
AGAIN = (0.1, 0.3, 1.0, 3.0)


class MemberFailed(ChorusError):
    """A member cannot answer, so that a backfill cannot go on."""


class CarefulScorer(Scorer):
    """A scorer of one member that asks again where it failed, and gives up rather than write that.

    The first record in the log that covers a position wins for good: a failure that was written would stay.
    `reason` is what the panel last said of the member.
    """

    reason = ""

    async def score(
        self,
        place: Place,
        records: list[Any],
        start: int,
        end: int,
        since: int,
        before: asyncio.Task[None] | None,
    ) -> None:
        """Score positions [start, end), less what lies at its edges and is older than `since` (ms).

        Writes once `before`, the batch in front of it, is written. Raises MemberFailed, Abandoned.
        """
        decoded = self._decode(place.owned, records)
        if place.first is None and len(decoded):
            place.first = int(decoded.times.min())
        decoded, start, stop = trim(decoded, start, end, since)
        batch = await self._answer_of(place, decoded) if start < stop else None
        if before is not None:
            await asyncio.wait({before})
            if before.cancelled() or before.exception() is not None:
                raise asyncio.CancelledError
        if batch is not None:
            await self._write_scored(place.owned, batch, start, stop)
            place.wrote(start, stop)
            place.reached = batch.watermark
            place.requests += len(decoded)
        place.owned.done = end

    async def _answer_of(self, place: Place, decoded: DecodedBatch) -> Scored:
        for delay in (*AGAIN, None):
            batch = await self._score(place.owned, decoded)
            if not batch.failed.any():
                return batch
            if delay is not None:
                await asyncio.sleep(delay)
        raise MemberFailed(
            f"{self._members[0]} failed {len(AGAIN) + 1} times on the same requests ({self.reason}): nothing "
            "was written of them; mend it under a new version, or run the same command again to go on"
        )


def trim(decoded: DecodedBatch, start: int, end: int, since: int) -> tuple[DecodedBatch, int, int]:
    """The requests from the first to the last that is not older than `since`, and the positions they cover.

    One stretch, so that a log in disorder does not fall into single records: what is older between the two is
    scored as well. Positions without a request stay with their neighbours. Empty where all is older.
    """
    young = np.flatnonzero(decoded.times >= since)
    n = len(decoded)
    if not n:
        return decoded, start, end
    if not len(young):
        return decoded.take(0, 0), end, end
    first, last = int(young[0]), int(young[-1])
    if first:
        start = int(decoded.offsets[first])
    if last < n - 1:
        end = int(decoded.offsets[last]) + 1
    return decoded.take(first, last + 1), start, end
