"""docker-compose.yml and the image: what they name exists in the product."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from members.loading import extend_path, load_member
from members.protocol import needs_of, normalise
from streams.batch import Batch
from streams.settings import load_settings
from streams.suite import load_suite

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "docker-compose.yml"
CHORUS = "import sys; from evaluator.cli.main import main; sys.exit(main())"
SUITE = ROOT / "deploy" / "suite" / "suite.toml"
PROCESSES = {
    "live-host": "serve",
    "shadow-host": "shadow",
    "evaluator-1": "evaluate",
    "evaluator-2": "evaluate",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def own(services: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in services.items() if "build" in each}


def test_the_file_follows_the_compose_specification() -> None:
    """check-jsonschema knows the specification's schema, and finds nothing wrong."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_processes_run_as_with_up(services: dict[str, Any]) -> None:
    """A live host, a shadow host and two evaluators, beside what makes the topics."""
    commands = {name: each["command"][0] for name, each in own(services).items()}
    assert commands == {"topics": "topics", **PROCESSES}
    for name in PROCESSES:
        command = services[name]["command"]
        assert command[command.index("--name") + 1] == name


def test_every_command_exists(services: dict[str, Any]) -> None:
    """The CLI can tell the help of each command that a service runs, and that help names its options."""
    for each in own(services).values():
        words = list(takewhile(lambda word: not word.startswith("-"), each["command"]))
        done = subprocess.run(
            [sys.executable, "-c", CHORUS, *words, "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        )
        assert done.returncode == 0, f"chorus {' '.join(words)}: {done.stderr}"
        for option in (word for word in each["command"] if word.startswith("--")):
            assert option in done.stdout, f"chorus {' '.join(words)} knows no {option}"


def test_every_setting_is_known(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of each service are settings that can be read, and reach the servers of this file."""
    for each in own(services).values():
        for name, value in each["environment"].items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        broker, _, port = settings.kafka.bootstrap_servers.partition(":")
        assert f"INTERNAL://{broker}:{port}" in services[broker]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert settings.redis.url.get_secret_value() == "redis://valkey:6379/0"
        assert (settings.web.host, settings.web.port) == ("0.0.0.0", 8000)


def test_the_image_sets_only_known_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for the variables that the image brings along."""
    found = re.findall(r"(CHORUS_\w+)=(\S+)", (ROOT / "Dockerfile").read_text())
    assert found
    for name, value in found:
        monkeypatch.setenv(name, value)
    assert load_settings().web.port == 8000


def test_processes_are_watched_and_come_back(services: dict[str, Any]) -> None:
    """Each has a health check on the port that it serves, a restart policy, and waits for the topics."""
    for name in PROCESSES:
        each = services[name]
        assert f"{each['environment']['CHORUS_WEB__PORT']}/healthz" in each["healthcheck"]["test"][-1]
        assert each["restart"] == "unless-stopped"
        assert each["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    for name in ("kafka", "valkey"):
        assert services[name]["healthcheck"]["test"]
        assert services[name]["restart"] == "unless-stopped"


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    """Ports are published on the loopback interface only: nothing here asks who is there."""
    ports = [port for each in services.values() for port in each.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_the_store_is_set_for_small_histograms_and_never_evicts(services: dict[str, Any]) -> None:
    """Valkey is told what the store is made for."""
    command = " ".join(services["valkey"]["command"])
    assert "--hash-max-listpack-entries 32" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_is_locked_and_not_root() -> None:
    """The image installs the locked versions by their hashes and runs as a user of its own."""
    text = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in text
    assert "--no-deps" in text
    assert re.search(r"^USER chorus$", text, re.MULTILINE)
    assert "python:3.12-slim" in text


def test_the_image_has_all_that_it_copies() -> None:
    """Every path that the image copies exists, and the build context lets it through."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        path
        for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for path in line.split()[:-1]
    ]
    assert copied
    assert set(copied) == set(allowed)
    assert all((ROOT / path).exists() for path in copied)


def test_the_mounted_suite_works(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite of the folder that is mounted can be read, and each of its members loads and votes."""
    mounts = [each["volumes"][0] for each in own(services).values()]
    assert set(mounts) == {"${SUITE_DIR:-./deploy/suite}:/suite:ro"}
    monkeypatch.setattr(sys, "path", list(sys.path))
    extend_path(SUITE)
    suite = load_suite(SUITE)
    assert len(suite.live) == 2
    assert len(suite.shadow) == 1
    wind, rain = np.array([20.0, 15.0, np.nan]), np.array([30.0, 11.0, 0.0])
    batch = Batch(np.arange(3), {"wind": wind, "rain": rain}, {"wind": np.isnan(wind)})
    votes = {}
    for spec in suite.member:
        member = load_member(spec)
        assert set(needs_of(member, suite.features)) <= {"wind", "rain"}
        votes[spec.name] = normalise(member.vote(batch), 3)[0].tolist()
    assert votes == {
        "gale": [True, False, False],
        "downpour": [True, False, False],
        "squall": [True, True, False],
    }
