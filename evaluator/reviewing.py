"""Which requests to ask reviewers about. Pure: counts, requests and a seed in; no I/O, no clock.

Pending decisions turn on the precision of a few sets of requests: what each open candidate flags alone, and
what the suite flags. They divide the requests into **classes**, so that within a class each request matters
to the same decisions; `evaluator.evidence.reviews` says how many of each class to ask for, and chance says
which ones.

Asked for are requests of the newest block of event time, whether or not their own label may still come: who
waited and asked only for those that are still unlabelled would see mostly the slow outcome. How many is
decided by what the labels of *earlier* blocks say, so that no outcome steers what is sampled beside it, and
the bets on the block stay fair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from evaluator.cells import LABEL, Cells
from evaluator.evidence.reviews import allocate, precision_weights
from streams.labels import NEGATIVE, POSITIVE
from streams.suite import Suite

Kind = tuple[bool, ...]

#: Verdicts on a candidate with which more labels still change something.
OPEN = (None, "HOLD", "INCONCLUSIVE")


@dataclass(frozen=True, slots=True)
class Request:
    """One request that may be asked about: event time in ms, who voted True."""

    id: str
    time: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """One request to be asked about: its class, the chance that it had in this draw, and what it is for."""

    request: Request
    class_name: str
    probability: float
    reason: str


class Agenda:
    """The sets that decisions turn on, in a fixed order, and the classes that they make.

    `pending`: shadow members whose verdict is open.
    """

    def __init__(self, suite: Suite, pending: Iterable[str]) -> None:
        self.live = frozenset(suite.live)
        self.members = frozenset(suite.members)
        self.pending = list(pending)
        self.replaces = {
            name: replaced
            for name in self.pending
            if (replaced := suite.members[name].replaces) is not None and replaced in self.live
        }
        lost = [f"lost to {name}" for name in self.replaces]
        self.sets = ["suite", *self.pending, *lost]

    def kind(self, names: frozenset[str]) -> Kind | None:
        """In which of the sets a request lies that `names` flagged; None where no member of the suite did."""
        mine = names & self.members
        if not mine:
            return None
        fired = mine & self.live
        return (
            bool(fired),
            *(not fired and name in mine for name in self.pending),
            *(fired == {old} and name not in mine for name, old in self.replaces.items()),
        )

    def name(self, kind: Kind) -> str:
        """What the class is called: the sets that it lies in."""
        return " + ".join(name for name, inside in zip(self.sets, kind, strict=True) if inside) or "others"

    def reason(self, kind: Kind) -> str:
        """Which decisions the class matters to."""
        if kind[0]:
            about = self.pending
        else:
            about = [name for name, inside in zip(self.pending, kind[1:], strict=False) if inside]
        return f"pending: {', '.join(about)}" if about else "in proportion to traffic"


@dataclass(slots=True)
class Tally:
    """Counts of one class. In the pool: requests, those with a label, those asked about and not answered;
    in the blocks before it: labelled ones and the positives among them."""

    requests: int = 0
    labelled: int = 0
    waiting: int = 0
    before: int = 0
    positives: int = 0


def tally(
    cells: Cells, agenda: Agenda, start: int, end: int, block: int, waiting: Iterable[frozenset[str]] = ()
) -> dict[Kind, Tally]:
    """Counts of every class: the pool is [start, end) in ms, the blocks before it are whole ones of `block`.

    `waiting`: who flagged each request of the pool that was asked about and has no label yet.
    """
    out: dict[Kind, Tally] = {}
    names = np.array(cells.ids, dtype=object)
    kinds = [agenda.kind(frozenset(names[row])) for row in cells.yes]
    at = cells.starts[cells.bucket]
    label = cells.state & LABEL
    pool = (at >= start) & (at < end)
    before = at < start - start % block
    size = len(kinds)

    def count(chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
        sums = np.bincount(cells.pattern[chosen], cells.count[chosen], size)
        return [int(n) for n in sums]

    marked = (label == POSITIVE) | (label == NEGATIVE)
    columns = (count(pool), count(pool & marked), count(before & marked), count(before & (label == POSITIVE)))
    for kind, requests, labelled, earlier, positives in zip(kinds, *columns, strict=True):
        if kind is not None:
            one = out.setdefault(kind, Tally())
            one.requests += requests
            one.labelled += labelled
            one.before += earlier
            one.positives += positives
    for who in waiting:
        if (kind := agenda.kind(who)) is not None:
            out.setdefault(kind, Tally()).waiting += 1
    return out


@dataclass(slots=True)
class Draw:
    """A fair sample of `most` requests of each class, from a stream of any length."""

    agenda: Agenda
    most: int
    seed: int
    seen: dict[Kind, int] = field(default_factory=dict)
    kept: dict[Kind, list[Request]] = field(default_factory=dict)
    _kinds: dict[tuple[str, ...], Kind | None] = field(default_factory=dict)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def add(self, request: Request) -> None:
        """One more request that could be asked about."""
        if request.members not in self._kinds:
            self._kinds[request.members] = self.agenda.kind(frozenset(request.members))
        kind = self._kinds[request.members]
        if kind is None or self.most < 1:
            return
        n = self.seen[kind] = self.seen.get(kind, 0) + 1
        kept = self.kept.setdefault(kind, [])
        if n <= self.most:
            kept.append(request)
        elif (place := self._random.randrange(n)) < self.most:
            kept[place] = request

    def choose(self, counts: Mapping[Kind, Tally]) -> list[Asking]:
        """At most `most` of the requests seen, by what the pending decisions need."""
        kinds = sorted(self.seen)
        if not kinds or self.most < 1:
            return []
        known = [counts.get(kind, Tally()) for kind in kinds]
        sizes = np.array([max(t.requests, self.seen[k]) for k, t in zip(kinds, known, strict=True)])
        inside = np.array(kinds, dtype=np.float64).T if self.agenda.pending else np.zeros((1, len(kinds)))
        n = np.array([t.before for t in known], dtype=np.float64)
        p = (np.array([t.positives for t in known]) + 0.5) / (n + 1)
        # Labels of the pool count, what they say does not: more of them at the precision known from before.
        n += [t.labelled + t.waiting for t in known]
        room = [self.seen[kind] for kind in kinds]
        plan = allocate(
            self.most, precision_weights(inside * sizes), p * (n + 1) - 0.5, n, room, seed=self.seed
        )
        out: list[Asking] = []
        for kind, t, asked in zip(kinds, known, plan.asked.tolist(), strict=True):
            could = max(self.seen[kind], t.requests - t.labelled - t.waiting)
            some = self._random.sample(self.kept[kind], min(asked, len(self.kept[kind])))
            name, reason = self.agenda.name(kind), self.agenda.reason(kind)
            out += [Asking(request, name, len(some) / could, reason) for request in some]
        return out[: self.most]


def due(per_hour: int, minute: int) -> int:
    """How many may have been asked for in this hour by the end of its minute 0 … 59."""
    return -(-per_hour * (minute + 1) // 60)


def pool_end(watermark: int, marks: Sequence[int | None], block: int) -> int:
    """Where the pool ends (ms): where the open candidates have voted too, but for those a block behind."""
    near = [mark for mark in marks if mark is not None and mark > watermark - block]
    return min([watermark, *near])
