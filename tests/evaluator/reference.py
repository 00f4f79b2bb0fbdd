"""What the store must hold, said plainly: no increments, no Lua, no shared code; everything at the end.

Input is the log, output is what a reader finds. Only for logs in which two occurrences of one id lie either
within a generation of each other or far apart (`era` tells which), as docs/store.md asks of producers.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

BUCKET, GENERATION, ERA = 300_000, 86_400_000, 20 * 86_400_000


def era(time: int) -> int:
    return (time + ERA // 2) // ERA


@dataclass
class Request:
    votes: list[tuple[int, str]] = field(default_factory=list)  # (time, segment) of occurrences with a hit
    asked: list[int] = field(default_factory=list)
    live: list[int] = field(default_factory=list)  # revisions
    shadow: list[int] = field(default_factory=list)
    yes: set[str] = field(default_factory=set)
    no: set[str] = field(default_factory=set)
    answered: bool = False
    held: bool = False
    labels: list[tuple[int, int, bytes, int]] = field(default_factory=list)

    def time(self) -> int:
        return min(self.votes)[0] if self.votes else min(self.asked)

    def delay(self) -> tuple[int, int, int] | None:
        """(generation, label, bin of the delay) of its label; bins of a factor 2^¼ from a minute on."""
        if not self.labels or max(self.labels)[3] == 3:
            return None
        _, at, _, label = max(self.labels)
        minutes = max(at - self.time(), 1) / 60_000
        return self.time() // GENERATION, label, max(math.floor(4 * math.log2(minutes)), 0)

    def cell(self) -> tuple[int, tuple] | None:
        time, segment = min(self.votes) if self.votes else (min(self.asked), "")
        revision = min(self.live) if self.live else min(self.shadow) if self.shadow else 0
        label = max(self.labels)[3] if self.labels else 0
        label = 0 if label == 3 else label
        if not label and not self.yes:
            return None
        key = (frozenset(self.yes), frozenset(self.no), segment, revision, label)
        return time - time % BUCKET, (*key, bool(label) and bool(self.asked), self.answered, self.held)


def recount(votes_log: dict, labels_log: dict) -> dict:
    """{"cells": of (bucket, cell), "positions": of (bucket, name), "pending": n, "delays": of delays}"""
    covered: set[tuple] = set()
    positions: Counter = Counter()
    requests: dict[tuple[str, int], Request] = {}
    for log, records in votes_log.items():
        for votes in records:
            bits = len(votes.members)
            width = (bits + 7) // 8
            where = []
            for n, bucket, segment in zip(votes.runs[::3], votes.runs[1::3], votes.runs[2::3], strict=True):
                where += [(bucket, segment)] * n
            states = []
            for flat in votes.states:
                expanded = [code for n, code in zip(flat[::2], flat[1::2], strict=True) for _ in range(n)]
                states.append(expanded or [0] * len(where))
            hits = {position: i for i, position in enumerate(votes.hits)}
            for position, (bucket, segment) in enumerate(where):
                offset = votes.start + position
                fresh = [
                    m for m in range(bits) if (log, votes.partition, offset, votes.members[m]) not in covered
                ]
                covered |= {(log, votes.partition, offset, votes.members[m]) for m in fresh}
                if bucket < 0:
                    continue
                for m in fresh:
                    name = votes.members[m]
                    positions[bucket, "v" if name == "*" else "s" + name] += 1
                    positions[bucket, "a" + name] += states[m][position] >= 1
                    positions[bucket, "e" + name] += states[m][position] == 2
                if position not in hits:
                    continue
                i = hits[position]
                true = int.from_bytes(votes.true[i * width : (i + 1) * width], "little")
                abstain = int.from_bytes(votes.abstain[i * width : (i + 1) * width], "little")
                yes = {votes.members[m] for m in fresh if true >> m & 1}
                if not yes - {"*"}:
                    continue
                request = requests.setdefault((votes.ids[i], era(votes.times[i])), Request())
                request.votes.append((votes.times[i], "\x1f".join(votes.segments[segment])))
                (request.live if votes.stage == "live" else request.shadow).append(votes.revision)
                request.yes |= yes - {"*"}
                request.no |= {votes.members[m] for m in fresh if abstain >> m & 1}
                request.answered |= "*" in yes
                request.held |= position in votes.held and votes.members.index("*") in fresh
    floating: dict[str, int] = {}
    labels = [label for records in labels_log.values() for label in records]
    for label in labels:
        if label.requested_at is not None:
            key = (label.request_id, era(label.requested_at))
            requests.setdefault(key, Request()).asked.append(label.requested_at)
    for label in labels:
        version = (label.revision, label.labelled_at, label.source.encode(), label.label)
        if label.requested_at is not None:
            requests[label.request_id, era(label.requested_at)].labels.append(version)
            continue
        mine = [key for key in requests if key[0] == label.request_id]
        if mine:
            requests[mine[0]].labels.append(version)
        else:
            floating[label.request_id + f"|{label.labelled_at // GENERATION}"] = 1
    cells = Counter(cell for request in requests.values() if (cell := request.cell()))
    delays = Counter(delay for request in requests.values() if (delay := request.delay()))
    return {"cells": cells, "positions": +positions, "pending": len(floating), "delays": delays}
