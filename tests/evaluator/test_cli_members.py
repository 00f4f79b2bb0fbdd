"""The registry from the command line, on a real broker: most commands run within this process."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from evaluator.cli.main import app
from evaluator.cli.run import fail, guarded
from members.registry.lifecycle import draft
from members.registry.log import RegistryLog
from streams.settings import load_settings
from streams.suite import load_suite
from streams.topics import Topics
from tests.evaluator.test_cli import NOWHERE, chorus, environment, one_sentence

SUITE = """name = "{name}"

[policy]
approvers = ["eva"]

[features]
x = "float"

[[member]]
name = "steep"
version = "1"
stage = "live"
owner = "ana"
loader = "slopes:Steep"

[[member]]
name = "flat"
version = "1"
owner = "ben"
loader = "slopes:Steep"
params = {{ above = 2.0 }}
"""
NEW = '\n[[member]]\nname="new"\nversion=1\nowner="ana"\nloader="slopes:Steep"\n'
SLOPES = """
class Steep:
    needs = {"x": float}

    def __init__(self, above=1.0):
        self.above = above

    def vote(self, batch):
        return batch["x"] > self.above


class Score(Steep):
    def score(self, batch):
        return batch["x"]


class Deadly:
    def vote(self, batch):
        import os
        os._exit(3)


class Scalar(Steep):
    def vote(self, batch):
        return True
