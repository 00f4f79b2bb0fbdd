"""Who scores what while members go from shadow to live and back: pure, from the registry alone.

Live hosts report at which offset of each partition a revision begins to answer (`serving`). Up to there the
one before did, so for each offset it is known whether a live host asks a member. A shadow host asks it
wherever they do not: no position is left out between the two.

A partition may move to a host that is still at an older revision, and may have been said to be at a later
one from there on: of two reports the later one in the log counts, from its offset on. A host reports whenever
the log says anything else of its partitions than what it does (`unsaid`), and a shadow host that has acted on
what was said before goes back where somebody was left out (`missed`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

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


def steps(registry: Registry, partition: int, through: int | None = None) -> Steps:
    """Which revision answers from where on, by the reports up to the one at `through` of the log.

    None: by all. Where nothing is reported the first revision does.
    """
    out = [(0, min(registry.lives, default=0))]
    for position, at, revision, until in registry.servings.get(partition, ()):
        if (through is None or position <= through) and (until is None or at < until):
            rest = [] if until is None else _from(out, until)
            while out and out[-1][0] >= at:
                out.pop()
            for step in ((at, revision), *rest):
                if not out or out[-1][1] != step[1]:
                    out.append(step)
    return out


def steps_of(stairs: Steps) -> Steps:
    """Stairs without the steps that change nothing."""
    return [step for i, step in enumerate(stairs) if not i or stairs[i - 1][1] != step[1]]


def _from(stairs: Steps, offset: int) -> Steps:
    """What is left of the stairs from `offset` on, where they begin."""
    last = max(i for i, (at, _) in enumerate(stairs) if not i or at <= offset)
    return [(max(offset, stairs[last][0]), stairs[last][1]), *stairs[last + 1 :]]


def unsaid(registry: Registry, partition: int, mine: Steps) -> Steps:
    """What has to be reported, in this order, for a partition's steps to be `mine`, from their first on."""
    if partition not in registry.servings:
        return mine
    said = _from(steps(registry, partition), mine[0][0])
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(said, mine, strict=False)))
    if same == len(said) == len(mine):
        return []
    # Something else begins too early: what stands before that is said again, which ends it.
    again = same == len(mine) or (same < len(said) and said[same][0] < mine[same][0])
    return mine[same - 1 :] if again else mine[same:]


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
    """The first offset below `position` at which somebody of `mine` was left to the live hosts in vain.

    `known`: the offset in the log of the last report that was acted on; those after it may say that no live
    host asks a member there.
    """
    now, before = steps(registry, partition), steps(registry, partition, known)
    for at in sorted({offset for offset, _ in now + before if offset < position}):
        should, did = (shadowed(registry, mine, stairs, at)[0] for stairs in (now, before))
        if set(should) - set(did):
            return at
    return None


def reported(registry: Registry, partition: int) -> int:
    """The offset in the log of the last report of a partition; 0 where there is none."""
    reports = registry.servings.get(partition)
    return reports[-1].position if reports else 0


def answers(replay: Replay, position: int, revision: int) -> Steps:
    """How a host of `revision` answers a partition from `position` on.

    `replay` holds what an earlier host recorded; that is answered as it was recorded.
    """
    pieces = replay.split(position, _END)
    return steps_of([(at, revision if votes is None else votes.revision) for at, _, votes in pieces])


def unlike(here: Collection[str], there: Collection[str]) -> str:
    """How two sets of members differ, in words: ``+a@1 -b@1``; empty where they do not."""
    plus, minus = sorted(set(here) - set(there)), sorted(set(there) - set(here))
    return " ".join([*(f"+{name}" for name in plus), *(f"-{name}" for name in minus)])
