"""docs/: what its tables and examples say is what the product does."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, SecretStr

from evaluator.cli.main import app as cli
from members.panel import BUDGET_FOR, Ballot, Panel
from streams.batch import Batch
from streams.metrics import Metrics
from streams.settings import Settings
from streams.suite import LabelRules, MemberSpec, Policy, Suite, parse_suite
from streams.times import parse_duration

DOCS = Path(__file__).resolve().parents[1] / "docs"
TABLES: list[tuple[str, type[BaseModel]]] = [
    ("The suite", Suite),
    ("[labels]", LabelRules),
    ("[policy]", Policy),
    ("[[member]]", MemberSpec),
]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """First cell of each table row, without its backticks, → the other cells."""
    table = {}
    for line in re.findall(r"^\| (`[^|]+` \|.*) \|$", text, re.MULTILINE):
        first, *others = [cell.strip() for cell in line.split(" |")]
        table[first.strip("`")] = others
    return table


def blocks(text: str, info: str) -> list[str]:
    return re.findall(rf"^```{info}\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)


def same(told: str, default: Any) -> bool:
    """Whether a cell such as `"5m"`, `0.05`, `none` or `50 ms` is this default."""
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    text = told.strip("`")
    if default is None or isinstance(default, bool):
        return text.lower() == str(default).lower()
    plain = text.strip('"')
    if str(default) == plain or repr(default).replace("'", '"') == text:
        return True
    try:
        return parse_duration(plain.replace(" ", "")) == default
    except ValueError:
        return False


@pytest.mark.parametrize(("title", "model"), TABLES)
def test_every_key_of_the_suite_file_is_explained(title: str, model: type[BaseModel]) -> None:
    """The keys of each table are those that the product reads, with their defaults."""
    table = rows(section(page("suite-file.md"), title))
    assert list(table) == list(model.model_fields)
    for name, field in model.model_fields.items():
        told = table[name][1]
        if field.is_required():
            assert told == "required", name
        elif told and name != "retention":
            assert same(told, field.default), f"{name}: {told}, but {field.default!r}"


def test_the_default_retention_is_the_one_explained() -> None:
    """Twice the longest window, 14 days at least."""
    assert Suite(name="a", windows=["1h"]).retention_ms == parse_duration("14d")
    assert Suite(name="a", windows=["1h", "30d"]).retention_ms == parse_duration("60d")


@pytest.mark.parametrize("text", blocks(page("suite-file.md"), "toml suite"))
def test_the_examples_of_suite_files_are_read(text: str) -> None:
    """Each example is a suite file, whole and without a mistake."""
    suite = parse_suite(text)
    assert suite.name == "storms"
    assert suite.features


def test_the_example_of_features_has_every_type() -> None:
    """No type of feature is left out, and what is said of missing ones holds."""
    suite = parse_suite(blocks(page("suite-file.md"), "toml suite")[0])
    assert sorted(suite.features.values()) == ["bool", "category", "float", "int", "text"]


def test_every_setting_is_explained() -> None:
    """The table has each setting with its default, in the order of the product."""
    table = rows(section(page("operations.md"), "Settings"))
    settings: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            for inner in type(field.default).model_fields:
                settings[f"CHORUS_{name.upper()}__{inner.upper()}"] = getattr(field.default, inner)
        else:
            settings[f"CHORUS_{name.upper()}"] = field.default
    assert list(table) == list(settings)
    for name, default in settings.items():
        assert same(table[name][0], default), f"{name}: {table[name][0]}, but {default!r}"


def test_every_metric_is_explained() -> None:
    """The table has each metric that a process shows, and no other."""
    for kind in ("host", "backfill", "evaluator"):
        metrics = Metrics()
        getattr(metrics, kind)
        shown = {
            metric.name + ("_total" if metric.type == "counter" else "")
            for metric in metrics.registry.collect()
        }
        table = rows(section(page("operations.md"), "Metrics"))
        assert {name for name, cells in table.items() if cells[0] == kind} == shown


def test_links_lead_somewhere() -> None:
    """Every link between pages names a page that exists, and a heading in it."""
    for path in [*DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            there = (path.parent / name).resolve() if name else path
            assert there.exists(), f"{path.name} links to {target}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in slugs, f"{path.name} links to {target}"


def members() -> dict[str, Any]:
    """What the examples of members define."""
    space: dict[str, Any] = {}
    for text in blocks(page("members.md"), "python member"):
        exec(compile(text, "members.md", "exec"), space)
    return space


def test_the_examples_of_members_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    """They load as the suite file of the page says, and vote and abstain as its text says."""
    module = types.ModuleType("storm_members")
    module.__dict__.update(members())
    monkeypatch.setitem(sys.modules, "storm_members", module)
    suite = parse_suite(blocks(page("members.md"), "toml suite")[0])
    calm = suite.member[0].model_copy(update={"name": "calm", "loader": "storm_members:Calm", "params": {}})
    wind = np.array([15.0, 1.0, 1.0, np.nan])
    rain = np.array([20.0, 0.0, 40.0, 20.0])
    batch = Batch(np.arange(4), {"wind": wind, "rain": rain}, {"wind": np.isnan(wind)})

    async def ask() -> Ballot:
        panel = Panel([suite.member[0], calm], Settings().host, suite.features)
        await panel.load()
        try:
            return await panel.vote(batch)
        finally:
            await panel.close()

    ballot = asyncio.run(ask())
    assert not ballot.failed.any()
    assert ballot.true.tolist() == [[True, False, False, False], [False, True, False, False]]
    assert ballot.abstain.tolist() == [[False, False, False, True], [False, False, True, False]]


def test_the_way_to_try_a_member_works() -> None:
    """The snippet runs as it stands after the example that it tries."""
    space = members()
    (text,) = blocks(page("members.md"), "python try")
    exec(compile(text, "members.md", "exec"), space)


def test_the_budget_is_the_one_explained() -> None:
    """The formula of the page has the numbers of the product."""
    text = page("members.md")
    assert f"n / {BUDGET_FOR}) + {Settings().host.budget_grace} ms" in text
    assert f"{MemberSpec.model_fields['budget_ms'].default:.0f} ms by default" in text


def test_the_commands_explained_are_those_of_the_cli() -> None:
    """The table has each command that `chorus` has, and no other."""
    table = re.findall(r"^\| (`chorus [^|]*) \|", section(page("operations.md"), "Processes"), re.MULTILINE)
    told = {name for cell in table for name in re.findall(r"`chorus ([\w-]+)", cell)}
    assert told == {name for name in cli if not name.startswith("-")}
