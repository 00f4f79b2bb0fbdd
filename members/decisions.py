"""Decisions: what the suite answers, one record per request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.records import SUITE, Decision, Votes
from streams.requests import DecodedBatch
from streams.votes import hit_members

_encode = msgspec.json.Encoder().encode
_NONE: list[str] = []


def decisions(
    decoded: DecodedBatch,
    fired: Iterable[list[str]],
    judgement: Iterable[bool],
    revision: int,
    partition: int,
) -> list[tuple[bytes, bytes]]:
    """(key, JSON) per request; fired and judgement have one entry for each of the n requests."""
    encode = _encode
    return [
        (name.encode(), encode(Decision(name, answer, members, revision, at, partition, offset)))
        for name, answer, members, at, offset in zip(
            decoded.ids,
            judgement,
            fired,
            decoded.times.tolist(),
            decoded.offsets.tolist(),
            strict=True,
        )
    ]


def scored(members: Sequence[str], true: NDArray[np.bool_]) -> list[list[str]]:
    """Per request the ids of the members that fired, from true (bool[k, n], abstentions taken out)."""
    n = true.shape[1]
    fired = [_NONE] * n
    at = np.flatnonzero(true.any(axis=0))
    if len(at):
        masks = np.packbits(true[:, at], axis=0, bitorder="little").T
        known: dict[bytes, list[str]] = {}
        for i, mask in zip(at.tolist(), masks, strict=True):
            key = mask.tobytes()
            names = known.get(key)
            if names is None:
                names = known[key] = [members[j] for j in np.flatnonzero(true[:, i]).tolist()]
            fired[i] = names
    return fired


def recorded(votes: Votes, decoded: DecodedBatch) -> tuple[list[int], list[list[str]], list[bool]]:
    """What a votes record says was answered to these requests.

    Returns which of the n requests it answers (those that were usable when it was written), and for them
    who fired and the judgement.
    """
    ends = np.cumsum(np.array(votes.runs[0::3], dtype=np.int64))
    buckets = np.array(votes.runs[1::3], dtype=np.int64)
    relative = decoded.offsets - votes.start
    answered = np.flatnonzero(buckets[np.searchsorted(ends, relative, side="right")] >= 0).tolist()
    hits = dict(zip(votes.hits, hit_members(votes), strict=True))
    named = [hits.get(at, _NONE) for at in relative[answered].tolist()]
    fired = [[name for name in names if name != SUITE] if names else _NONE for names in named]
    return answered, fired, [SUITE in names for names in named]
