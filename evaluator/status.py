"""The status document: everything that is known of a suite, from Redis alone. docs/status.md describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from evaluator.bands import Dispersions, add_estimates, add_intervals, dispersions
from evaluator.cells import Cells
from evaluator.decline import declines
from evaluator.evidence.maturity import Horizon
from evaluator.evidence.maturity import horizon as measure_horizon
from evaluator.history import History
from evaluator.judgement import Moment, judge_suite
from evaluator.repaired import repaired
from evaluator.store import differs
from evaluator.verdict import Verdict
from evaluator.windows import Count, MemberFigures, Window, evaluate
from members.registry.lifecycle import Registry
from streams.connect import ping_redis, redis_client
from streams.errors import StoreError
from streams.labels import NEGATIVE, POSITIVE
from streams.records import SUITE
from streams.settings import Settings
from streams.suite import Suite

SCHEMA = 1
_NOTHING = {
    "n": None,
    "positive": None,
    "negative": None,
    "unlabelled": None,
    "precision": None,
    "interval": None,
    "estimate": None,
}


async def read_status(suite: Suite, settings: Settings) -> dict[str, Any]:
    """The status document of a suite, read from Redis. Raises Unavailable without one."""
    client = redis_client(settings.redis)
    try:
        await ping_redis(client, settings.redis)
        history = History(client, suite.name)
        await history.refresh()
        return status_of(suite, history, settings.host.leap)
    finally:
        await client.aclose()


def horizon_of(suite: Suite, history: History, through: int | None) -> Horizon:
    """The age at which a bucket's labels are taken to have come: declared, or measured from the delays."""
    declared, rules = suite.labels.horizon, suite.labels
    floor = rules.min_horizon if declared == "auto" else int(declared)
    if declared != "auto" or through is None:
        return Horizon(floor, "floor", None, None, 0, 0)
    outcomes = (POSITIVE,) if rules.missing_is_negative else (POSITIVE, NEGATIVE)
    return measure_horizon(history.delays(), through, floor_ms=floor, outcomes=outcomes)


def status_of(suite: Suite, history: History, leap: int) -> dict[str, Any]:
    """The status document from a picture of the store. Instants in epoch ms; None is undefined.

    Raises StoreError where the store's buckets are not the suite file's: windows would end within them.
    """
    declared, suite = suite, history.current(suite)
    if history.layout is not None and history.layout.bucket != suite.bucket:
        raise StoreError(differs("bucket", history.layout.bucket, suite.bucket))
    ids = list(suite.members)
    live = suite.live
    marks = {name: history.watermark(name) for name in ids}
    watermark = _watermark(suite, history, marks)
    through = history.labels_through(leap)
    measured = horizon_of(suite, history, through)
    horizon = measured.ms
    matured = None if watermark is None or through is None else min(watermark, through - horizon)
    ends = [end for end in (watermark, matured) if end is not None]
    cells = history.cells(ids) if ends else None
    found = Judgement({}, Dispersions(1.0, {}, {}), {})
    if cells is not None and watermark is not None and through is not None and matured is not None:
        # Of delays that are hardly known the fast ones have been seen first: nothing is decided on them.
        known = suite.labels.horizon != "auto" or measured.source != "few_labels"
        moment = Moment(matured if known else 0, watermark, through, horizon, max(history.revision, 1))
        scope = (tuple(live), tuple(suite.shadow), suite.policy.floor)
        found = history.remember(scope, moment.matured, lambda: _judgement(cells, suite, moment))
    views = []
    for name, length in suite.window_ms.items():
        for view, end in (("latest", watermark), ("matured", matured)):
            window = None
            if cells is not None and end is not None and end >= suite.bucket:
                end -= end % suite.bucket
                silent = matured if suite.labels.missing_is_negative else None
                window = evaluate(cells, live, end - length, end, suite.bucket, silent)
            document = _window(suite, name, view, window, marks, found.verdicts)
            for each in document["members"]:
                each["state"] = _state(history.registry, each)
            if cells is not None and through is not None and matured is not None and view == "latest":
                add_estimates(document, cells, suite, history.delays(), through, matured)
            if view == "matured" and length == max(suite.window_ms.values()):
                for each in (document["suite"], *document["members"]):
                    each["repaired"] = found.repaired.get(each.get("id", ""))
            views.append(document)
    add_intervals(views, found.dispersions)
    return {
        "schema": SCHEMA,
        "suite": suite.name,
        "revision": history.revision,
        "watermark": watermark,
        "labels_through": through,
        "horizon": horizon,
        "registry": _registry(history.registry),
        "policy": _policy(declared, suite),
        "horizon_source": "declared" if suite.labels.horizon != "auto" else measured.source,
        "windows": views,
        "counters": dict(history.counters()),
    }


