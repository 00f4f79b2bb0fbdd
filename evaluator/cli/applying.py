"""`chorus members plan` and `apply`: the suite file against the registry, shown before it is done."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from evaluator.cli.registering import as_founded, may_approve, with_log, write
from members.registry.lifecycle import Registry
from members.registry.log import Conflict, RegistryLog
from members.registry.plan import NOTES, Change, plan
from streams.errors import ConfigError
from streams.settings import Settings
from streams.suite import Suite

_SIGNS = {
    "add": "[green]+", "describe": "[yellow]~", "deploy": "[green]↑", "back_to_shadow": "[red]↓",
    "withdraw": "[yellow]↓", "retire": "[red]-", "conflict": "[bold red]!", "wait": "[yellow]…",
    "drift": "[cyan]≠", "by_hand": "[cyan]·",
}  # fmt: skip


def show_plan(opened: tuple[Suite, Settings], *, json: bool) -> int:
    """Print the plan; 1 where something in it has to be resolved first."""

    async def job(log: RegistryLog) -> Registry:
        return log.registry

    registry = with_log(opened, job)
    changes = plan(opened[0], as_founded(opened[0], registry))
    if json:
        print(jsonlib.dumps(document(registry, changes)))
    else:
        if not registry.revision:
            print("nothing has been registered yet: apply founds the suite with the members of the file")
        show(changes, Console(soft_wrap=True))
    return 1 if any(change.what == "conflict" for change in changes) else 0


def run_apply(opened: tuple[Suite, Settings], *, who: str, why: str, yes: bool, json: bool) -> int:
    """Show the plan, ask, and carry it out. Raises ConfigError, Conflict, Unavailable."""
    if not yes and (json or not sys.stdin.isatty()):
        raise ConfigError("there is nobody to ask: look at `chorus members plan`, then give --yes")

    async def job(log: RegistryLog) -> int:
        declared = opened[0]
        registry = await log.found(declared, who, why)
        changes = plan(declared, registry)
        if not json:
            show(changes, Console(soft_wrap=True))
        acts = [change for change in changes if change.what not in NOTES]
        if conflicts := [change for change in changes if change.what == "conflict"]:
            told = "; ".join(f"{change.member} is {change.detail}" for change in conflicts)
            raise ConfigError(f"nothing was changed: {told}")
        if any(change.approves for change in acts):
            may_approve(declared, who)
        if acts and not yes and not _agreed():
            print("nothing was changed")
            return 1
        await carry_out(log, declared, acts, who=who, why=why)
        if json:
            print(jsonlib.dumps({**document(log.registry, changes), "applied": len(acts)}))
        elif acts:
            print(f"done; revision {log.registry.revision} of the suite")
        return 0

    return with_log(opened, job)


def _agreed() -> bool:
    return input("Make these changes? [y/N] ").strip().lower() in ("y", "yes")


async def carry_out(log: RegistryLog, declared: Suite, acts: Sequence[Change], *, who: str, why: str) -> None:
    """Make the changes that were shown. Raises Conflict.

    Where somebody else writes meanwhile, it goes on as long as what is left to do is still what was shown.
    """
    left, tried = list(acts), False
    while left:
        change = left[0]
        try:
            for kind, spec in change.steps:
                override = kind == "approved"
                more: dict[str, Any] = {"spec": spec, "declared": True, "override": override}
                await write(log, kind, change.member, who=who, why=why, **more)
        except Conflict as conflict:
            now = [each for each in plan(declared, log.registry) if each.what not in NOTES]
            if tried or now != left:
                raise Conflict(
                    f"{change.member} was not changed, {conflict}; {len(acts) - len(left)} of {len(acts)} "
                    "changes were made: look at `chorus members plan` again"
                ) from None
            tried = True
            continue
        left.pop(0)


def document(registry: Registry, changes: Sequence[Change]) -> dict[str, Any]:
    """What --json prints."""
    return {
        "revision": registry.revision,
        "changes": [
            {
                "what": change.what,
                "member": change.member,
                "detail": change.detail,
                "fields": {name: {"was": old, "is": new} for name, (old, new) in change.fields.items()},
                "events": [kind for kind, _ in change.steps],
            }
            for change in changes
        ],
    }


def show(changes: Sequence[Change], console: Console) -> None:
    """The diff, for people."""
    for change in changes:
        sign = _SIGNS[change.what]
        console.print(f"{sign}[/] {escape(change.member)}: {escape(change.detail)}", highlight=False)
        for name, (old, new) in change.fields.items():
            console.print(f"    {name}: {old!r} → {new!r}", highlight=False, markup=False)
    if not changes:
        console.print("the registry is as the suite file says")
