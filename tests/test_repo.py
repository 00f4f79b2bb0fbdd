"""The repository itself: it says nothing of the machine it was written on, and its parts fit together."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("streams", "members", "evaluator")
LONGEST = 400


@cache
def tracked() -> dict[str, str]:
    """Path → text of every file that git knows and that is there."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    files = {}
    for name in names.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            files[name] = path.read_bytes().decode("utf-8", errors="replace")
    assert len(files) > 50
    return files


def found(pattern: str, *, but: str = r"(?!)") -> list[str]:
    """``path:line: text`` for each line that matches, `but` taken out of it first."""
    wanted, legitimate = re.compile(pattern), re.compile(but)
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in tracked().items()
        for number, line in enumerate(text.splitlines(), 1)
        if name != "tests/test_repo.py" and wanted.search(legitimate.sub("", line))
    ]


def modules() -> list[str]:
    return [name for name in tracked() if name.split("/")[0] in PACKAGES and name.endswith(".py")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", tracked()["Makefile"], re.MULTILINE))


def test_no_paths_of_a_machine() -> None:
    """No file names a folder that is there on one machine only."""
    assert found(r"(?<![\w.])/(?:work|root|Users|tmp/w)(?:/|\b)(?!\w*\()", but=r"/home/chorus\b") == []
    assert found(r"(?<![\w.])/home/\w+", but=r"/home/chorus\b") == []


def test_no_registries() -> None:
    """No file names a package index, a mirror or a proxy: that is the affair of who installs."""
    assert (
        found(
            r"(?i)pypi\.[a-z]|pythonhosted|index-url|artifactory|\bnexus\b|repo1?\.maven|ghcr\.io|quay\.io|docker\.io",
            but=r"--no-emit-index-url",
        )
        == []
    )


def test_no_talk_of_how_it_was_written() -> None:
    """The repository is for readers who know nothing but the repository."""
    assert found(r"DESIGN\b(?:\.md| \u00a7)|EVIDENCE\.md|STYLE\.md|PLAN\.md|\u00a7") == []
    assert found(r"(?i)sub[-]?agent|\b(?:this|previous|earlier|other|next|last) (?:helper|session)\b") == []


def test_the_lock_is_hashed_and_names_no_place() -> None:
    """Every requirement is pinned to one version with hashes, and no line is a URL or an option of pip."""
    lock = tracked()["requirements.lock"]
    assert "://" not in lock
    assert not re.search(r"^-", lock, re.MULTILINE)
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock)
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_the_lock_has_what_the_project_asks_for() -> None:
    """Each dependency of pyproject.toml, the optional ones included, is in the lock."""
    project = tomllib.loads(tracked()["pyproject.toml"])["project"]
    asked = [
        *project["dependencies"],
        *(d for group in project["optional-dependencies"].values() for d in group),
    ]

    def plain(name: str) -> str:
        return re.split(r"[\[<>=!~; ]", name)[0].lower().replace("_", "-")

    locked = {plain(line) for line in tracked()["requirements.lock"].splitlines() if "==" in line}
    assert {plain(each) for each in asked} - locked == set()


def test_no_module_is_too_long() -> None:
    """A module that has outgrown one screen after the other wants to be two."""
    long = {name: n for name in modules() if (n := tracked()[name].count("\n")) > LONGEST}
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    """Each module of the packages has a docstring that begins with a sentence."""
    without = [name for name in modules() if not ast.get_docstring(ast.parse(tracked()[name]))]
    assert without == []


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring, which states the behaviour."""
    without = [
        f"{name}: {node.name}"
        for name, text in tracked().items()
        if name.startswith("tests/") and name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert without == []


@pytest.mark.parametrize("name", ["README.md", ".ci/run", "docs/operations.md", "docs/members.md"])
def test_targets_that_are_named_exist(name: str) -> None:
    """Each `make target` in a text for people is a target of the Makefile."""
    code = re.findall(r"`([^`\n]+)`|^ *(make [^\n]*)$", tracked().get(name, ""), re.MULTILINE)
    told = {target for pair in code for each in pair for target in re.findall(r"\bmake ([a-z][\w-]*)", each)}
    assert told <= make_targets()


def test_every_target_is_listed() -> None:
    """`make` alone lists all targets that are for people: each has its line of help."""
    helped = set(re.findall(r"^([a-z]+):.*##", tracked()["Makefile"], re.MULTILINE))
    assert helped == make_targets()


def test_links_of_the_readme_lead_somewhere() -> None:
    """Each relative link of the README names a file of the repository."""
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", tracked().get("README.md", ""))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_ci_is_one_script() -> None:
    """The script can be run, is valid bash, and ends at the first thing that fails."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    done = subprocess.run(
        ["bash", "-n", str(script)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_license_is_apache() -> None:
    """The text of the Apache License 2.0 is there, whole."""
    text = tracked()["LICENSE"]
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
