"""docs/registry.md: its tables are those of the product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from evaluator.cli.main import app
from members.registry.events import Decided, Reported
from members.registry.lifecycle import TRANSITIONS
from members.registry.plan import What

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")


def rows(title: str) -> dict[str, list[str]]:
    """First cell of each row of a section's table → the other cells."""
    body = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `([^|]+)` \| (.*) \|$", body, re.MULTILINE)
    return {first: [cell.strip() for cell in rest.split(" | ")] for first, rest in found}


def test_every_kind_of_event_is_explained():
    """The table has each kind, and no other."""
    assert list(rows("Events")) == [*get_args(Decided), *get_args(Reported)]


def test_the_transitions_are_those_of_the_product():
    """Each row names the states that the event is legal from, and the one that it leads to."""
    table = rows("Events")
    for kind, (legal, to) in TRANSITIONS.items():
        told, effect = table[kind]
        states = set(re.findall(r"`(\w+)`", told)) - {"override"}
        assert states == {state for state in legal if state is not None}, kind
        assert ("not registered" in told) == (None in legal), kind
        assert to is None or effect.startswith(f"`{to}`"), kind


def test_every_line_of_a_plan_is_explained():
    """The table has each kind of change and note."""
    assert list(rows("Plan and apply")) == list(get_args(What))


def test_every_command_on_the_registry_is_explained():
    """The table has all of `chorus members`, and the commands beside it."""
    told = set(
        re.findall(r"`chorus ([a-z-]+(?: [a-z-]+)?)", PAGE.split("## One candidate")[1].split("\n## ")[0])
    )
    subcommands = {f"members {name}" for name in app["members"] if not name.startswith("-")}
    assert subcommands | {"approve", "promote", "decline", "rollback", "history"} == told
