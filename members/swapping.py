"""Who scores what while members go from shadow to live and back: pure, from the registry alone.

Live hosts report at which offset of each partition a revision began to answer (`serving`). Up to there the
members of the revision before were in the OR, so for each offset it is known whether the live host asks a
member. A shadow host asks it wherever the live host does not: no position is left out between the two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from members.recovery import Replay
from members.registry.lifecycle import Registry

#: (offset, revision) in ascending order: from that offset of the partition on, that revision answers.
Steps = list[tuple[int, int]]
_END = 2**62


def in_share(registry: Registry, share: int, shares: int) -> tuple[str, ...]:
    """Ids of the members, retired ones left out, that shadow hosts `share` of `shares` look after."""
    return tuple(
        name
        for name, entry in registry.entries.items()
        if entry.state != "retired" and entry.ordinal % shares == share
    )


def steps(registry: Registry, partition: int, through: int = _END) -> Steps:
    """Which revision answered from where on, as far as revisions up to `through` have been reported.

    Before the first report the first revision did. Where a later revision began before an earlier one, the
    earlier one never answered.
    """
    out, limit = Steps(), _END
    for revision in sorted(registry.servings, reverse=True):
        at = registry.servings[revision].get(partition)
        if revision <= through and at is not None and at < limit:
            out.append((at, revision))
            limit = at
    if limit > 0:
        out.append((0, min(registry.lives, default=0)))
    return out[::-1]


def _left(registry: Registry, mine: Sequence[str], revision: int) -> tuple[str, ...]:
    """Those of `mine` that the live host does not ask at that revision."""
    live = registry.lives.get(revision, ())
    return tuple(name for name in mine if name not in live)


def shadowed(
    registry: Registry, mine: Sequence[str], stairs: Steps, offset: int
) -> tuple[tuple[str, ...], int | None]:
    """Those of `mine` that a shadow host has to ask from `offset` on, and up to where (None: without end)."""
    at, until = stairs[0][1], None
    for start, revision in stairs:
        if start > offset:
            until = start
            break
        at = revision
    return _left(registry, mine, at), until


def shadowed_from(registry: Registry, mine: Sequence[str], stairs: Steps, offset: int) -> set[str]:
    """Those of `mine` that a shadow host has to ask at `offset` or somewhere after it."""
    out, at = set[str](), offset
    while True:
        ids, until = shadowed(registry, mine, stairs, at)
        out |= set(ids)
        if until is None:
            return out
        at = until


def missed(registry: Registry, mine: Sequence[str], partition: int, known: int, position: int) -> int | None:
    """The first offset below `position` at which somebody of `mine` was left to the live host in vain.

    `known`: the latest revision whose report was acted on before; the reports after it may say that the live
    host had already dropped a member there.
    """
    now, before = steps(registry, partition), steps(registry, partition, known)
    for at in sorted({offset for offset, _ in now + before if offset < position}):
        should, did = (shadowed(registry, mine, stairs, at)[0] for stairs in (now, before))
        if set(should) - set(did):
            return at
    return None


def reported(registry: Registry, partition: int) -> int:
    """The latest revision that is reported to answer a partition; 0 where none is."""
    return max((r for r, places in registry.servings.items() if partition in places), default=0)


def serves_from(replay: Replay, position: int, revision: int) -> int:
    """The first offset from `position` on after which nothing is answered by another revision.

    `replay` holds what an earlier host recorded; that is answered as it was recorded.
    """
    first = position
    for _, stop, votes in replay.split(position, _END):
        if votes is not None and votes.revision != revision:
            first = stop
    return first


def unlike(here: Collection[str], there: Collection[str]) -> str:
    """How two sets of members differ, in words: ``+a@1 -b@1``; empty where they do not."""
    plus, minus = sorted(set(here) - set(there)), sorted(set(there) - set(here))
    return " ".join([*(f"+{name}" for name in plus), *(f"-{name}" for name in minus)])
