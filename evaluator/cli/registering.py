"""What the commands on the registry share: who, why, which member, and one event at a time."""

from __future__ import annotations

import asyncio
import getpass
import json as jsonlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter
from pydantic import ValidationError

from evaluator.promotion.steps import WHO
from members.registry.events import Kind
from members.registry.lifecycle import Registry, draft, fold
from members.registry.log import Conflict, RegistryLog
from streams.errors import ChorusError, ConfigError
from streams.settings import Settings
from streams.suite import Suite

Reason = Annotated[str, Parameter(name="--reason", help="Why, in your own words; it is kept for ever.")]
As = Annotated[str | None, Parameter(name="--as", help="In whose name; by default your user and this host.")]
Member = Annotated[str, Parameter(help="name@version, or the name where it has one version.")]
Force = Annotated[
    bool,
    Parameter(
        name="--force", negative="", help="Even where nobody is left in the OR: every answer is False then."
    ),
]

_T = TypeVar("_T")


def writer(who: str | None) -> str:
    """Who writes: `who`, or the user of this machine. Raises ConfigError for no name of a person."""
    if who is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = f"uid-{os.getuid()}"
        return f"{user}@{socket.gethostname()}"
    if not who.strip() or who.strip() == WHO:
        raise ConfigError(f"--as {who!r}: {WHO} is what evaluators write as; give a name of your own")
    return who.strip()


def may_approve(declared: Suite, who: str) -> None:
    """Raises ChorusError for one whom policy.approvers does not name."""
    approvers = declared.policy.approvers
    if approvers and who not in approvers:
        raise ChorusError(f"{who} may not approve: policy.approvers names {', '.join(approvers)} (see --as)")


def with_log(opened: tuple[Suite, Settings], job: Callable[[RegistryLog], Awaitable[_T]]) -> _T:
    """Run `job` on the registry's log, read to its end. Raises Unavailable."""

    async def run() -> _T:
        declared, settings = opened
        async with RegistryLog(settings.kafka, declared.name, keep=True, quiet=True) as log:
            return await job(log)

    return asyncio.run(run())


def as_founded(declared: Suite, registry: Registry) -> Registry:
    """The registry, or what founding it from the suite file would make of it; nothing is written."""
    if registry.revision:
        return registry
    event = draft(registry, "founded", "", who="-", why="-", at=now(), members=list(declared.member))
    return fold(registry, registry.applied, event)[0]


def now() -> int:
    return time.time_ns() // 1_000_000


def resolve(registry: Registry, name: str) -> str:
    """The id of a member given with or without version. Raises ConfigError for none or several."""
    if name in registry.entries:
        return name
    found = [each for each in registry.entries if each.partition("@")[0] == name]
    active = [each for each in found if registry.entries[each].state != "retired"]
    found = active if len(active) == 1 else found
    if len(found) != 1:
        what = "is several members" if found else "is not registered"
        raise ConfigError(f"{name} {what}: name one of {', '.join(found or registry.entries) or 'none'}")
    return found[0]


async def write(
    log: RegistryLog,
    kind: Kind,
    member: str,
    *,
    who: str,
    why: str,
    again: bool = False,
    force: bool = False,
    **more: Any,
) -> Registry:
    """Write one event. What would be ignored is not written. Raises Conflict, ConfigError, Unavailable.

    again: whether to try once more on the registry as it is by then, where somebody else was first.
    force: also where nobody would be left in the OR.
    """
    while True:
        try:
            event = draft(log.registry, kind, member, who=who, why=why, at=now(), **more)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["loc"][0] == "why" and not str(first["input"]).strip():
                raise ConfigError("--reason is empty: say why; it is kept for ever") from None
            option = {"why": "--reason", "who": "--as"}.get(str(first["loc"][0]), str(first["loc"][0]))
            raise ConfigError(f"{option}: {first['msg']}") from None
        then, ignored = fold(log.registry, log.registry.applied, event)
        if ignored is not None:
            raise Conflict(ignored)
        if log.registry.live and not then.live and not force:
            raise Conflict(nobody_left([member]))
        try:
            return await log.append(event)
        except Conflict:
            if not again:
                raise
            again = False


def nobody_left(members: Sequence[str]) -> str:
    """Why these may not leave the OR just so."""
    return (
        f"without {', '.join(members)} nobody is left in the OR, and every answer would be False: put "
        "another member in first, or give --force"
    )


def decide(
    kind: Kind,
    opened: tuple[Suite, Settings],
    who: str,
    why: str,
    choose: Callable[[RegistryLog], str],
    more: Callable[[Registry, str], dict[str, Any]] = lambda registry, member: {},
    *,
    force: bool = False,
) -> tuple[str, Registry, Registry]:
    """Write one event about the member that `choose` finds in the registry, which is founded where it is not.

    more: what the event says beside, from the registry before it; it may refuse. force: also where nobody
    would be left in the OR. Returns the member and the registry before and after. Raises what `choose` and
    `more` do, Conflict, ConfigError and Unavailable.
    """

    async def job(log: RegistryLog) -> tuple[str, Registry, Registry]:
        before = await log.found(opened[0], who)
        member = choose(log)
        told = more(before, member)
        return member, before, await write(log, kind, member, who=who, why=why, force=force, **told)

    return with_log(opened, job)


def moves(before: Registry, after: Registry) -> dict[str, tuple[str | None, str]]:
    """Member → its state before and after, where that is another one."""
    out: dict[str, tuple[str | None, str]] = {}
    for name, entry in after.entries.items():
        old = before.entries.get(name)
        if old is None or old.state != entry.state:
            out[name] = (old.state if old else None, entry.state)
    return out


def tell(member: str, before: Registry, after: Registry, *, json: bool) -> int:
    """Say what a command has done."""
    moved = moves(before, after)
    if json:
        document = {
            "member": member,
            "state": after.entries[member].state,
            "moved": {name: {"from": old, "to": new} for name, (old, new) in moved.items()},
            "revision": after.revision,
            "offset": after.applied - 1,
        }
        print(jsonlib.dumps(document))
        return 0
    for name, (old, new) in moved.items():
        print(f"{name}: {old or 'new'} → {new}")
    if after.revision != before.revision:
        print(f"revision {after.revision} of the suite: {', '.join(after.live) or 'nobody'}")
    return 0