"""


class Desk:
    """A suite of its own, and the commands on it, called as `chorus` calls them."""

    def __init__(self, folder: Path, broker: Any) -> None:
        self.file, self.env = folder / "suite.toml", dict(broker.env)
        self.env["CHORUS_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
        self.servers = broker.bootstrap_servers
        self.file.write_text(SUITE.format(name=f"desk-{uuid.uuid4().hex[:8]}"))
        (folder / "slopes.py").write_text(SLOPES)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        arguments = (*arguments, "--suite", str(self.file))
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = guarded(
                    lambda: app(arguments, result_action="return_value", exit_on_error=False), fail
                )
            except SystemExit as ended:  # cyclopts, on Ctrl-C
                code = int(ended.code or 0)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def ask(self, *arguments: str) -> Any:
        """The document that a command prints."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def history(self, *arguments: str) -> list[dict[str, Any]]:
        done = self("history", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def states(self) -> dict[str, str]:
        return {each["id"]: each["state"] for each in self.ask("members", "list", "--all")["members"]}

    def evaluator(self, *steps: tuple[str, str]) -> None:
        """Write what evaluators and hosts would."""
        declared = load_suite(self.file)

        async def main() -> None:
            kafka = load_settings(bootstrap_servers=self.servers).kafka
            async with RegistryLog(kafka, declared.name) as log:
                for kind, member in steps:
                    slot = log.registry.deployment
                    deployment = "d-1" if kind == "deploying" else slot.id if slot else ""
                    more: Any = {"token": 1, "watermark": 9} if kind != "ready" else {}
                    more["deployment"] = deployment
                    more["evidence"] = {"e_value": 30.0} if kind == "recommended" else None
                    more["suite_precision"] = 0.625 if kind == "deploying" else None
                    who = "chorus" if kind != "ready" else "host"
                    await log.append(draft(log.registry, kind, member, who=who, why="due", at=1, **more))

        asyncio.run(main())


@pytest.fixture
def desk(tmp_path, broker):
    with within(tmp_path, broker) as desk:
        yield desk


@contextmanager
def within(folder: Path, broker: Any) -> Iterator[Desk]:
    """A desk whose commands run in this process; its log output is left as pytest has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.app.set_up_logging", lambda level: None)
        patch.setattr(sys, "path", [*sys.path])
        desk = Desk(folder, broker)
        for name, value in {**desk.env, "COLUMNS": "120", "NO_COLOR": "1"}.items():
            patch.setenv(name, value)
        desk.ask("topics", "create")
        yield desk
        sys.modules.pop("slopes", None)


@pytest.fixture
def quick(tmp_path, embedded_broker):
    with within(tmp_path, embedded_broker) as desk:
        yield desk


UP = ("queued", "deploying", "ready", "swapped", "promoted")
WHY = ("--reason", "because")


def test_from_a_candidate_to_live_and_back(desk):
    """One command deploys it in shadow; approved, it goes its way; rolled back, the old one answers again."""
    name = "steep@2"
    options = ["--loader", "slopes:Steep", "--owner", "ana", "--param", "above=0.5", "--replaces", "steep@1"]
    added = desk.ask("members", "add", name, *options, "--reason", "finds [more] of them", "--as", "ana")
    assert added["moved"] == {name: {"from": None, "to": "shadow"}}
    desk.evaluator(("recommended", name))
    told = desk("approve", "steep@2", *WHY, "--as", "ben")
    one_sentence(told, 1, "ben may not approve: policy.approvers names eva")
    assert desk.ask("approve", name, "--reason", "good", "--as", "eva")["state"] == "approved"
    desk.evaluator(*((kind, name) for kind in UP))
    assert desk.states() == {"steep@1": "retired", "flat@1": "shadow", name: "live"}
    back = desk.ask("rollback", "--reason", "it hurts", "--as", "ben")
    assert (back["member"], back["revision"]) == (name, 3)
    assert back["moved"] == {
        name: {"from": "live", "to": "shadow"},
        "steep@1": {"from": "retired", "to": "live"},
    }
    lines = desk.history(name)
    assert [(line["kind"], line["who"], line["revision"]) for line in lines] == [
        ("added", "ana", 1), ("recommended", "chorus", 1), ("approved", "eva", 1), ("queued", "chorus", 1),
        ("deploying", "chorus", 1), ("ready", "host", 1), ("swapped", "chorus", 2), ("promoted", "chorus", 2),
        ("rolled_back", "ben", 3),
    ]  # fmt: skip
    assert (lines[1]["evidence"], lines[1]["watermark"], lines[1]["deployment"]) == (
        {"e_value": 30.0},
        9,
        None,
    )
    assert {line["deployment"] for line in lines[4:8]} == {"d-1"}
    assert [line["suite_precision"] for line in lines[3:6]] == [None, 0.625, None]
    assert "deploying; the suite's precision is 0.625" in " ".join(desk("history", name).stdout.split())
    assert desk.history("--limit", "1")[0]["live"] == ["steep@1"]
    shown = desk("members", "show", name)
    assert shown.returncode == 0, shown.stderr
    assert "finds [more] of them" in shown.stdout
    assert [line["kind"] for line in desk.history("steep@1")] == [
        "founded", "swapped", "promoted", "rolled_back",
    ]  # fmt: skip


def test_apply_shows_what_it_does_and_does_it_once(quick):
    """The diff comes first; nobody to ask is told; afterwards there is nothing left to do."""
    assert quick.ask("members", "plan") == {"revision": 0, "leaves_nobody": False, "changes": []}
    assert quick.ask("members", "retire", "flat", *WHY)["state"] == "retired"
    quick.edit('owner = "ana"', 'owner = "eva"')
    quick.file.write_text(quick.file.read_text() + NEW)
    planned = quick.ask("members", "plan")["changes"]
    assert [(change["what"], change["member"]) for change in planned] == [
        ("describe", "steep@1"), ("add", "new@1"), ("drift", "flat@1"),
    ]  # fmt: skip
    assert planned[0]["fields"] == {"owner": {"was": "ana", "is": "eva"}}
    one_sentence(quick("members", "apply", *WHY), 2, "there is nobody to ask")
    done = quick("members", "apply", "--yes", *WHY)
    assert done.returncode == 0, done.stderr
    assert "~ steep@1: described anew\n    owner: 'ana' → 'eva'\n+ new@1: new, as a shadow" in done.stdout
    assert [change["what"] for change in quick.ask("members", "plan")["changes"]] == ["drift"]
    again = quick.ask("members", "apply", "--yes", *WHY)
    assert again["applied"] == 0
    quick.edit("above = 2.0", "above = 3.0")
    quick.edit('loader="slopes:Steep"', 'loader="slopes:Score"')
    assert quick("members", "plan").returncode == 1
    told = quick("members", "apply", "--yes", "--json", *WHY)
    one_sentence(told, 1, "nothing was changed: new@1 is registered with another loader: give it")


def test_a_file_that_promotes_needs_an_approver(quick):
    """stage = "live" in the file is an approval, by whoever applies it."""
    quick.edit('owner = "ben"', 'owner = "ben"\nstage = "live"')
    assert quick.ask("members", "plan")["changes"] == []  # the first suite is as the file has it
    quick.edit('stage = "live"\nloader = "slopes:Steep"\nparams', 'loader = "slopes:Steep"\nparams')
    assert quick.ask("members", "apply", "--yes", *WHY)["changes"] == []
    quick.edit('owner = "ben"', 'owner = "ben"\nstage = "live"')
    one_sentence(quick("members", "apply", "--yes", "--json", *WHY), 1, "may not approve")
    assert quick.ask("members", "apply", "--yes", *WHY, "--as", "eva")["changes"][0]["what"] == "deploy"
    assert quick.states() == {"steep@1": "live", "flat@1": "approved"}
    assert quick.ask("decline", "flat", *WHY)["state"] == "shadow"


def test_instants_stand_in_tables_whole_however_narrow_they_are(quick, monkeypatch):
    """What is long is wrapped; when it was is neither wrapped nor cut."""
    monkeypatch.setenv("COLUMNS", "60")
    why = "because of " + "many words " * 9
    assert quick("members", "retire", "flat", "--reason", why).returncode == 0
    for command in (["members", "list", "--all"], ["history"]):
        lines = quick(*command).stdout.splitlines()
        assert max(map(len, lines)) <= 60
        assert any(re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
        assert not any("…" in line for line in lines)
    done = quick("members", "list", "--state", "retire")
    assert done.returncode == 2


def test_promote_says_what_it_is(quick):
    """An override is told on standard error, and stands in the history as one."""
    done = quick("promote", "flat", "--json", *WHY, "--as", "eva")
    assert done.returncode == 0
    assert "without waiting for evidence" in done.stderr
    assert json.loads(done.stdout)["state"] == "approved"
    assert quick.history()[-1]["override"] is True
    assert "flat@1 approved (override)" in quick("history").stdout


def test_a_sharper_threshold_is_a_candidate_of_its_own(quick):
    """The new version is the old one with another threshold, and is to replace it."""
    quick.edit('loader = "slopes:Steep"\nparams', 'loader = "slopes:Score"\nthreshold = 1.5\nparams')
    assert (
        quick.ask("members", "sharpen", "flat", "--threshold", "2.5", "--version", "2", *WHY)["state"]
        == "shadow"
    )
    spec = quick.ask("members", "show", "flat@2")["spec"]
    assert (spec["threshold"], spec["replaces"], spec["params"]) == (2.5, "flat@1", {"above": 2.0})
    one_sentence(
        quick("members", "retire", "flat", *WHY), 2, "flat is several members: name one of flat@1, flat@2"
    )


def test_commands_at_once(quick):
    """Several people start with an empty registry: it is founded once, and every candidate is there."""
    names = ["p@1", "q@1", "r@1"]
    command = [sys.executable, "-m", "evaluator.cli.main", "members", "add"]
    options = ["--suite", str(quick.file), "--loader", "slopes:Steep", "--owner", "ana", "--no-check", *WHY]
    running = [
        subprocess.Popen([*command, name, *options], env=environment(**quick.env), stdout=subprocess.DEVNULL)
        for name in names
    ]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert quick.states() == {"steep@1": "live", "flat@1": "shadow", **dict.fromkeys(names, "shadow")}


def test_history_has_what_was_ignored_only_when_asked(quick):
    """--all shows it with its reason, and records that are no events."""
    quick.ask("members", "apply", "--yes", *WHY)
    topic = Topics(load_suite(quick.file).name).members
    stale = {
        "version": 1,
        "id": "x",
        "kind": "retired",
        "member": "flat@1",
        "at": 1,
        "who": "ben",
        "why": "old",
    }
    never = {**stale, "id": "y", "at": 99999999999999999}

    async def send() -> None:
        from streams.connect import make_producer

        producer = make_producer(load_settings(bootstrap_servers=quick.servers).kafka)
        await producer.start()
        values = (json.dumps(stale).encode(), b"{", json.dumps(never).encode(), b'{"version": 2}')
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
        await producer.stop()

    asyncio.run(send())
    assert [line["kind"] for line in quick.history()] == ["founded"]
    founded, ignored, bad, last, newer = quick.history("--all")
    assert newer["ignored"] == "written by a newer Chorus: upgrade this one"
    assert (founded["ignored"], founded["revision"]) == (None, 1)
    assert ignored["ignored"] == "it expected revision 0 of the suite, which is at 1"
    assert bad["ignored"].startswith("not an event of the registry: bad_event")
    assert last["ignored"]
    shown = quick("history", "--all")
    assert shown.returncode == 0, shown.stderr
    assert "IGNORED, it expected revision 0" in shown.stdout


def test_no_broker(tmp_path):
    """One sentence, and 1."""
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(name="desk"))
    done = chorus("history", "--suite", str(path), "--bootstrap-servers", NOWHERE)
    assert done.returncode == 1
    assert "no Kafka broker answers" in done.stderr


def test_apply_asks_on_a_terminal(quick, monkeypatch):
    """A no leaves everything as it is; a yes makes the changes."""
    quick.edit('owner = "ana"', 'owner = "ana"\nteam = "hills"')
    quick.ask("members", "retire", "flat", *WHY)
    quick.edit('team = "hills"', 'team = "valleys"')
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code, team in (("n", 1, "hills"), ("", 1, "hills"), ("y", 0, "valleys")):
        monkeypatch.setattr("builtins.input", lambda prompt, answer=answer: answer)
        assert quick("members", "apply", *WHY).returncode == code
        assert quick.ask("members", "show", "steep")["spec"]["team"] == team


@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        (("retired", "flat@1"), "nothing was changed: the registry is not what it was when this was shown"),
        (("recommended", "flat@1"), None),
        (("back_to_shadow", "steep@1"), None),
    ],
)
def test_somebody_else_changes_the_suite_while_it_is_applied(quick, monkeypatch, other, outcome):
    """It goes on where what is left to do is what was shown, and stops where it is not."""
    quick.ask("members", "apply", "--yes", *WHY)
    quick.edit('name = "flat"\nversion = "1"', 'name = "flat"\nversion = "1"\nteam = "valleys"')
    quick.edit('owner = "ben"', 'owner = "eva"')
    quick.file.write_text(quick.file.read_text() + NEW)

    def answer(prompt: str) -> str:
        worker = threading.Thread(target=quick.evaluator, args=(other,))  # this one's loop is taken
        worker.start()
        worker.join()
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    done = quick("members", "apply", *WHY)
    if outcome is None:
        assert done.returncode == 0, done.stderr
        assert quick.ask("members", "show", "flat")["spec"]["team"] == "valleys"
        assert quick.states()["new@1"] == "shadow"
    else:
        assert done.returncode == 1
        assert re.search(outcome, done.stderr)
        assert "new@1" not in quick.states()


@pytest.mark.parametrize(("pressed", "code"), [(EOFError, 1), (KeyboardInterrupt, 130)])
def test_nothing_is_open_while_it_asks(quick, monkeypatch, pressed, code):
    """Ctrl-D is a no and Ctrl-C ends it, at once: no loop runs that would have to be taken down first."""
    quick.ask("members", "apply", "--yes", *WHY)
    quick.edit('owner = "ana"', 'owner = "eva"')

    def answer(prompt: str) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        raise pressed

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    done = quick("members", "apply", *WHY)
    assert (done.returncode, done.stderr) == (code, "")
    assert ("nothing was changed" in done.stdout) == (code == 1)
    assert [line["kind"] for line in quick.history()] == ["founded"]


def test_rollback_without_a_name_takes_out_one_however_often_it_is_given(quick):
    """The second time it says what was rolled back, and how to name another one; that goes then."""
    for name in ("good@1", "bad@1"):
        options = ["--loader", "slopes:Steep", "--owner", "ana", "--no-check"]
        quick.ask("members", "add", name, *options, *WHY)
        quick.evaluator(("recommended", name), ("approved", name), *((kind, name) for kind in UP))
    assert quick.ask("rollback", *WHY, "--as", "ben")["moved"] == {"bad@1": {"from": "live", "to": "shadow"}}
    told = quick("rollback", *WHY)
    one_sentence(told, 1, "nothing was rolled back: bad@1, which was deployed last, is shadow since 20")
    assert "by ben); to take out another one, name it: chorus rollback good@1" in told.stderr
    assert quick.states()["good@1"] == "live"
    assert quick.ask("rollback", "good", *WHY)["moved"] == {"good@1": {"from": "live", "to": "shadow"}}


def test_nobody_is_left_only_where_that_is_meant(quick):
    """Whoever takes out the last one in the OR has to say so; so does a file that does."""
    quick.ask("members", "apply", "--yes", *WHY)
    quick.edit('stage = "live"\n', "")
    assert quick("members", "plan").returncode == 1
    told = quick("members", "apply", "--yes", "--json", *WHY)
    one_sentence(told, 1, "nothing was changed: without steep@1 nobody is left in the OR")
    assert quick.states()["steep@1"] == "live"
    assert quick.ask("members", "apply", "--yes", "--force", *WHY)["leaves_nobody"] is True
    assert quick.states()["steep@1"] == "shadow"
    options = ["--loader", "slopes:Steep", "--owner", "ana", "--no-check"]
    quick.ask("members", "add", "new@1", *options, *WHY)
    quick.evaluator(("recommended", "new@1"), ("approved", "new@1"), *((kind, "new@1") for kind in UP))
    one_sentence(quick("rollback", *WHY), 1, "without new@1 nobody is left in the OR")
    assert quick.ask("rollback", "--force", *WHY)["revision"] == 4
    assert quick.ask("members", "retire", "new", *WHY)["state"] == "retired"  # nobody was left before it


def test_apply_refuses_what_add_refuses(quick):
    """One that cannot load, and one that replaces nobody: shown by the plan, and nothing of it is applied."""
    quick.ask("members", "apply", "--yes", *WHY)
    file = quick.file.read_text()
    quick.file.write_text(file + NEW.replace("Steep", "Scalar"))
    assert quick("members", "plan", "--no-check").returncode == 0
    shown = quick("members", "plan")
    assert shown.returncode == 1
    assert "! new@1 does not pass the check, answer: on ordinary requests" in shown.stdout
    one_sentence(
        quick("members", "apply", "--yes", "--json", *WHY), 1, "nothing was changed: new@1 does not pass the"
    )
    assert "new@1" not in quick.states()
    assert quick.ask("members", "apply", "--yes", "--no-check", *WHY)["applied"] == 1
    assert quick.states()["new@1"] == "shadow"
    quick.file.write_text(quick.file.read_text() + NEW.replace("new", "next") + 'replaces = "nobody@9"\n')
    sentence = "next@1 replaces nobody@9, which is not registered: check its id"
    done = quick("members", "plan", "--json")
    assert done.returncode == 1
    assert {each["member"]: each["problem"] for each in json.loads(done.stdout)["changes"]} == {
        "next@1": sentence
    }
    one_sentence(quick("members", "apply", "--yes", "--json", *WHY), 1, f"nothing was changed: {sentence}")
