"""The pipeline on real processes: whatever happens to them, every number is what a recount finds."""

from __future__ import annotations

import asyncio
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Senders
from tests.e2e.drive import CHORUS, Up, environment, gone
from tests.e2e.faults import Store, Storm
from tests.e2e.generate import Event, Traffic
from tests.e2e.suites import SuiteFile, write_suite
from tests.e2e.verify import recount, settle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PARTITIONS = 4
STEPS = 60


def start(folder: Path, broker: Any) -> Up:
    """`chorus up` with two evaluators and two shadow hosts, on its own broker or on the one given."""
    arguments = ["--evaluators", "2", "--shadow-hosts", "2"]
    if broker.name != "embedded":
        arguments += ["--bootstrap-servers", broker.bootstrap_servers]
    return Up(write_suite(folder), *arguments)


async def send(sent: Senders, events: list[Event], storm: Storm | None) -> None:
    """Send the events in steps. In a storm they are spread over the time that the faults need."""
    size = -(-len(events) // STEPS)
    for step in range(STEPS):
        await sent.send(events[step * size : (step + 1) * size])
        if storm:
            await storm.strike(step)
            await asyncio.sleep(0.4)  # the pace of the load; nothing waits for this


async def rebuild(suite: SuiteFile, up: Up) -> None:
    """`chorus rebuild`, beside the running evaluators."""
    addresses = ["--bootstrap-servers", up.bootstrap, "--redis-url", up.redis_url]
    command = [CHORUS, "rebuild", "--suite", str(suite.path), *addresses]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment(), capture_output=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_every_number_is_what_a_recount_finds(tmp_path, broker):
    """Two clients, duplicates, shuffled order, all kinds of labels and of bad records; then a rebuild."""

    async def scenario(up: Up) -> None:
        traffic = Traffic(seed=3, requests=1500, partitions=PARTITIONS)
        async with Senders(up.suite, up.bootstrap) as sent:
            await send(sent, traffic.events, None)
            await sent.send(traffic.closing)
        expected = (await recount(up.suite, up.bootstrap, sent)).document()
        await settle(up, expected)
        await rebuild(up.suite, up)
        await settle(up, expected)

    with start(tmp_path, broker) as up:
        up.wait()
        asyncio.run(scenario(up))
        children = up.pids.values()
        assert up.restarts == []  # nothing died of itself
        assert up.stop() == 0
        assert all(map(gone, children))


def test_a_storm_changes_no_number(tmp_path, broker):
    """Hosts and evaluators die at random moments; Redis is flushed, and falls back to an older copy."""
    seed = random.SystemRandom().randrange(10_000)
    print(f"storm {seed}")

    async def scenario(up: Up, store: Store) -> None:
        traffic = Traffic(seed=4, requests=3000, partitions=PARTITIONS)
        async with Senders(up.suite, up.bootstrap) as sent:
            await send(sent, traffic.events, Storm(up, store, STEPS, seed))
            await sent.send(traffic.closing)
        expected = (await recount(up.suite, up.bootstrap, sent)).document()
        await settle(up, expected)
        store.restore()  # and with nothing new to read, too
        await settle(up, expected)
        store.flush()
        await settle(up, expected)

    with start(tmp_path, broker) as up:
        up.wait()
        store = Store(up.redis_url)
        try:
            asyncio.run(scenario(up, store))
        finally:
            store.close()
        for name in up.killed:
            up.back(name)
        assert sorted(up.restarts) == sorted(up.killed)  # nothing died of itself
        children = up.pids.values()
        assert up.stop() == 0
        assert all(map(gone, children))
