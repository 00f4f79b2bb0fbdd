"""Votes records: made from arrays, written and read as msgpack, and checked before anybody relies on them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.errors import BadRecord
from streams.records import ABSTAINED, FAILED, SUITE, VOTED, Votes
from streams.requests import MAX_ID, DecodedBatch
from streams.times import MAX_TIME

SCHEMA = 1
#: The largest encoded record that a host writes, in bytes: below what brokers take by default.
MAX_BYTES = 900_000

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Votes)


def build_votes(
    frame: Votes,
    decoded: DecodedBatch,
    true: NDArray[np.bool_],
    abstain: NDArray[np.bool_],
    failed: NDArray[np.bool_],
    held: NDArray[np.bool_] | None = None,
) -> Votes:
    """The record of one scored batch.

    `frame` is an empty record that carries everything but the votes: the positions [start, end), members,
    bucket, watermark. true, abstain: bool[k, n] for its k members and the n usable requests; failed:
    bool[k], members of which the whole batch failed. Abstain beats True. held: bool[n], requests that were
    held out; in their column SUITE is False already.
    """
    n, span = len(decoded), frame.end - frame.start
    relative = decoded.offsets - frame.start
    true = true & ~abstain
    at = np.flatnonzero(true.any(axis=0)) if n else np.empty(0, dtype=np.int64)
    times = decoded.times
    lengths, order = _spread(relative, span)
    buckets = np.append(times // frame.bucket * frame.bucket, -1)[order]
    segment = np.append(decoded.segment, 0)[order]
    states: list[list[int]] = []
    for row, whole in zip(abstain, failed, strict=True):
        if whole:
            states.append([span, FAILED] if span else [])
        elif row.any():
            codes = np.append(np.where(row, ABSTAINED, VOTED), VOTED)[order]
            states.append(_run_lengths(lengths, codes))
        else:
            states.append([])
    return msgspec.structs.replace(
        frame,
        segments=[list(values) for values in decoded.segments],
        runs=_run_lengths(lengths, buckets, segment),
        states=states,
        hits=relative[at].tolist(),
        ids=[decoded.ids[i] for i in at.tolist()],
        times=times[at].tolist(),
        true=_masks(true[:, at]),
        abstain=_masks(abstain[:, at]),
        held=[] if held is None else relative[held].tolist(),
    )


def _spread(relative: NDArray[np.int64], span: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions [0, span) as stretches: their lengths, and which request stands there (-1: none)."""
    n = len(relative)
    if n == span:
        return np.ones(n, dtype=np.int64), np.arange(n)
    lengths = np.ones(2 * n + 1, dtype=np.int64)
    lengths[0::2] = np.diff(relative, prepend=-1, append=span) - 1
    order = np.full(2 * n + 1, -1, dtype=np.int64)
    order[1::2] = np.arange(n)
    kept = lengths > 0
    return lengths[kept], order[kept]


def _run_lengths(lengths: NDArray[np.int64], *codes: NDArray[np.int64]) -> list[int]:
    """Flat (length, code…) with neighbours of equal codes made one."""
    if not len(lengths):
        return []
    changes = np.zeros(len(lengths), dtype=np.bool_)
    changes[0] = True
    for code in codes:
        changes[1:] |= code[1:] != code[:-1]
    starts = np.flatnonzero(changes)
    table = np.column_stack((np.add.reduceat(lengths, starts), *(code[starts] for code in codes)))
    flat: list[int] = table.ravel().tolist()
    return flat


def _masks(bits: NDArray[np.bool_]) -> bytes:
    """bool[k, h] → h masks of ceil(k / 8) bytes, bit i of byte i // 8 for row i."""
    return np.ascontiguousarray(np.packbits(bits, axis=0, bitorder="little").T).tobytes()


