"""Records of single requests as lua/apply.lua packs them. Pure; the script there says how and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from streams.labels import WITHDRAWN

_TIMED, _ANSWERED, _LIVE, _ANCHORED, _BARE, _HELD = 1, 2, 4, 8, 64, 128


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Instants in epoch ms; yes, no: masks over the slots of its shard.

    label: 0 (none), POSITIVE, NEGATIVE or WITHDRAWN; with a label its version, else None. timed: a vote gave
    the time; answered: the suite answered True; by_live: the live host gave the revision; anchored: the label
    came with its own time; held: it was let through on purpose. source is a number where the shard's
    `sources` were not given.
    """

    time: int
    label: int
    revision: int
    yes: int
    no: int
    segment: str
    timed: bool
    answered: bool
    by_live: bool
    anchored: bool
    held: bool
    label_revision: int | None = None
    labelled_at: int | None = None
    source: str | int | None = None

    @property
    def labelled(self) -> bool:
        """Whether it has a label that stands."""
        return self.label not in (0, WITHDRAWN)


def decode_record(value: bytes, start: int, sources: Mapping[int, str] | None = None) -> Record:
    """The record packed in `value`, of the generation that begins at `start` (ms)."""
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(value)
    time, flags, revision, yes, *rest = unpacker
    no, segment = b"", b""
    if not flags & _BARE:
        no, segment, *rest = rest
    version: tuple[int | None, int | None, str | int | None] = (None, None, None)
    if rest:
        number, at, source = rest
        named = (sources or {}).get(source, source) if isinstance(source, int) else source.decode()
        version = (int(number), start + int(at), named)
    return Record(
        start + int(time),
        flags // 16 % 4,
        int(revision),
        int.from_bytes(yes, "little"),
        int.from_bytes(no, "little"),
        segment.decode(),
        bool(flags & _TIMED),
        bool(flags & _ANSWERED),
        bool(flags & _LIVE),
        bool(flags & _ANCHORED),
        bool(flags & _HELD),
        *version,
    )
