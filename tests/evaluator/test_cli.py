"""The command line: exit codes, one sentence for what is wrong, and nothing else on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import redis

from evaluator.keys import meta_key

SUITE = """name = "{name}"

[features]
x = "float"

[[member]]
name = "steep"
version = "1"
stage = "live"
owner = "ana@example.com"
loader = "mine:Steep"
"""
NOWHERE = "127.0.0.1:1"


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHORUS_")}
    return {**clean, "NO_COLOR": "1", "COLUMNS": "120", **more}


def chorus(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evaluator.cli.main", *arguments]
    return subprocess.run(
        command, env=environment(**env), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(name=f"cli-{uuid.uuid4().hex[:8]}"))
    return str(path)


def one_sentence(done: subprocess.CompletedProcess[str], code: int, sentence: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("chorus: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


def test_help_names_every_command():
    """`chorus --help` ends with 0 and lists what there is."""
    done = chorus("--help")
    assert done.returncode == 0
    for name in ("serve", "shadow", "evaluate", "up", "demo", "status", "watch", "rebuild", "topics"):
        assert f" {name} " in done.stdout


def test_help_is_quick():
    """What only some commands need is not imported for the help."""
    program = "import sys; import evaluator.cli.main; print(*(n for n in sys.modules if '.' not in n))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"faust", "aiokafka", "redis", "numpy", "pydantic"} & set(done.stdout.split())


def test_version():
    """--version says what pyproject.toml does."""
    done = chorus("--version")
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status"],
        ["status", "--nonsense"],
        ["status", "--suite", "s.toml", "--view", "nonsense"],
        ["shadow", "--suite"],
        ["serve", "--suite", "s.toml", "--web-port", "99999"],
    ],
)
def test_what_the_command_line_lacks(arguments):
    """A wrong command line ends with 2, and says why on standard error."""
    done = chorus(*arguments)
    assert done.returncode == 2
    assert "Error" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", ["serve", "shadow", "evaluate", "up", "status", "watch", "rebuild", "topics create"]
)
def test_a_bad_suite_file(command, tmp_path):
    """Every command names the file, the line and the key, and ends with 2."""
    path = tmp_path / "suite.toml"
    path.write_text('name = "s"\nbuckets = "5m"\n')
    one_sentence(chorus(*command.split(), "--suite", str(path)), 2, f"{path}:2: unknown key 'buckets'")


def test_no_suite_file(tmp_path):
    """A path with nothing behind it."""
    one_sentence(chorus("status", "--suite", str(tmp_path / "s.toml")), 2, "there is no such suite file")


def test_an_unknown_setting(suite):
    """A misspelt variable is named before anything is tried."""
    done = chorus("status", "--suite", suite, CHORUS_KAFKA_PARTITIONS="4")
    one_sentence(done, 2, "unknown setting CHORUS_KAFKA_PARTITIONS")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["status"], NOWHERE),
        (["rebuild"], f"no Redis answers at {NOWHERE}/0: start it"),
        (["topics", "create"], f"no Kafka broker answers at {NOWHERE}: start it"),
    ],
)
def test_servers_that_are_not_there(suite, command, sentence):
    """What is asked once does not wait: one sentence, and 1."""
    env = {"CHORUS_BOOTSTRAP_SERVERS": NOWHERE, "CHORUS_REDIS_URL": f"redis://{NOWHERE}/0"}
    done = chorus(*command, "--suite", suite, **env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("chorus: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_member_that_is_registered_nowhere(suite, broker):
    """`--member` with a name that nobody declared and nobody added."""
    servers = ["--bootstrap-servers", broker.bootstrap_servers]
    assert chorus("topics", "create", "--suite", suite, *servers).returncode == 0
    done = chorus("shadow", "--suite", suite, "--member", "ghost@1", *servers)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "shadow-host stops: there is no member ghost@1 in the registry" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("share", ["2", "2/2", "-1/2", "a/b", "0/0"])
def test_no_such_share(suite, share):
    """A share that is none is told; one of named members makes no sense."""
    one_sentence(chorus("shadow", "--suite", suite, f"--share={share}"), 2, "write it as 0/2")


def test_a_share_of_named_members(suite):
    """Members that are named are not shared out."""
    done = chorus("shadow", "--suite", suite, "--member", "steep@1", "--share", "0/2")
    one_sentence(done, 2, "exclude each other")


def test_topics_can_be_made_twice(suite, broker):
    """The second time finds them all there; as JSON, one document."""
    arguments = ["topics", "create", "--suite", suite, "--bootstrap-servers", broker.bootstrap_servers]
    first = chorus(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count(" created\n") == 8
    second = chorus(*arguments, "--json")
    assert second.returncode == 0
    assert set(json.loads(second.stdout).values()) == {"exists"}


def test_status_before_anything_happened(suite, redis_server):
    """An empty Redis gives a whole document in which everything is undefined, and a table."""
    arguments = ["status", "--suite", suite, "--redis-url", redis_server.url]
    done = chorus(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["watermark"]) == (1, None)
    assert {window["volume"] for window in document["windows"]} == {None}
    table = chorus(*arguments, "--window", "24h")
    assert table.returncode == 0, table.stderr
    assert "steep@1" in table.stdout
    one_sentence(chorus(*arguments, "--window", "2h"), 1, "there is no window 2h")


def test_status_of_another_bucket(suite, redis_server):
    """Windows that would end within the store's buckets are refused, not rounded."""
    name = Path(suite).read_text().split('"')[1]
    store = redis.Redis.from_url(redis_server.url)
    meta = {"schema": 1, "shards": 1, "bucket": 600_000, "generation": 86_400_000}
    store.hset(meta_key(name), mapping=meta)
    done = chorus("status", "--suite", suite, "--redis-url", redis_server.url, "--json")
    one_sentence(done, 1, "the store was made with bucket 10m, not 5m")


def test_rebuild_of_nothing(suite, broker, redis_server):
    """A log without records is folded in an instant; the document says how far."""
    servers = ["--bootstrap-servers", broker.bootstrap_servers]
    assert chorus("topics", "create", "--suite", suite, *servers).returncode == 0
    done = chorus(
        "rebuild", "--suite", suite, *servers, "--redis-url", redis_server.url, "--json", **broker.env
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["event"] == "rebuilt"
    assert set(told["positions"].values()) == {0}


def test_a_pipe_that_closes(suite, redis_server):
    """`chorus status | head` ends without a traceback."""
    command = (
        f"{sys.executable} -m evaluator.cli.main status --suite {suite} --redis-url {redis_server.url} --json"
    )
    done = subprocess.run(
        ["sh", "-c", f"{command} | true"], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
