"""`chorus members`: the registry as people change it."""

from __future__ import annotations

import json as jsonlib
import tomllib
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import ValidationError

from evaluator.cli import applying
from evaluator.cli.history import lines
from evaluator.cli.history import table as history_table
from evaluator.cli.looks import moment, plain_table
from evaluator.cli.options import Json, Servers, SuiteFile, open_suite
from evaluator.cli.registering import (
    As,
    Force,
    Member,
    Reason,
    as_founded,
    decide,
    resolve,
    tell,
    with_log,
    write,
    writer,
)
from members.registry.events import Kind
from members.registry.lifecycle import Entry, Registry, State
from members.registry.log import Conflict, RegistryLog
from members.registry.plan import not_there
from streams.errors import ChorusError, ConfigError
from streams.suite import MemberSpec, Suite
from streams.times import format_time

app = App(name="members", help="Who is registered, and in which state; add, change, retire.")

Check = Annotated[
    bool, Parameter(name="--check", help="Load and try what is new on this machine before it is registered.")
]
Text = str | None


@app.command
def plan(
    *, suite: SuiteFile, check: Check = True, bootstrap_servers: Servers = None, json: Json = False
) -> int:
    """Show what `apply` would change; nothing is written. It ends with 1 where `apply` would refuse."""
    return applying.show_plan(open_suite(suite, bootstrap_servers), suite, check=check, json=json)


