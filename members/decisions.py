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


class _Shapes(dict[tuple[bool | str, ...], bytes]):
    """(judgement, fired…) → the JSON of such a decision, less its id (%b), time and offset (%d).

    The encoder writes each shape once; to fill one in takes a third of the time.
    """

    def __init__(self, revision: int, partition: int) -> None:
        self._of = revision, partition

    def __missing__(self, key: tuple[bool | str, ...]) -> bytes:
        revision, partition = self._of
        fired = [str(name) for name in key[1:]]
        text = _encode(Decision("", bool(key[0]), fired, revision, 0, partition, 0)).replace(b"%", b"%%")
        # A name cannot hold any of these: quotes within a string are escaped.
        for field, place in ((b'"request_id":"', b"%b"), (b',"time":', b"%d"), (b',"offset":', b"%d")):
            before, _, after = text.partition(field)
            text = before + field + place + after.removeprefix(b"0")
        self[key] = text
        return text


def decisions(
    decoded: DecodedBatch,
    fired: Iterable[list[str]],
    judgement: Iterable[bool],
    revision: int,
    partition: int,
) -> list[tuple[bytes, bytes]]:
    """(key, JSON) per request; fired and judgement have one entry for each of the n requests."""
    table = _Shapes(revision, partition)
    usual = table[(False,)]
    shapes = [
        table[(answer, *members)] if answer or members else usual
        for answer, members in zip(judgement, fired, strict=True)
    ]
    keys = [name.encode() for name in decoded.ids]
    cells = zip(_escaped(decoded.ids, keys), decoded.times.tolist(), decoded.offsets.tolist(), strict=True)
    values = [shape % each for shape, each in zip(shapes, cells, strict=True)]
    return list(zip(keys, values, strict=True))


def _escaped(ids: list[str], keys: list[bytes]) -> list[bytes]:
    """The ids as they stand between quotes in JSON; `keys` are their UTF-8."""
    if len(_encode("".join(ids))) == sum(map(len, keys)) + 2:
        return keys
    return [_encode(name)[1:-1] for name in ids]


def scored(members: Sequence[str], true: NDArray[np.bool_]) -> list[list[str]]:
    """Per request the ids of the members that fired, from true (bool[k, n], abstentions taken out)."""
    n = true.shape[1]
    fired = [_NONE] * n
    at = np.flatnonzero(true.any(axis=0))
    if len(at):
        width = -(-len(members) // 8)
        masks = np.packbits(true[:, at], axis=0, bitorder="little").T.tobytes()
        known: dict[bytes, list[str]] = {}
        for i, start in zip(at.tolist(), range(0, len(masks), width), strict=True):
            key = masks[start : start + width]
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
