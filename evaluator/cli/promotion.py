"""`chorus approve`, `promote`, `decline` and `rollback`: what people decide about candidates."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from evaluator.cli.looks import moment
from evaluator.cli.options import Json, Servers, SuiteFile, open_suite
from evaluator.cli.registering import (
    As,
    Force,
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
        str | None,
        Parameter(
            help="name@version, or the name; by default the one deployed last, if it is still in the OR."
        ),
    ] = None,
    /,
    *,
    suite: SuiteFile,
    reason: Reason,
    force: Force = False,
    who: As = None,
    bootstrap_servers: Servers = None,
    json: Json = False,
) -> int:
    """Take a deployed member out of the OR at once; whom it replaced comes back with the same step."""
    opened, name = open_suite(suite, bootstrap_servers), writer(who)

    def choose(log: RegistryLog) -> str:
        return resolve(log.registry, member) if member else last_deployed(log)

    return tell(*decide("rolled_back", opened, name, reason, choose, _slot, force=force), json=json)


def _slot(registry: Registry, member: str) -> dict[str, str]:
    """The deployment, where it is this member that holds the slot."""
    deployment = registry.deployment
    return {"deployment": deployment.id} if deployment is not None and deployment.member == member else {}


def last_deployed(log: RegistryLog) -> str:
    """Who came in by the very last deployment. Raises ChorusError where it is out already.

    So the command takes out one member, however often it is given.
    """
    swaps = [each.event for each in log.recorded if each.event.kind == "swapped" and each.ignored is None]
    if not swaps:
        raise ChorusError(
            "nothing has been deployed yet, so there is nothing to roll back: `chorus members back-to-shadow "
            "NAME` takes a member out"
        )
    name, entries = swaps[-1].member, log.registry.entries
    entry = entries[name]
    if entry.state in IN_THE_OR and entry.deployment == swaps[-1].deployment:
        return name
    others = [each for each, other in entries.items() if other.state in IN_THE_OR and other.deployment]
    raise ChorusError(
        f"nothing was rolled back: {name}, which was deployed last, is {entry.state} since "
        f"{moment(entry.since)} (UTC, by {entry.who}); to take out another one, name it: chorus rollback "
        f"{' or '.join(others) or 'NAME'}"
    )
