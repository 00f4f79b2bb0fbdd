"""`chorus members plan` and `apply`: the suite file against the registry, shown before it is done."""

from __future__ import annotations

import asyncio
import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from evaluator.cli.registering import as_founded, may_approve, nobody_left, with_log, write
from members.registry.lifecycle import Registry
from members.registry.log import Conflict, RegistryLog
from members.registry.plan import NOTES, Change, added, dangling, leaving, plan
from streams.errors import ConfigError
from streams.settings import Settings
from streams.suite import MemberSpec, Suite

_SIGNS = {
    "add": "[green]+", "describe": "[yellow]~", "deploy": "[green]↑", "back_to_shadow": "[red]↓",
    "withdraw": "[yellow]↓", "retire": "[red]-", "conflict": "[bold red]!", "wait": "[yellow]…",
    "drift": "[cyan]≠", "by_hand": "[cyan]·",
}  # fmt: skip


def tried(specs: Sequence[MemberSpec], suite: Path, declared: Suite) -> dict[str, str]:
    """Load and try each in a process of its own; member → what to say, for those that do not pass."""
    from members.loading import extend_path
    from members.trial import try_member

    async def run() -> dict[str, str]:
        found = {spec.id: await try_member(spec, declared.features) for spec in specs}
        all_the_same = "(--no-check registers it all the same)"
        return {name: f"{'; '.join(map(str, each))} {all_the_same}" for name, each in found.items() if each}

    extend_path(suite)
    return asyncio.run(run()) if specs else {}


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be done, and what speaks against it: member → why, and live members without whom nobody is
    left."""

    registry: Registry
    changes: list[Change]
    wrong: dict[str, str]
    leaving: list[str]

    @property
    def acts(self) -> list[Change]:
        """Those that write something."""
        return _acts(self.changes)

    @property
    def conflicts(self) -> dict[str, str]:
        return {each.member: each.detail for each in self.changes if each.what == "conflict"}


def _acts(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if change.what not in NOTES]


def look(opened: tuple[Suite, Settings], suite: Path, *, check: bool) -> Planned:
    """Plan, and try what is new; nothing is written. Raises Unavailable."""

    async def job(log: RegistryLog) -> Registry:
        return log.registry

    declared, registry = opened[0], with_log(opened, job)
    there = as_founded(declared, registry)
    changes = plan(declared, there)
    found = tried(added(changes), suite, declared) if check else {}
    wrong = {name: f"{name} does not pass the check, {told}" for name, told in found.items()}
    wrong |= dangling(changes, declared, there)
    return Planned(registry, changes, wrong, leaving(changes, there))


def show_plan(opened: tuple[Suite, Settings], suite: Path, *, check: bool, json: bool) -> int:
    """Print the plan; 1 where something in it has to be resolved first."""
    planned = look(opened, suite, check=check)
    if json:
        print(jsonlib.dumps(document(planned.registry, planned)))
    else:
        if not planned.registry.revision:
            print("nothing has been registered yet: apply founds the suite with the members of the file")
        show(planned, Console(soft_wrap=True))
    return 1 if planned.conflicts or planned.wrong or planned.leaving else 0


def run_apply(
    opened: tuple[Suite, Settings],
    suite: Path,
    *,
    who: str,
    why: str,
    yes: bool,
    check: bool,
    force: bool,
    json: bool,
) -> int:
    """Show the plan, ask, and carry it out. Raises ConfigError, Conflict, Unavailable.

    It asks while nothing is open. What was shown is what is done: where the registry has changed meanwhile so
    that something else would be to do, nothing is.
    """
    if not yes and (json or not sys.stdin.isatty()):
        raise ConfigError("there is nobody to ask: look at `chorus members plan`, then give --yes")
    declared = opened[0]
    planned = look(opened, suite, check=check)
    if not json:
        show(planned, Console(soft_wrap=True))
    _refuse(planned, force)
    if any(change.approves for change in planned.acts):
        may_approve(declared, who)
    if planned.acts and not yes and not _agreed():
        print("nothing was changed")
        return 1

    async def job(log: RegistryLog) -> Registry:
        registry = await log.found(declared, who, why)
        if _acts(plan(declared, registry)) != planned.acts:
            raise Conflict(
                "nothing was changed: the registry is not what it was when this was shown; look at `chorus "
                "members plan` again"
            )
        await carry_out(log, declared, planned.acts, who=who, why=why, force=force)
        return log.registry

    registry = with_log(opened, job)
    if json:
        print(jsonlib.dumps({**document(registry, planned), "applied": len(planned.acts)}))
    elif planned.acts:
        print(f"done; revision {registry.revision} of the suite")
    return 0


def _refuse(planned: Planned, force: bool) -> None:
    """Raises Conflict where something speaks against it."""
    told = [f"{name} is {detail}" for name, detail in planned.conflicts.items()]
    told += planned.wrong.values()
    if planned.leaving and not force:
        told.append(nobody_left(planned.leaving))
    if told:
        raise Conflict(f"nothing was changed: {'; '.join(told)}")


def _agreed() -> bool:
    try:
        return input("Make these changes? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False


async def carry_out(
    log: RegistryLog, declared: Suite, acts: Sequence[Change], *, who: str, why: str, force: bool
) -> None:
    """Make the changes that were shown. Raises Conflict.

    Where somebody else writes meanwhile, it goes on as long as what is left to do is still what was shown.
    """
    left, again = list(acts), False
    while left:
        change = left[0]
        try:
            for kind, spec in change.steps:
                override = kind == "approved"
                more: dict[str, Any] = {"spec": spec, "declared": True, "override": override, "force": force}
                await write(log, kind, change.member, who=who, why=why, **more)
        except Conflict as conflict:
            now = _acts(plan(declared, log.registry))
            if again or now != left:
                raise Conflict(
                    f"{change.member} was not changed, {conflict}; {len(acts) - len(left)} of {len(acts)} "
                    "changes were made: look at `chorus members plan` again"
                ) from None
            again = True
            continue
        again = False
        left.pop(0)


def document(registry: Registry, planned: Planned) -> dict[str, Any]:
    """What --json prints."""
    return {
        "revision": registry.revision,
        "leaves_nobody": bool(planned.leaving),
        "changes": [
            {
                "what": change.what,
                "member": change.member,
                "detail": change.detail,
                "fields": {name: {"was": old, "is": new} for name, (old, new) in change.fields.items()},
                "events": [kind for kind, _ in change.steps],
                "problem": planned.wrong.get(change.member),
            }
            for change in planned.changes
        ],
    }


def show(planned: Planned, console: Console) -> None:
    """The diff, for people."""
    for change in planned.changes:
        sign = _SIGNS[change.what]
        console.print(f"{sign}[/] {escape(change.member)}: {escape(change.detail)}", highlight=False)
        for name, (old, new) in change.fields.items():
            console.print(f"    {name}: {old!r} → {new!r}", highlight=False, markup=False)
        if problem := planned.wrong.get(change.member):
            console.print(f"    [bold red]![/] {escape(problem)}", highlight=False)
    if planned.leaving:
        console.print(f"[bold red]![/] {escape(nobody_left(planned.leaving))}", highlight=False)
    if not planned.changes:
        console.print("the registry is as the suite file says")
