"""`chorus up`: broker, Redis, hosts and evaluators in one foreground command."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from evaluator.supervise import Child, Supervisor, until
from streams.connect import ping_broker, ping_redis, redis_client, until_available
from streams.embedded.broker import CLIENT_ENV, EmbeddedBroker
from streams.embedded.process import Server, free_port
from streams.embedded.redis import EmbeddedRedis
from streams.errors import ChorusError
from streams.settings import Settings, load_settings
from streams.suite import load_suite
from streams.topics import create_topics

log = logging.getLogger("chorus.up")

_WATCH = 0.2  # s between looks at the embedded parts


class Up:
    """Everything that a suite needs, running while the context is open.

    Addresses that are None are embedded. `on_event` hears of ``ready`` and ``restarted`` as they are printed
    with --json.
    """

    def __init__(
        self,
        suite_file: str | Path,
        *,
        bootstrap_servers: str | None = None,
        redis_url: str | None = None,
        evaluators: int = 1,
        shadow_hosts: int | None = None,
        on_event: Any = lambda event: None,
    ) -> None:
        self.suite_file = Path(suite_file)
        self.suite = load_suite(suite_file)
        self.settings: Settings = load_settings(bootstrap_servers=bootstrap_servers, redis_url=redis_url)
        named = os.environ
        self._broker = None
        if not (
            bootstrap_servers
            or {"CHORUS_BOOTSTRAP_SERVERS", "CHORUS_KAFKA__BOOTSTRAP_SERVERS"} & named.keys()
        ):
            self._broker = EmbeddedBroker()
        self._redis = None
        if not (redis_url or {"CHORUS_REDIS_URL", "CHORUS_REDIS__URL"} & named.keys()):
            self._redis = EmbeddedRedis()
        # One at least: a candidate may be added at any time, and must find a host.
        wanted = min(2, max(1, len(self.suite.shadow)))
        self._shadow_hosts = wanted if shadow_hosts is None else shadow_hosts
        self._evaluators = evaluators
        self._on_event = on_event
        self._supervisor: Supervisor | None = None
        self._watch: asyncio.Task[None] | None = None
        self.webs: dict[str, str] = {}
        #: why it all had to stop, once it has
        self.failed: asyncio.Future[str] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self) -> None:
        env = dict(os.environ)
        self.failed = asyncio.get_running_loop().create_future()
        if self._broker:
            self._broker.start()
            env = {**CLIENT_ENV, **env}
            env["CHORUS_KAFKA__BOOTSTRAP_SERVERS"] = self._broker.bootstrap_servers
        else:
            env["CHORUS_KAFKA__BOOTSTRAP_SERVERS"] = self.settings.kafka.bootstrap_servers
        if self._redis:
            self._redis.start()
            env["CHORUS_REDIS__URL"] = self._redis.url
        else:
            env["CHORUS_REDIS__URL"] = self.settings.redis.url.get_secret_value()
        for short in ("CHORUS_BOOTSTRAP_SERVERS", "CHORUS_REDIS_URL"):
            env.pop(short, None)
        self.settings = _settings_of(env)
        await self._servers()
        await until_available(lambda: create_topics(self.suite, self.settings.kafka))
        self._supervisor = Supervisor(self._children(env), self._restarted)
        await self._supervisor.start()
        self._watch = asyncio.create_task(self._watch_embedded())
        await self._until_ready()
        self._on_event(self.ready_event())

    async def _servers(self) -> None:
        await until_available(lambda: ping_broker(self.settings.kafka))
        client = redis_client(self.settings.redis)
        try:
            await until_available(lambda: ping_redis(client, self.settings.redis))
        finally:
            await client.aclose()

    def _children(self, env: Mapping[str, str]) -> list[Child]:
        suite = ["--suite", str(self.suite_file)]
        commands: dict[str, list[str]] = {"live-host-0": ["serve", *suite]}
        for i in range(self._shadow_hosts):
            commands[f"shadow-host-{i}"] = ["shadow", *suite, "--share", f"{i}/{self._shadow_hosts}"]
        for i in range(self._evaluators):
            commands[f"evaluator-{i}"] = ["evaluate", *suite]
        host = self.settings.web.host
        reach = "127.0.0.1" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
        # -P: what lies in the current directory must not be taken for a part of Chorus
        chorus = [sys.executable, "-P", "-m", "evaluator.cli.main"]
        children = []
        for name, command in commands.items():
            port = free_port()
            self.webs[name] = f"http://{reach}:{port}"
            command = [*chorus, *command, "--name", name, "--web-port", str(port)]
            # A member that ends its host must not end the answers, or the evaluation, of the others.
            careful = ["--isolate"] if "-host-" in name else []
            children.append(Child(name, command, env, careful))
        return children

    async def _until_ready(self) -> None:
        assert self.failed
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            left = set(self.webs.values())

            async def ready() -> bool:
                for url in list(left):
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{url}/readyz") as answer:
                            if answer.status == 200:
                                left.remove(url)
                return not left

            waiting: asyncio.Future[Any] = asyncio.ensure_future(until(ready))
            both: set[asyncio.Future[Any]] = {waiting, self.failed}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        if self.failed.done():
            raise ChorusError(self.failed.result())

    def ready_event(self) -> dict[str, Any]:
        """What --json prints once everything is up."""
        assert self._supervisor
        processes = {child.name: child.pid for child in self._supervisor.children}
        embedded: dict[str, Server | None] = {"broker": self._broker, "redis": self._redis}
        processes |= {name: server.pid for name, server in embedded.items() if server}
        return {
            "event": "ready",
            "suite": self.suite.name,
            "bootstrap_servers": self.settings.kafka.bootstrap_servers,
            "redis_url": self.settings.redis.url.get_secret_value(),
            "dashboard": self.webs.get("evaluator-0"),
            "processes": processes,
            "metrics": {name: f"{url}/metrics" for name, url in self.webs.items()},
        }

    def _restarted(self, name: str, pid: int) -> None:
        self._on_event({"event": "restarted", "process": name, "pid": pid})

    async def _watch_embedded(self) -> None:
        """A Redis that dies comes back empty and is filled from the log; a broker takes its log with it."""
        assert self.failed
        while True:
            await asyncio.sleep(_WATCH)
            if self._redis and not self._redis.running:
                log.warning("the embedded Redis has ended; starting it again, to be filled from the log")
                self._redis.stop()
                self._redis = EmbeddedRedis(self._redis.port)
                self._redis.launch()
                self._restarted("redis", self._redis.pid)
                await asyncio.sleep(1.0)
            if self._broker and not self._broker.running and not self.failed.done():
                self.failed.set_result(
                    "the embedded broker has ended, and its log with it: start again, or name a broker that "
                    "keeps its log with --bootstrap-servers"
                )
                return

    async def stop(self) -> None:
        """Stop the children, then the servers that they need."""
        if self._watch:
            self._watch.cancel()
        if self._supervisor:
            await self._supervisor.stop()
        for server in (self._redis, self._broker):
            if server:
                server.stop()

    def kill(self) -> None:
        """End all children at once."""
        if self._supervisor:
            self._supervisor.kill()


def _settings_of(env: Mapping[str, str]) -> Settings:
    """The settings that the children will have."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        return load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


async def run_up(up: Up, *, as_json: bool) -> int:
    """Keep it up until SIGINT or SIGTERM; a second one kills. Returns the exit code."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            up.kill()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    up._on_event = _print_json if as_json else _print_text
    starting: asyncio.Future[Any] = asyncio.ensure_future(up.__aenter__())
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        await starting
        assert up.failed
        await asyncio.wait({stopped, up.failed}, return_when=asyncio.FIRST_COMPLETED)
        if up.failed.done():
            raise ChorusError(up.failed.result())
        return 0
    finally:
        stopped.cancel()
        await up.stop()


def _print_json(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _print_text(event: Mapping[str, Any]) -> None:
    if event["event"] == "restarted":
        print(f"{event['process']} runs again, as process {event['pid']}", flush=True)
        return
    print(f"suite {event['suite']} is up; Ctrl-C stops it")
    print(f"  broker   {event['bootstrap_servers']}")
    print(f"  redis    {event['redis_url'].rsplit('@', 1)[-1]}")
    for name, url in event["metrics"].items():
        print(f"  {name:<16} process {event['processes'][name]:<8} {url}")
    sys.stdout.flush()
