"""What a receiver has been told: which conditions fire for it, and which events it has. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from evaluator.alerting.alert import Alert
from evaluator.alerting.payload import identity, wording
from evaluator.alerting.wording import severity

#: Ids that are remembered: an event is recognised as long as no more than so many have come after it.
REMEMBERED = 10_000

Decision = Literal["send", "known", "unchanged", "not_firing"]


@dataclass(frozen=True, slots=True)
class Firing:
    """A condition that the receiver knows to fire: what it was told (a digest), and since when (RFC 3339)."""

    digest: str
    starts_at: str


@dataclass(slots=True)
class Conditions:
    """`firing` by fingerprint; `ids` in the order in which they were told."""

    firing: dict[str, Firing] = field(default_factory=dict)
    ids: dict[str, None] = field(default_factory=dict)

    def decide(self, alert: Alert) -> Decision:
        """Whether the receiver has to be told: not of what it knows, nor of the end of what it never knew."""
        if alert.id in self.ids:
            return "known"
        if alert.notice:
            return "send"
        there = self.firing.get(alert.fingerprint)
        if alert.status == "resolved":
            return "send" if there else "not_firing"
        return "unchanged" if there and there.digest == digest(alert) else "send"

    def starts_at(self, alert: Alert) -> str:
        """Since when its condition fires; its own time for one that is new, and for a notice."""
        there = None if alert.notice else self.firing.get(alert.fingerprint)
        return there.starts_at if there else alert.time

    def told(self, alert: Alert) -> None:
        """The receiver knows of it now."""
        self.seen(alert)
        if alert.notice:
            return
        if alert.status == "resolved":
            self.firing.pop(alert.fingerprint, None)
        else:
            self.firing[alert.fingerprint] = Firing(digest(alert), self.starts_at(alert))

    def refused(self, alert: Alert) -> None:
        """The receiver would not have it: what it knows stays, but for a condition that has ended.

        That one is no longer said to fire, or its next beginning, in the same words, would not be told.
        """
        self.seen(alert)
        if not alert.notice and alert.status == "resolved":
            self.firing.pop(alert.fingerprint, None)

    def seen(self, alert: Alert) -> None:
        """It is done with, whether the receiver took it or not."""
        self.ids[alert.id] = None
        if len(self.ids) > REMEMBERED:
            self.ids.pop(next(iter(self.ids)))


def digest(alert: Alert) -> str:
    """Stands for everything that is said of a condition, but for when."""
    said = json.dumps([identity(alert), severity(alert), wording(alert)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def latest(alerts: Iterable[Alert]) -> list[Alert]:
    """The last event of every condition, in the order in which these came; notices are left out."""
    last: dict[str, Alert] = {}
    for alert in alerts:
        if not alert.notice:
            last.pop(alert.fingerprint, None)
            last[alert.fingerprint] = alert
    return list(last.values())


def still_firing(alerts: Iterable[Alert]) -> list[tuple[Alert, str]]:
    """What fires after these events, and since when (RFC 3339), the longest first."""
    known, last = Conditions(), {}
    for alert in alerts:
        known.told(alert)
        if not alert.notice:
            last[alert.fingerprint] = alert
    return [(last[fingerprint], firing.starts_at) for fingerprint, firing in known.firing.items()]
