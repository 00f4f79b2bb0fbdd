"""From a loader to a member."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from members.check import check_member
from members.errors import LoadError, VoteError
from members.loading import Thresholded, extend_path, load_member
from tests.members.panels import FEATURES, batch, spec


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


def test_what_lies_beside_the_suite_file_is_never_taken_for_a_part_of_chorus(tmp_path: Path) -> None:
    """With a members.py and a queue.py there, members load as ever, isolated ones in their processes too."""
    for name in ("members", "queue", "evaluator"):
        (tmp_path / f"{name}.py").write_text("class M:\n def vote(self, batch): return batch.time > 0\n")
    (tmp_path / "mine.py").write_text("class M:\n def vote(self, batch): return batch.time > 0\n")
    program = (
        "import members.loading, sys\n"
        "members.loading.extend_path(sys.argv[1])\n"
        "from members.isolated import IsolatedMember\n"
        "from tests.members.panels import spec\n"
        "if __name__ == '__main__':\n"
        "    member = IsolatedMember(spec('m', 'mine:M'), lambda n: 20.0)\n"
        "    print('loaded')\n"
        "    member.close()\n"
    )
    (tmp_path / "program.py").write_text(program)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "program.py", "suite.toml"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == "loaded\n", done.stderr


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


class Scored:
    """Its score is what it was given, and it does not vote."""

    needs = ("wind",)
    closed = False

    def __init__(self, scores: Any) -> None:
        self.scores = scores

    def score(self, batch: Any) -> Any:
        return self.scores

    def close(self) -> None:
        self.closed = True


def thresholded(scores: Any, loader: str = "tests.members.test_loading:Scored") -> Any:
    params = {"scores": scores} if "Scored" in loader else {}
    return load_member(spec("m", loader, **params).model_copy(update={"threshold": 0.5}))


def test_a_threshold_makes_votes_of_scores() -> None:
    """A score at the threshold is a True vote, one that is missing abstains; all else is the member's own."""
    member = thresholded([0.4, 0.5, None, 0.9])
    votes = member.vote(batch([1.0] * 4))
    assert votes.true.tolist() == [False, True, False, True]
    assert votes.abstain.tolist() == [False, False, True, False]
    assert list(member.needs) == ["wind"]
    member.close()
    assert member._member.closed
    assert check_member(Thresholded(ByWind(), 0.5), FEATURES) == []


class ByWind:
    def score(self, batch: Any) -> Any:
        return batch["wind"]


@pytest.mark.parametrize(
    ("scores", "says"), [([0.1], "shape"), (["a"] * 4, "no numbers"), ([[1], 2], "numbers")]
)
def test_scores_that_are_none(scores: Any, says: str) -> None:
    """Anything but one number for each request is an error of the member."""
    with pytest.raises(VoteError, match=says):
        thresholded(scores).vote(batch([1.0] * 4))


def test_a_threshold_without_scores() -> None:
    """A member that has no score(batch) is refused with what to do."""
    with pytest.raises(LoadError, match=r"no method score\(batch\), which `threshold` needs"):
        thresholded(None, "Above")
