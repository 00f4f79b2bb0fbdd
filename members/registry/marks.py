"""Marks: the event times at which something was decided.

A store that is being filled anew is behind them: it knows only a part of what was decided on. Where the logs
have been read and some are still ahead, it is they that are wrong, and an evaluator writes `noticed`: event
time is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from members.registry.events import Event
    from members.registry.lifecycle import Registry

#: Of the candidates that wait.
WAITING = frozenset(("recommended", "approved", "queued"))


def ahead(registry: Registry, watermark: int, labels_through: int | None) -> bool:
    """Whether something was decided at a later event time, or on later labels (ms)."""
    marks = [registry.rolled_back]
    for entry in registry.entries.values():
        if entry.state != "retired":
            marks += [entry.watermark, entry.fell_back]
        if entry.state in WAITING and (entry.labels_through or 0) > (labels_through or 0):
            return True
    return any(mark is not None and mark > watermark for mark in marks)


def untimed(registry: Registry) -> bool:
    """Whether a member fell back at an event time that whoever wrote it did not know."""
    entries = registry.entries.values()
    return registry.untimed or any(entry.untimed and entry.state != "retired" for entry in entries)


def notice(before: Registry, registry: Registry, event: Event) -> tuple[Registry, str | None]:
    """No mark is later than this from here on, and what lacked one has it; or why the event is ignored.

    When the baking member went in stays as it was told: what it did since then is what is watched.
    """
    now, told = event.watermark, (event.evidence or {}).get("labels_through")
    if now is None or not before.revision:
        ignored = "it does not say how far event time has come, or of which suite"
        return before.model_copy(update={"applied": registry.applied}), ignored

    def least(mark: int | None, most: int | None) -> int | None:
        return None if mark is None or most is None else min(mark, most)

    entries = {
        name: entry.model_copy(
            update={
                "watermark": least(entry.watermark, now),
                "fell_back": now if entry.untimed else least(entry.fell_back, now),
                "untimed": False,
                "labels_through": least(entry.labels_through, told),
            }
        )
        for name, entry in registry.entries.items()
    }
    rolled_back = now if registry.untimed else least(registry.rolled_back, now)
    change = {"entries": entries, "rolled_back": rolled_back, "untimed": False}
    return registry.model_copy(update=change), None
