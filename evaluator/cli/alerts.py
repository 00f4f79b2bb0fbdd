"""`chorus alerts`: what is firing now, and what happened last, from the topic `alerts` itself."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from evaluator.cli.options import Json, Servers, SuiteFile, open_suite

if TYPE_CHECKING:
    from evaluator.alerting.alert import Alert

SCHEMA = 1


def alerts(
    *,
    suite: SuiteFile,
    bootstrap_servers: Servers = None,
    last: Annotated[
        int, Parameter(help="How many of the last events to show.", validator=Number(gte=0))
    ] = 10,
    json: Json = False,
) -> int:
    """Show which alerts fire now, and the last events."""
    from evaluator.alerting.reading import read_alerts

    declared, settings = open_suite(suite, bootstrap_servers)
    name = declared.name
    document = alerts_document(name, asyncio.run(read_alerts(settings.kafka, name)), last)
    if json:
        print(jsonlib.dumps(document))
        return 0
    from rich.console import Console

    Console().print(*_tables(document), sep="\n")
    return 0


def alerts_document(suite: str, found: Iterable[Alert], last: int) -> dict[str, Any]:
    """What `--json` prints: `firing`, the longest first, and `events`, oldest first."""
    from evaluator.alerting.conditions import still_firing

    found = list(found)
    unique = list({alert.id: alert for alert in found}.values())
    return {
        "schema": SCHEMA,
        "suite": suite,
        "firing": [{**_row(alert), "since": since} for alert, since in still_firing(found)],
        "events": [_row(alert) for alert in unique[max(0, len(unique) - last) :]],
    }


def _row(alert: Alert) -> dict[str, Any]:
    from evaluator.alerting.wording import description, severity, summary

    return {
        "id": alert.id,
        "type": alert.type,
        "subject": alert.subject,
        "status": None if alert.notice else alert.status,
        "severity": severity(alert),
        "time": alert.time,
        "summary": summary(alert),
        "description": description(alert),
        "fingerprint": alert.fingerprint,
    }


def _tables(document: dict[str, Any]) -> list[Any]:
    from rich.text import Text

    from evaluator.cli.looks import plain_table

    firing, events = document["firing"], document["events"]
    now = plain_table("since (UTC)", "severity", "what", "why", whole=("since (UTC)", "severity"))
    for row in firing:
        cells = (_when(row["since"]), row["severity"], row["summary"], row["description"])
        now.add_row(*(Text(cell) for cell in cells))
    past = plain_table("time (UTC)", "status", "severity", "what", whole=("time (UTC)", "status", "severity"))
    for row in reversed(events):
        cells = (_when(row["time"]), row["status"] or "notice", row["severity"], row["summary"])
        past.add_row(*(Text(cell) for cell in cells))
    title = Text(f"{document['suite']}: {'firing' if firing else 'nothing is firing'}", style="bold")
    out = [title, *([now] if firing else [])]
    return [*out, Text(), Text("the last events, the latest first", style="bold"), past] if events else out


def _when(text: str) -> str:
    from evaluator.cli.looks import moment
    from streams.times import parse_time

    return moment(parse_time(text))