def unpack_masks(masks: bytes, k: int) -> NDArray[np.bool_]:
    """The bits of h masks over k members as bool[h, k]."""
    width = -(-k // 8)
    table = np.frombuffer(masks, dtype=np.uint8).reshape(-1, width)
    return np.unpackbits(table, axis=1, count=k, bitorder="little").astype(np.bool_)


def encode(votes: Votes) -> bytes:
    """The msgpack of a record."""
    return _encoder.encode(votes)


def decode(value: bytes | None) -> Votes:
    """The record that `value` holds, checked. Raises BadRecord and nothing else."""
    if not value:
        raise BadRecord("empty", "the record has no value")
    try:
        votes = _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise BadRecord("bad_votes", str(error)) from None
    except Exception as error:  # DecodeError, bad UTF-8, nesting: what bytes can do to a parser is open-ended
        raise BadRecord("malformed", str(error)) from None
    check(votes)
    return votes


def check(votes: Votes) -> None:
    """Raises BadRecord ``bad_votes`` for a record whose parts do not fit together."""
    problem = _head(votes) or _body(votes) or _hits(votes)
    if problem:
        raise BadRecord("bad_votes", problem)


def _head(v: Votes) -> str | None:
    if v.schema != SCHEMA:
        return f"schema {v.schema}, but {SCHEMA} is what this version reads"
    if v.stage not in ("live", "shadow"):
        return f"stage {v.stage[:20]!r}"
    if not 0 <= v.partition < v.partitions <= 2**31:
        return f"partition {v.partition} of {v.partitions}"
    if not 0 <= v.start <= v.end < 2**62:
        return f"positions [{v.start}, {v.end})"
    if not 0 <= v.revision < 2**53 or not 0 < v.bucket < 2**53:
        return f"revision {v.revision}, bucket {v.bucket}"
    if not v.members or len(set(v.members)) != len(v.members) or not all(v.members):
        return "members are missing, empty or named twice"
    if (SUITE in v.members) != (v.stage == "live") or SUITE in v.members[1:]:
        return f"{SUITE!r} stands first in a live record and nowhere else"
    if v.watermark is not None and not 0 <= v.watermark <= MAX_TIME:
        return f"watermark {v.watermark}"
    if v.hello and v.start != v.end:
        return "a hello covers nothing"
    if not 0 <= v.holdout < 1:
        return f"holdout {v.holdout}"
    return None


def _body(v: Votes) -> str | None:
    span, fields = v.end - v.start, {len(values) for values in v.segments}
    if len(fields) > 1:
        return "segments of several lengths"
    if not _sums(v.runs, 3, span):
        return f"runs do not cover {span} positions"
    buckets, segment = v.runs[1::3], v.runs[2::3]
    for bucket, index in zip(buckets, segment, strict=True):
        if bucket == -1:
            if index != 0:
                return "a run without requests has a segment"
        elif not 0 <= bucket <= MAX_TIME or bucket % v.bucket or not 0 <= index < len(v.segments):
            return f"a run of bucket {bucket} and segment {index}"
    if len(v.states) != len(v.members):
        return f"{len(v.states)} states for {len(v.members)} members"
    for codes in v.states:
        if codes and (not _sums(codes, 2, span) or set(codes[1::2]) - {VOTED, ABSTAINED, FAILED}):
            return f"states do not cover {span} positions"
    return None


def _sums(flat: list[int], width: int, span: int) -> bool:
    lengths = flat[0::width]
    return len(flat) % width == 0 and sum(lengths) == span and min(lengths, default=1) > 0


def _hits(v: Votes) -> str | None:
    h, k, span = len(v.hits), len(v.members), v.end - v.start
    if v.held and (v.stage != "live" or not h or min(v.held) < 0 or max(v.held) >= span):
        return "held out what was not flagged"
    width = -(-k // 8)
    if len(v.ids) != h or len(v.times) != h or len(v.true) != h * width or len(v.abstain) != h * width:
        return f"{h} hits, but {len(v.ids)} ids, {len(v.times)} times, or masks of another size"
    if not h:
        return None
    if min(v.hits) < 0 or max(v.hits) >= span or min(v.times) < 0 or max(v.times) > MAX_TIME:
        return "a hit beyond the positions or the years"
    longest = max(map(len, v.ids))
    if not all(v.ids) or (longest > MAX_ID // 4 and max(len(each.encode()) for each in v.ids) > MAX_ID):
        return "an id is empty or too long"
    hits = np.array(v.hits, dtype=np.int64)
    if (np.diff(hits) <= 0).any():
        return "hits do not ascend"
    ends = np.cumsum(np.array(v.runs[0::3], dtype=np.int64))
    buckets = np.array(v.runs[1::3], dtype=np.int64)[np.searchsorted(ends, hits, side="right")]
    if (np.array(v.times, dtype=np.int64) // v.bucket * v.bucket != buckets).any():
        return "a hit whose time is not in the bucket of its run"
    true, abstain = (np.frombuffer(m, dtype=np.uint8).reshape(h, width) for m in (v.true, v.abstain))
    if k % 8 and ((true | abstain)[:, -1] >> (k % 8)).any():
        return "a mask names more members than there are"
    if (true & abstain).any() or not true.any(axis=1).all():
        return "a hit without a True vote, or True and abstained at once"
    if v.held:
        held = np.array(v.held, dtype=np.int64)
        at = np.searchsorted(hits, held).clip(max=h - 1)
        if (np.diff(held) <= 0).any() or (hits[at] != held).any() or (true[at, 0] & 1).any():
            return "held out: not ascending, or not a hit, or answered True"
    return None


def hit_members(votes: Votes) -> list[list[str]]:
    """Per hit the ids of the members that voted True, SUITE included, in order."""
    names: Sequence[str] = votes.members
    width = -(-len(names) // 8)
    known: dict[bytes, list[str]] = {}
    out = []
    for at in range(0, len(votes.true), width):
        mask = votes.true[at : at + width]
        if mask not in known:
            bits = unpack_masks(mask, len(names))[0]
            known[mask] = [name for name, bit in zip(names, bits, strict=True) if bit]
        out.append(known[mask])
    return out


def without(votes: Votes, unknown: Sequence[str]) -> Votes | None:
    """The record less some of its members; None where none is left."""
    keep = [i for i, name in enumerate(votes.members) if name not in unknown]
    if not keep:
        return None
    true = unpack_masks(votes.true, len(votes.members))[:, keep]
    abstain = unpack_masks(votes.abstain, len(votes.members))[:, keep]
    hits = np.flatnonzero(true.any(axis=1)).tolist()
    kept = {votes.hits[i] for i in hits}
    return msgspec.structs.replace(
        votes,
        members=[votes.members[i] for i in keep],
        states=[votes.states[i] for i in keep],
        hits=[votes.hits[i] for i in hits],
        ids=[votes.ids[i] for i in hits],
        times=[votes.times[i] for i in hits],
        true=_masks(true[hits].T),
        abstain=_masks(abstain[hits].T),
        held=[position for position in votes.held if position in kept],
    )
