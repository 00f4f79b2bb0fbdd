"""From a loader to a member."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from members.errors import LoadError
from members.loading import extend_path, load_member
from tests.members.panels import spec


def test_modules_beside_the_suite_file_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader may name a module in the folder of the suite file; params are passed, load() is called."""
    (tmp_path / "beside_the_suite.py").write_text(
        "class M:\n def __init__(self, a): self.a = a\n def load(self): self.b = self.a + 1\n"
        " def vote(self, batch): ...\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    extend_path(tmp_path / "suite.toml")
    member = load_member(spec("m", "beside_the_suite:M", a=1))
    assert member.b == 2


@pytest.mark.parametrize(
    ("loader", "params", "says"),
    [
        ("not_there.at_all:M", {}, "not_there"),
        ("members.not_there:M", {}, "members.not_there"),
        ("members.panel:NotThere", {}, "NotThere"),
        ("tests.members.voters_for_tests:Above", {"below": 1}, "below"),
        ("tests.members.voters_for_tests:NoVote", {}, "vote"),
        ("tests.members.voters_for_tests:GATES", {}, "GATES"),
    ],
)
def test_a_mistake_is_one_sentence(loader: str, params: dict[str, int], says: str) -> None:
    """What cannot be loaded says which member it is, and what is wrong with it."""
    with pytest.raises(LoadError) as caught:
        load_member(spec("m", loader, **params))
    assert str(caught.value).startswith("m@1: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["raise SystemExit(3)", "1 / 0", "import not_installed_at_all", "def ("])
def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Whatever a module does when it is imported is a LoadError."""
    (tmp_path / "bad_module.py").write_text(line + "\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "bad_module", raising=False)
    with pytest.raises(LoadError, match="bad_module"):
        load_member(spec("m", "bad_module:M"))
