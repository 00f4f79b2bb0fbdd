"""The first row: a member host against raw reading and against its peers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from bench.job import PARTITIONS, requests, suite_text
from bench.servers import broker
from streams.connect import make_producer
from streams.settings import Kafka
from streams.suite import parse_suite
from streams.topics import create_topics

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
#: contender → requests of one turn: as many as take it a second or more.
TURNS = {
    "raw": 200_000,
    "host": 200_000,
    "shadow": 200_000,
    "backfill": 200_000,
    "bytewax": 100_000,
    "quix": 60_000,
    "faust_agent": 4_000,
}
BARS = {"raw": 0.4, "quix": 3.0, "bytewax": 2.0, "faust_agent": 80.0}
TITLES = {
    "raw": "member host / raw aiokafka getmany",
    "quix": "member host / Quix Streams, batched",
    "bytewax": "member host / Bytewax, batched",
    "faust_agent": "member host / Faust agent per event",
}


def peers() -> str | None:
    """The Python of the peers' own environment, made on first use; None where they cannot be installed."""
    home = BUILD / "peers"
    python = home / "bin" / "python"
    lock = ROOT / "bench" / "peers.lock"
    stamp = home / ".installed"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        print("installing Quix Streams and Bytewax into build/peers", flush=True)
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=False)
        if done.returncode:
            return None
        stamp.touch()
    return str(python)


def cores() -> tuple[set[int], set[int]]:
    """(the broker's cores, the contender's one core)."""
    mine = sorted(os.sched_getaffinity(0))
    return (set(mine[:-1]) or set(mine)), {mine[-1]}


def turn(name: str, python: str, servers: str, suite: str) -> dict[str, Any]:
    """One contender, once, on its core. Raises RuntimeError with what it said when it fails."""
    core = cores()[1]
    command = [python, "-m", f"bench.contenders.{name}", servers, suite, str(TURNS[name])]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("CHORUS_")},
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            answer["cpu_us"] = answer["cpu"] / answer["n"] * 1e6
            answer["wall_us"] = answer["wall"] / answer["n"] * 1e6
            return answer
    raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


async def load(servers: str, suite: str) -> None:
    """Make the topics of one round and fill `requests`."""
    kafka = Kafka(bootstrap_servers=servers, partitions=PARTITIONS)
    await create_topics(parse_suite(suite_text(suite)), kafka)
    producer = make_producer(kafka, max_batch_size=900_000)
    await producer.start()
    try:
        batch, number, held = producer.create_batch(), 0, 0
        for key, value in requests(max(TURNS.values())):
            batch.append(key=key, value=value, timestamp=None)
            held += 1
            if held == 1000:
                batch.close()
                await (await producer.send_batch(batch, f"{suite}.requests", partition=number % PARTITIONS))
                batch, number, held = producer.create_batch(), number + 1, 0
    finally:
        await producer.stop()


def measure(rounds: int) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str], str]:
    """(contender → its turns, contender → why it has none, the broker's name), round by round."""
    peer = peers()
    own = ("raw", "host", "shadow", "backfill", "faust_agent")
    python = dict.fromkeys(own, sys.executable)
    if peer is not None:
        python |= {"quix": peer, "bytewax": peer}
    failed = {name: "it cannot be installed here" for name in TURNS if name not in python}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in TURNS}
    with broker(cores()[0]) as (broker_name, servers):
        for number in range(rounds):
            suite = f"bench{number}"
            asyncio.run(load(servers, suite))
            for name in TURNS:
                if name in failed:
                    continue
                try:
                    turns[name].append(turn(name, python[name], servers, suite))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failed[name] = str(error)
                else:
                    print(f"  round {number + 1}: {name:12s} {turns[name][-1]['cpu_us']:8.1f} µs", flush=True)
        return turns, failed, broker_name
