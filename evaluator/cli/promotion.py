"""`chorus approve`, `promote`, `decline` and `rollback`: what people decide about candidates."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from evaluator.cli.options import Json, Servers, SuiteFile, open_suite
from evaluator.cli.registering import (
    As,
    Member,
    Reason,
    decide,
    may_approve,
    resolve,
    tell,
    writer,
)
from members.registry.lifecycle import IN_THE_OR, Registry
from members.registry.log import Conflict, RegistryLog
from streams.errors import ChorusError


def approve(
    member: Member,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Approve a recommended candidate: it joins the queue for the deployment slot."""
    return _approve(member, suite, reason, who, bootstrap_servers, json, override=False)


def promote(
    member: Member,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Promote a candidate without waiting for evidence: an override, which the history shows as one."""
    return _approve(member, suite, reason, who, bootstrap_servers, json, override=True)


def _approve(
    member: str,
    suite: SuiteFile,
    reason: str,
    who: str | None,
    servers: str | None,
    json: bool,
    *,
    override: bool,
) -> int:
    opened, name = open_suite(suite, servers), writer(who)
    may_approve(opened[0], name)

    def more(registry: Registry, found: str) -> dict[str, bool]:
        if not override and registry.entries[found].state == "shadow":
            raise Conflict(f"{found} is not recommended: `chorus promote` puts it in without evidence")
        return {"override": override}

    found, before, after = decide(
        "approved", opened, name, reason, lambda log: resolve(log.registry, member), more
    )
    if override:
        print(
            f"chorus: {found} is promoted without waiting for evidence, by {name}; the slot, the check on the"
            " live host and the guardrails still hold",
            file=sys.stderr,
        )
    return tell(found, before, after, json=json)


def decline(
    member: Member,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Decline a candidate that is recommended, approved, queued or being deployed: it stays in shadow."""
    opened, name = open_suite(suite, bootstrap_servers), writer(who)

    def more(registry: Registry, found: str) -> dict[str, str]:
        if (state := registry.entries[found].state) in IN_THE_OR:
            raise Conflict(f"{found} is {state} already: `chorus rollback` takes it out")
        return _slot(registry, found)

    done = decide("aborted", opened, name, reason, lambda log: resolve(log.registry, member), more)
    return tell(*done, json=json)


def rollback(
    member: Annotated[
        str | None, Parameter(help="name@version, or the name; by default the last one deployed.")
    ] = None,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Take a deployed member out of the OR at once; whom it replaced comes back with the same step."""
    opened, name = open_suite(suite, bootstrap_servers), writer(who)

    def choose(log: RegistryLog) -> str:
        return resolve(log.registry, member) if member else last_deployed(log)

    return tell(*decide("rolled_back", opened, name, reason, choose, _slot), json=json)


def _slot(registry: Registry, member: str) -> dict[str, str]:
    """The deployment, where it is this member that holds the slot."""
    deployment = registry.deployment
    return {"deployment": deployment.id} if deployment is not None and deployment.member == member else {}


def last_deployed(log: RegistryLog) -> str:
    """Who came into the OR last by a deployment, and is still there. Raises ChorusError."""
    for recorded in reversed(log.recorded):
        entry = log.registry.entries.get(recorded.event.member)
        if recorded.event.kind != "swapped" or recorded.ignored is not None or entry is None:
            continue
        if entry.state in IN_THE_OR and entry.deployment == recorded.event.deployment:
            return recorded.event.member
    raise ChorusError("nothing that was deployed is live: there is nothing to roll back")
