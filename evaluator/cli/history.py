"""`chorus history`: who changed what, when and why, and which suite it made."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from evaluator.cli.looks import moment, plain_table
from evaluator.cli.options import Json, Servers, SuiteFile, open_suite
from evaluator.cli.registering import resolve, with_log
from members.registry.lifecycle import Registry, fold
from members.registry.log import Recorded, RegistryLog
from streams.errors import BadRecord


def history(
    member: Annotated[
        str | None, Parameter(help="name@version, or the name where it has one version; all by default.")
    ] = None,
    /,
    *,
    suite: SuiteFile,
    all: Annotated[
        bool,
        Parameter(
            negative="",
            help="Also what was ignored, and why, and what evaluators and hosts note for themselves.",
        ),
    ] = False,
    limit: Annotated[
        int | None, Parameter(help="Only the latest ones, so many.", validator=Number(gte=1))
    ] = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Show every change of the suite: when, who, what, why, and the revision after it."""
    opened = open_suite(suite, bootstrap_servers)

    async def job(log: RegistryLog) -> list[dict[str, Any]]:
        name = resolve(log.registry, member) if member else None
        bad = [] if name or not all else [_bad(record, error) for record, error in log.bad]
        return [*lines(log.recorded, member=name, all=all), *bad]

    found = sorted(with_log(opened, job), key=lambda line: int(line["offset"]))
    found = found[-limit:] if limit else found
    if json:
        for line in found:
            print(jsonlib.dumps(line))
        return 0
    if not found:
        print("nothing has been registered yet" if member is None else "nothing is known of it")
        return 0
    from rich.console import Console

    Console(soft_wrap=True).print(table(found))
    return 0


def lines(
    recorded: Iterable[Recorded], *, member: str | None = None, all: bool = False
) -> Iterator[dict[str, Any]]:
    """One document per event: what --json prints. member: only what changed this one."""
    registry = Registry()
    for each in recorded:
        before, event = registry, each.event
        registry, ignored = fold(before, each.offset, event)
        if not all and (ignored is not None or event.kind in ("serving", "noticed")):
            continue
        moved = {
            name: entry.state
            for name, entry in registry.entries.items()
            if name not in before.entries or before.entries[name].state != entry.state
        }
        if member is not None and member != event.member and member not in moved:
            continue
        yield {
            "offset": each.offset,
            "at": event.at,
            "who": event.who,
            "kind": event.kind,
            "member": event.member or None,
            "why": event.why,
            "moved": moved,
            "override": event.override,
            "deployment": event.deployment or None,
            "by": event.by or None,
            "watermark": event.watermark,
            "suite_precision": event.suite_precision,
            "evidence": event.evidence,
            "revision": registry.revision,
            "live": list(registry.live) if registry.revision != before.revision else None,
            "ignored": ignored,
        }


def _bad(record: Any, error: BadRecord) -> dict[str, Any]:
    keys = (
        "at",
        "who",
        "kind",
        "member",
        "why",
        "deployment",
        "by",
        "watermark",
        "suite_precision",
        "evidence",
        "revision",
        "live",
    )
    nothing = dict.fromkeys(keys)
    newer = error.reason == "newer_event"
    ignored = error.detail if newer else f"not an event of the registry: {error}"
    return {"offset": record.offset, **nothing, "moved": {}, "override": False, "ignored": ignored}


def table(found: Iterable[dict[str, Any]]) -> Any:
    """For people."""
    from rich.markup import escape

    out = plain_table("when (UTC)", "who", "what", "rev.", "why", whole=("when (UTC)", "rev."))
    for line in found:
        kind = (line["kind"] or "?").replace("_", " ")
        kind += " (override)" if line["override"] else ""
        others = [f"{name} {state}" for name, state in line["moved"].items() if name != line["member"]]
        what = f"{line['member'] or ''} {kind}".strip() + (f"; {', '.join(others)}" if others else "")
        if line["suite_precision"] is not None:
            what += f"; the suite's precision is {line['suite_precision']:.3f}"
        why = line["why"] or ""
        if line["ignored"] is not None:
            why = f"IGNORED, {line['ignored']}" + (f" ({why})" if why else "")
        cells = (
            moment(line["at"]) if line["at"] is not None else "",
            line["who"] or "",
            what,
            str(line["revision"] if line["revision"] is not None else ""),
            why,
        )
        out.add_row(
            *(escape(cell) for cell in cells),
            style="dim" if line["ignored"] is not None else None,
        )
    return out