def _policy(declared: Suite, suite: Suite) -> dict[str, Any]:
    """What the members are judged by, where that is not only in the suite file."""
    floor = suite.policy.floor
    source = "adoption" if declared.policy.floor is None else "declared"
    return {"floor": floor, "floor_source": None if floor is None else source}


def _registry(registry: Registry | None) -> dict[str, Any] | None:
    """Where the suite stands on its way from one revision to the next; None where nothing is registered."""
    if registry is None or not registry.revision:
        return None
    queued = [(entry.place or 0, name, entry) for name, entry in registry.entries.items()]
    return {
        "revision": registry.revision,
        "live": list(registry.live),
        "deployment": registry.deployment.model_dump() if registry.deployment else None,
        "queue": [
            {"id": name, "place": place, "gain": entry.gain}
            for place, name, entry in sorted(queued, key=lambda each: each[:2])
            if entry.state == "queued"
        ],
    }


def _state(registry: Registry | None, member: dict[str, Any]) -> str:
    entry = registry.entries.get(member["id"]) if registry else None
    return str(entry.state if entry else member["stage"])


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is computed from all of the history, not from a window of it."""

    verdicts: dict[str, Verdict]
    dispersions: Dispersions
    repaired: dict[str, dict[str, Any]]


def _judgement(cells: Cells, suite: Suite, moment: Moment) -> Judgement:
    verdicts = judge_suite(cells, suite, moment)
    for name, decline in declines(cells, suite, moment.matured).items():
        if decline:
            verdicts[name] = replace(verdicts[name], decay=decline.document())
    end = moment.matured - moment.matured % suite.bucket
    longest = max(suite.window_ms.values(), default=0)
    figures = repaired(cells, suite, end - longest, end)
    return Judgement(verdicts, dispersions(cells, suite, moment.matured), figures)


def _watermark(suite: Suite, history: History, marks: dict[str, int | None]) -> int | None:
    """The least of the live members'; of a suite without live members, what its host has read."""
    values = [marks[name] for name in suite.live] or [history.watermark(SUITE)]
    return None if None in values else min(value for value in values if value is not None)


def _window(
    suite: Suite,
    name: str,
    view: str,
    window: Window | None,
    marks: dict[str, int | None],
    verdicts: dict[str, Verdict],
) -> dict[str, Any]:
    figures = {member.id: member for member in window.members} if window else {}
    return {
        "name": name,
        "view": view,
        "start": window.start if window else None,
        "end": window.end if window else None,
        "volume": window.volume if window else None,
        "suite": {
            "covered": _intervals(window.covered) if window else [],
            "flagged": _count(window.flagged if window else None),
            "unflagged": _count(window.unflagged if window else None),
            "answered": _count(window.answered if window else None),
            "recall": window.recall if window else None,
            "repaired": None,
        },
        "members": [
            _member(suite, each, figures.get(each), marks[each], verdicts.get(each)) for each in suite.members
        ],
    }


def _member(
    suite: Suite, name: str, figures: MemberFigures | None, mark: int | None, verdict: Verdict | None
) -> dict[str, Any]:
    spec = suite.members[name]
    reached = 0 if mark is None else mark - mark % suite.bucket
    return {
        "id": name,
        "stage": spec.stage,
        "owner": spec.owner,
        "watermark": mark,
        # A bucket without requests is covered by whoever has come that far, not by who never came.
        "covered": _intervals(figures.covered, reached) if figures else [],
        "scored": figures.scored if figures else None,
        "abstained": figures.abstained if figures else None,
        "errors": figures.errors if figures else None,
        "flagged": _count(figures.flagged if figures else None),
        "unique": _count(figures.unique if figures else None),
        "unique_recall": figures.unique_recall if figures else None,
        "overlap": figures.overlap if figures else {},
        "repaired": None,
        "verdict": verdict.document() if verdict else None,
    }


def _count(count: Count | None) -> dict[str, Any]:
    if count is None:
        return dict(_NOTHING)
    return {
        "n": count.n,
        "positive": count.positive,
        "negative": count.negative,
        "unlabelled": count.unlabelled,
        "precision": count.precision,
        "interval": None,
        "estimate": None,
    }


def _intervals(intervals: list[tuple[int, int]], until: int | None = None) -> list[list[int]]:
    cut = [[start, end if until is None else min(end, until)] for start, end in intervals]
    return [[start, end] for start, end in cut if start < end]
