"""Every number of the status document, by brute force over the raw events; no code of the product's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.logs import Ballots, Label, Request, Vote
from tests.e2e.suites import BUCKET, HORIZON, MEMBERS, WINDOWS, SuiteFile

LIVE = [who for who, (stage, _) in MEMBERS.items() if stage == "live"]
LEAP = 6 * 3_600_000


@dataclass
class Known:
    """All that is known of one request id."""

    times: list[int] = field(default_factory=list)
    flagged: set[str] = field(default_factory=set)
    answered: bool = False
    labels: list[Label] = field(default_factory=list)

    @property
    def label(self) -> bool | None:
        """The label that stands; withdrawn is unlabelled."""
        return max(self.labels, key=lambda label: label.order).label if self.labels else None

    @property
    def asked(self) -> list[int]:
        return [label.asked for label in self.labels if label.asked is not None]

    @property
    def time(self) -> int | None:
        """When the request was; one that nobody flagged is placed by what its labels say."""
        if self.flagged:
            return min(self.times)
        return min(self.asked, default=None)


class Recount:
    """`document()` is what `chorus status --json` has to say, verdicts apart."""

    def __init__(
        self,
        suite: SuiteFile,
        requests: Sequence[Request],
        labels: Sequence[Label],
        ballots: Ballots,
        decisions: Iterable[dict[str, Any]],
        dead_letters: int,
    ) -> None:
        self.suite, self.requests, self.ballots, self.dead_letters = suite, requests, ballots, dead_letters
        self.revision = 0
        self.ids: dict[str, Known] = defaultdict(Known)
        for request in requests:
            known = self.ids[request.id]
            known.times.append(request.time)
            known.flagged |= {who for who in MEMBERS if self.vote(who, request).true}
        for label in labels:
            self.ids[label.id].labels.append(label)
        for decision in decisions:
            self.ids[decision["request_id"]].answered |= decision["judgement"]
            self.revision = max(self.revision, decision["revision"])
        self.watermark = furthest((r.place[0], r.time) for r in requests)
        self.through = furthest((label.partition, label.order[1]) for label in labels)

    def vote(self, who: str, request: Request) -> Vote:
        """A rule's vote follows from the features; for a random member what the log says counts."""
        rule = MEMBERS[who][1]
        if rule is None:
            return self.ballots.of[who, request.place]
        answer = rule(request.features)
        return Vote(bool(answer), 1 if answer is None else 0)

    def document(self) -> dict[str, Any]:
        latest = self.watermark - self.watermark % BUCKET
        matured = min(self.watermark, self.through - HORIZON)
        ends = {"latest": latest, "matured": matured - matured % BUCKET}
        waiting = [known for known in self.ids.values() if known.labels and known.time is None]
        return {
            "schema": 1,
            "suite": self.suite.name,
            "revision": self.revision,
            "watermark": self.watermark,
            "labels_through": self.through,
            "windows": [
                {"name": name, "view": view, **self.window(end - length, end)}
                for name, length in WINDOWS.items()
                for view, end in ends.items()
            ],
            "counters": {"dead_letters": self.dead_letters, "pending_labels": len(waiting), "late": 0},
        }

    def window(self, start: int, end: int) -> dict[str, Any]:
        inside = [r for r in self.requests if start <= r.time < end]
        ids = [k for k in self.ids.values() if k.time is not None and start <= k.time < end]
        labelled = [k for k in ids if k.label is not None]
        # Where a label came without the time of its request, others may be missing altogether.
        known = all(k.asked for k in labelled)
        positives = sum(k.label is True for k in labelled) if known else None
        flagged = [k for k in ids if k.flagged & set(LIVE)]
        missed = [k for k in labelled if not k.flagged & set(LIVE)]
        members = []
        for who, (stage, _) in MEMBERS.items():
            votes = [self.vote(who, request) for request in inside]
            mine = [k for k in ids if who in k.flagged]
            others = set(LIVE) - {who}
            unique = [k for k in mine if not k.flagged & others]
            members.append(
                {
                    "id": who,
                    "stage": stage,
                    "owner": f"{who[:3]}@example.com",
                    "watermark": self.watermark,
                    "covered": [[start, end]],
                    "scored": len(inside),
                    "abstained": sum(vote.state > 0 for vote in votes),
                    "errors": sum(vote.state == 2 for vote in votes),
                    "flagged": count(mine),
                    "unique": count(unique),
                    "unique_recall": ratio(count(unique)["positive"], positives),
                    "overlap": {o: sum(o in k.flagged for k in mine) for o in MEMBERS if o != who},
                }
            )
        return {
            "start": start,
            "end": end,
            "volume": len(inside),
            "suite": {
                "flagged": count(flagged),
                "unflagged": count(missed, n=len(inside) - len(flagged)),
                "answered": count([k for k in ids if k.answered]),
                "recall": ratio(count(flagged)["positive"], positives),
            },
            "members": members,
        }


def count(ids: Collection[Known], n: int | None = None) -> dict[str, Any]:
    n = len(ids) if n is None else n
    positive = sum(known.label is True for known in ids)
    negative = sum(known.label is False for known in ids)
    return {
        "n": n,
        "positive": positive,
        "negative": negative,
        "unlabelled": n - positive - negative,
        "precision": ratio(positive, positive + negative),
    }


def ratio(part: int, whole: int | None) -> float | None:
    return part / whole if whole else None


def furthest(instants: Iterable[tuple[int, int]]) -> int:
    """The latest instant, over partitions at rest, that does not leap ahead of three others of its own."""
    of: dict[int, list[int]] = defaultdict(list)
    for partition, time in instants:
        of[partition].append(time)
    best = 0
    for times in of.values():
        top = sorted(times, reverse=True)[:4]
        best = max(best, next(time for time in top if time <= top[-1] + LEAP))
    return best


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """Where `actual` is not what is expected. It may say more, but not in overlaps and lists."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        missing = [f"{path}.{key}: is missing" for key in expected if key not in actual]
        if path.endswith("overlap") and set(expected) != set(actual):
            return [f"{path}: expected {sorted(expected)}, found {sorted(actual)}"]
        both = [key for key in expected if key in actual]
        return missing + [d for key in both for d in differences(expected[key], actual[key], f"{path}.{key}")]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            d
            for i, (one, other) in enumerate(zip(expected, actual, strict=True))
            for d in differences(one, other, f"{path}[{_name(one, i)}]")
        ]
    same = type(expected) is type(actual) and expected == actual
    return [] if same else [f"{path}: expected {expected!r}, found {actual!r}"]


def _name(item: Any, index: int) -> str:
    if isinstance(item, dict):
        return item.get("id") or f"{item.get('name', index)} {item.get('view', '')}".strip()
    return str(index)
