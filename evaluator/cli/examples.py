"""`chorus examples`: what only one member flagged, as a table, a document or JSONL."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from evaluator.cli.looks import moment, plain_table
from evaluator.cli.whatif import resolve
from evaluator.examples.contrast import telling
from evaluator.examples.read import SCHEMA, Example, Which, read_examples, which
from evaluator.history import History
from evaluator.render import NOTHING_YET
from streams.connect import ping_redis, redis_client
from streams.errors import ConfigError
from streams.settings import Settings
from streams.suite import Suite

_COLUMNS = 5  # features in the table
_WIDE = 24  # characters of one value
_LABELS = {True: "true", False: "false", None: "–"}


def one_of(false: bool, true: bool, unlabelled: bool) -> Which | None:
    """Which label is asked for; None for any. Raises ConfigError for several."""
    asked: list[Which] = []
    for name, given in (("false", false), ("true", true), ("unlabelled", unlabelled)):
        if given:
            asked.append(name)  # type: ignore[arg-type]
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} exclude each other: choose one, or none for all")
    return asked[0] if asked else None


def run(
    suite: Suite,
    settings: Settings,
    name: str,
    wanted: Which | None,
    limit: int | None,
    *,
    as_json: bool,
    jsonl: str | None,
) -> int:
    """The command; `limit` None: 20, or all of them for `jsonl`. Raises ConfigError, Unavailable."""
    member, kept = asyncio.run(read(suite, settings, name))
    found = document(suite, member, kept or [], wanted, limit or (0 if jsonl else 20))
    if as_json:
        print(json.dumps(found))
    elif jsonl:
        write_jsonl(found["examples"], jsonl)
    elif found["examples"]:
        show(found)
    else:
        print(nothing(kept, member, wanted, settings.examples.per_day))
    return 0


async def read(suite: Suite, settings: Settings, name: str) -> tuple[str, list[Example] | None]:
    """The id of the member with this name or id, and its examples; None where the suite has no store yet.

    Raises ConfigError, Unavailable.
    """
    client = redis_client(settings.redis)
    try:
        await ping_redis(client, settings.redis)
        history = History(client, suite.name)
        there = await history.refresh(buckets=False)
        suite = history.current(suite)
        (member,) = resolve(suite, [name])
        return member, await read_examples(suite, settings, history, member) if there else None
    finally:
        await client.aclose()


def document(
    suite: Suite, member: str, examples: Sequence[Example], wanted: Which | None, limit: int
) -> dict[str, Any]:
    """What --json prints. limit 0: all of them."""
    chosen = which(examples, wanted)
    rest = [example for example in examples if example.label is not None and example not in chosen]
    return {
        "schema": SCHEMA,
        "suite": suite.name,
        "member": member,
        "counts": {name: len(which(examples, name)) for name in ("true", "false", "unlabelled")},
        "telling": telling(_features(chosen), _features(rest), list(suite.features)),
        "examples": [example.row(member) for example in chosen[: limit or None]],
    }


def _features(examples: Iterable[Example]) -> list[dict[str, Any]]:
    return [example.features for example in examples if example.features is not None]


def nothing(examples: Sequence[Example] | None, member: str, wanted: Which | None, per_day: int) -> str:
    """The sentence for where there is nothing to show."""
    if examples is None:
        return NOTHING_YET
    if not examples and not per_day:
        return "no examples are kept: set CHORUS_EXAMPLES__PER_DAY for the evaluators"
    if not examples:
        return f"no request is kept yet that {member} alone flagged"
    counts = ", ".join(f"{len(which(examples, name))} {name}" for name in ("true", "false", "unlabelled"))
    return f"none of the requests kept that {member} alone flagged is {wanted} now ({counts})"


def write_jsonl(rows: Sequence[dict[str, Any]], file: str) -> None:
    """One row per line into a file, or on standard output for ``-``. Raises ConfigError."""
    if file == "-":
        for row in rows:
            print(json.dumps(row))
        return
    try:
        with open(file, "w", encoding="utf-8") as out:
            for row in rows:
                out.write(json.dumps(row) + "\n")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from None
    print(f"{len(rows)} examples are in {file}", file=sys.stderr)


def show(found: dict[str, Any], console: Console | None = None) -> None:
    """Print the document as a table: the features first in which these differ most from the others."""
    counts = found["counts"]
    names = found["telling"][:_COLUMNS]
    table = plain_table("time (UTC)", "request", "label", *names, whole=("time (UTC)", "label"))
    for row in found["examples"]:
        if row["features"] is None:
            cells = ["gone from Kafka" if row["gone"] else "not read yet"] + [""] * (len(names) - 1)
            cells = cells[: len(names)]
        else:
            cells = [_short(row["features"].get(name)) for name in names]
        table.add_row(moment(row["time"]), row["request_id"], _LABELS[row["label"]], *cells)
    head = (
        f"flagged by {found['member']} and by no other live member, a sample: "
        f"{counts['true']} true, {counts['false']} false, {counts['unlabelled']} unlabelled"
    )
    (console or Console()).print(Text(head, style="dim"), table)


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDE else text[: _WIDE - 1] + "…"
