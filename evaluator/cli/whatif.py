"""`chorus what-if`: what any other suite would have done, from the stored patterns, exact and at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from evaluator.history import History
from evaluator.render import NOTHING_YET, number, percent, ratio
from evaluator.status import status_of
from evaluator.whatif import Effect, Histogram, change, histogram, order, redundancy, shapley
from evaluator.windows import Count
from streams.connect import ping_redis, redis_client
from streams.errors import ConfigError
from streams.settings import Settings
from streams.suite import Suite
from streams.times import format_time


def resolve(suite: Suite, names: Sequence[str]) -> list[str]:
    """Member ids of names given with or without version. Raises ConfigError for none or several."""
    out = []
    for name in names:
        found = [id_ for id_ in suite.members if id_ == name or id_.partition("@")[0] == name]
        if len(found) != 1:
            known = ", ".join(found or suite.members)
            what = "is several members" if found else "is not a member of this suite"
            raise ConfigError(f"{name} {what}: name one of {known}")
        out.append(found[0])
    return out


async def read_what_if(
    suite: Suite, settings: Settings, add: Sequence[str], drop: Sequence[str], window: str | None, view: str
) -> dict[str, Any]:
    """The document that --json prints; `add`, `drop`: ids, or names. Raises ConfigError, Unavailable."""
    client = redis_client(settings.redis)
    try:
        await ping_redis(client, settings.redis)
        history = History(client, suite.name)
        await history.refresh()
        status = status_of(suite, history, settings.host.leap)
        suite = history.current(suite)
        add, drop = resolve(suite, add), resolve(suite, drop)
    finally:
        await client.aclose()
    name = window or (suite.windows[-1] if suite.windows else "")
    for candidate in status["windows"]:
        if candidate["name"] == name and candidate["view"] == view:
            break
    else:
        raise ConfigError(f"there is no window {name} {view}: the suite file has {', '.join(suite.windows)}")
    start, end = candidate["start"], candidate["end"]
    ids = list(dict.fromkeys([*suite.live, *add, *drop, *suite.shadow]))
    involved = list(dict.fromkeys([*suite.live, *add, *drop]))
    cells = history.cells(ids)
    if end is None:
        start = end = 0
    changed = histogram(cells, involved, start, end, suite.policy.block)
    every = histogram(cells, ids, start, end, suite.policy.block)
    return {
        "suite": suite.name,
        "window": {"name": name, "view": view, "start": candidate["start"], "end": candidate["end"]},
        **_change(changed, suite, add, drop),
        "order": [
            {**asdict(step), "unique": _count(step.unique)}
            for step in order(every, suite.shadow, suite.live, suite.policy.floor or 0.0)
        ],
        "recall_shares": shapley(every, suite.live),
        "redundancy": [_redundancy(every, suite, member) for member in ids],
    }


def _change(h: Histogram, suite: Suite, add: Sequence[str], drop: Sequence[str]) -> dict[str, Any]:
    now, then = change(h, suite.live, add, drop)
    before, after = h.fired(now.members), h.fired(then.members)
    return {
        "now": _effect(now),
        "then": _effect(then),
        "gained": _count(_sum(h, after & ~before)),
        "lost": _count(_sum(h, before & ~after)),
    }


def _redundancy(h: Histogram, suite: Suite, member: str) -> dict[str, Any]:
    found = redundancy(h, member, [*suite.live, *([] if member in suite.live else [member])])
    return {"member": member, **asdict(found), "own_share": found.own_share}


def _sum(h: Histogram, rows: Any) -> Count:
    if not h.known:
        return Count(None, None, None)
    return Count(int(h.n[rows].sum()), int(h.positive[rows].sum()), int(h.negative[rows].sum()))


def _count(count: Count) -> dict[str, Any]:
    return {**asdict(count), "unlabelled": count.unlabelled, "precision": count.precision}


def _effect(effect: Effect) -> dict[str, Any]:
    return {**asdict(effect), "flagged": _count(effect.flagged)}


def show(document: dict[str, Any], console: Console | None = None) -> None:
    """Print it as tables."""
    (console or Console()).print(Group(*_parts(document)))


def _parts(document: dict[str, Any]) -> list[RenderableType]:
    window = document["window"]
    if window["start"] is None:
        return [Text(NOTHING_YET)]
    span = f"{format_time(window['start'])} to {format_time(window['end'])}"
    suites = Table("", "flagged", "precision", "", "recall", "", box=None, header_style="bold underline")
    for title in ("now", "then"):
        effect = document[title]
        suites.add_row(
            f"{title}: {', '.join(effect['members']) or 'nobody'}",
            number(effect["flagged"]["n"]),
            ratio(effect["precision"]),
            _band(effect["precision_interval"]),
            ratio(effect["recall"]),
            _band(effect["recall_interval"]),
        )
    gained, lost = document["gained"], document["lost"]
    lines: list[RenderableType] = [
        Text(f"{window['name']} {window['view']}, {span}", style="dim"),
        suites,
        Text(f"gained: {number(gained['n'])} requests, precision {ratio(gained['precision'])}"),
        Text(f"lost:   {number(lost['n'])} requests, precision {ratio(lost['precision'])}"),
    ]
    for at, step in enumerate(document["order"], 1):
        lines.append(
            Text(
                f"{at}. promote {step['member']}: unique precision {ratio(step['unique']['precision'])} "
                f"against {ratio(step['overall'])}; then recall {ratio(step['recall'])}"
            )
        )
    shares = document["recall_shares"]
    if shares:
        lines.append(Text("shares of recall: " + ", ".join(f"{k} {percent(v)}" for k, v in shares.items())))
    return lines


def _band(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