@app.command
def apply(
    *,
    suite: SuiteFile,
    reason: Reason,
    yes: Annotated[bool, Parameter(negative="", help="Make the changes without asking.")] = False,
    check: Check = True,
    force: Force = False,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Make the registry what the suite file says: shows the changes, asks, and makes them."""
    opened = open_suite(suite, bootstrap_servers)
    more: Any = {"yes": yes, "check": check, "force": force, "json": json}
    return applying.run_apply(opened, suite, who=writer(who), why=reason, **more)


@app.command
def add(
    member: Annotated[str, Parameter(help="name@version: a new one, or one of the suite file.")],
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    loader: Annotated[
        Text, Parameter(help="Its class, package.module:Class; by default what the suite file says.")
    ] = None,
    owner: Annotated[Text, Parameter(help="Who is responsible for it.")] = None,
    param: Annotated[
        list[str] | None,
        Parameter(negative="", help="An argument of its class, name=value; may be given again."),
    ] = None,
    replaces: Annotated[
        Text, Parameter(help="name@version of the member that goes out when this one goes live.")
    ] = None,
    trained_through: Annotated[
        Text, Parameter(help="Up to when its training data reach, ISO 8601; a backfill needs it.")
    ] = None,
    threshold: Annotated[
        float | None, Parameter(help="It votes True where its score is at least this.")
    ] = None,
    isolate: Annotated[bool, Parameter(negative="", help="Give it a process of its own.")] = False,
    budget_ms: Annotated[
        float | None, Parameter(help="Wall time that one vote may take, in ms; 50 by default.")
    ] = None,
    team: Annotated[Text, Parameter(help="Which team it belongs to.")] = None,
    contact: Annotated[Text, Parameter(help="Where to ask about it.")] = None,
    description: Annotated[Text, Parameter(help="One sentence: when it says True.")] = None,
    data_version: Annotated[Text, Parameter(help="What it was trained on.")] = None,
    tag: Annotated[
        list[str] | None, Parameter(negative="", help="A word to find it by; may be given again.")
    ] = None,
    check: Check = True,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Deploy a candidate in shadow: it is tried here, registered, and scored by the shadow hosts."""
    opened = open_suite(suite, bootstrap_servers)
    given = {
        "loader": loader, "owner": owner, "params": _params(param or []) if param else None,
        "replaces": replaces, "trained_through": trained_through, "threshold": threshold,
        "isolate": isolate or None, "budget_ms": budget_ms, "team": team, "contact": contact,
        "description": description, "data_version": data_version, "tags": tag,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    name, at, version = member.partition("@")
    declared = opened[0].members.get(member)
    if declared is not None and not given:
        spec = declared.model_copy(update={"stage": "shadow"})
    elif declared is not None:
        raise ConfigError(f"{member} stands in the suite file: add it without options, or as another version")
    elif not (name and at and version):
        raise ConfigError(f"{member}: write it as name@version")
    elif loader is None or owner is None:
        raise ConfigError(f"{member} is not in the suite file: name its --loader and its --owner")
    else:
        spec = _spec({"name": name, "version": version, **given})
    return _register(spec, suite, opened, reason, writer(who), check, json, from_file=declared is not None)


@app.command
def sharpen(
    member: Member,
    /,
    *,
    suite: SuiteFile,
    threshold: Annotated[float, Parameter(help="It votes True where its score is at least this.")],
    version: Annotated[str, Parameter(help="What the new version is called.")],
    reason: Reason,
    check: Check = True,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Add a member once more with another threshold, as a shadow candidate that is to replace it."""
    opened, name = open_suite(suite, bootstrap_servers), writer(who)

    async def job(log: RegistryLog) -> MemberSpec:
        registry = await log.found(opened[0], name)
        return registry.entries[resolve(registry, member)].spec

    old = with_log(opened, job)
    again = {"version": version, "threshold": threshold, "replaces": old.id, "stage": "shadow"}
    spec = _spec({**old.model_dump(), **again})
    return _register(spec, suite, opened, reason, name, check, json)


@app.command(name="list")
def list_(
    *,
    suite: SuiteFile,
    state: Annotated[State | None, Parameter(help="Only those in this state.")] = None,
    all: Annotated[bool, Parameter(negative="", help="Also those that are retired.")] = False,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """List the members: in which state, since when, by whom and why."""
    opened = open_suite(suite, bootstrap_servers)

    async def job(log: RegistryLog) -> Registry:
        return log.registry

    registry = as_founded(opened[0], with_log(opened, job))
    wanted = {
        name: entry
        for name, entry in registry.entries.items()
        if (entry.state == state if state else all or entry.state != "retired")
    }
    if json:
        documents = [member_document(name, entry) for name, entry in wanted.items()]
        print(jsonlib.dumps({"suite": opened[0].name, "revision": registry.revision, "members": documents}))
        return 0
    from rich.console import Console
    from rich.markup import escape

    out = plain_table("member", "state", "since (UTC)", "by", "why", "owner", whole=("since (UTC)", "state"))
    for name, entry in wanted.items():
        cells = (name, entry.state, moment(entry.since), entry.who, entry.why, entry.spec.owner)
        out.add_row(*(escape(cell) for cell in cells))
    Console(soft_wrap=True).print(out)
    return 0


@app.command
def show(
    member: Member, /, *, suite: SuiteFile, bootstrap_servers: Servers = None, json: Json = False
) -> int:
    """Show one member: what it is, its state, and everything that was ever decided about it."""
    opened = open_suite(suite, bootstrap_servers)

    async def job(log: RegistryLog) -> tuple[str, Entry, list[dict[str, Any]]]:
        registry = as_founded(opened[0], log.registry)
        found = resolve(registry, member)
        return found, registry.entries[found], list(lines(log.recorded, member=found))

    found, entry, events = with_log(opened, job)
    document = {**member_document(found, entry), "events": events}
    if json:
        print(jsonlib.dumps(document))
        return 0
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(f"[bold]{found}[/] is {entry.state} since {moment(entry.since)} (UTC)", highlight=False)
    console.print(f"by {entry.who}: {entry.why}", highlight=False, markup=False)
    for name, value in document["spec"].items():
        if name != "stage" and value not in ([], {}, False):  # its state stands above
            told = format_time(value) if name == "trained_through" else repr(value)
            console.print(f"  {name} = {told}", highlight=False, markup=False)
    console.print(history_table(events))
    return 0


@app.command
def retire(
    member: Member,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    force: Force = False,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Take a member out for good: hosts drop it, its history stays."""
    return _change("retired", member, suite, reason, who, bootstrap_servers, json, force)


@app.command
def back_to_shadow(
    member: Member,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    force: Force = False,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Take a live member out of the OR, or bring a retired one back: it scores, and nothing acts on it."""
    return _change("back_to_shadow", member, suite, reason, who, bootstrap_servers, json, force)


def _change(
    kind: Kind,
    member: str,
    suite: Path,
    reason: str,
    who: str | None,
    servers: str | None,
    json: bool,
    force: bool,
) -> int:
    opened, name = open_suite(suite, servers), writer(who)
    done = decide(kind, opened, name, reason, lambda log: resolve(log.registry, member), force=force)
    return tell(*done, json=json)


def _register(
    spec: MemberSpec,
    suite: Path,
    opened: tuple[Suite, Any],
    reason: str,
    who: str,
    check: bool,
    json: bool,
    *,
    from_file: bool = False,
) -> int:
    if check:
        _check(spec, suite, opened[0])

    async def job(log: RegistryLog) -> tuple[str, Registry, Registry]:
        before = await log.found(opened[0], who)
        if spec.replaces is not None and spec.replaces not in before.entries:
            raise Conflict(not_there(spec))
        entry = before.entries.get(spec.id)
        if entry is not None and entry.state != "retired":
            raise Conflict(f"{spec.id} is registered, and {entry.state}: give it another version")
        after = await write(
            log, "added", spec.id, who=who, why=reason, again=True, spec=spec, declared=from_file
        )
        return spec.id, before, after

    return tell(*with_log(opened, job), json=json)


def _check(spec: MemberSpec, suite: Path, declared: Suite) -> None:
    """Load it and try it, in a process of its own. Raises ChorusError with what was found."""
    for told in applying.tried([spec], suite, declared).values():
        raise ChorusError(f"{spec.id} is not registered, {told}")


def _spec(fields: dict[str, Any]) -> MemberSpec:
    try:
        return MemberSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where + ': ' if where else ''}{told}") from None


def _params(given: list[str]) -> dict[str, Any]:
    """``above=0.8`` → {"above": 0.8}; what is no TOML value is a text."""
    out: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not name or not equals:
            raise ConfigError(f"--param {each}: write it as name=value")
        try:
            out[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            out[name] = text
    return out


def member_document(name: str, entry: Entry) -> dict[str, Any]:
    """What --json prints of a member; instants in ms."""
    kept = entry.model_dump(mode="json", exclude={"spec"})
    return {"id": name, **kept, "spec": entry.spec.model_dump(mode="json", exclude_none=True)}
