"""`chorus backfill`: a candidate that is new has evidence over the past in minutes."""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from evaluator.backfilling import Coverage, suite_watermark
from evaluator.cli.options import Json, RedisUrl, Servers, SuiteFile, open_suite
from evaluator.cli.registering import with_log
from evaluator.cli.whatif import resolve
from evaluator.status import read_status
from members.backfill import Backfill
from members.loading import extend_path
from members.registry.log import RegistryLog
from members.replay import Outcome, Progress
from streams.app import quicken
from streams.connect import ping_broker, ping_redis, redis_client
from streams.errors import ConfigError
from streams.metrics import Metrics
from streams.settings import Settings
from streams.suite import Suite
from streams.times import format_time, parse_duration, parse_time

log = logging.getLogger("chorus")

_EVERY = 1.0  # s between two lines of JSON
_PATIENCE = 30.0  # s without anything folded after which no evaluator is taken to run
_NICE = 10


def backfill(
    member: Annotated[str, Parameter(help="The candidate: name, or name@version.")],
    /,
    *,
    suite: SuiteFile,
    since: Annotated[
        str,
        Parameter(help="How far back from the suite's watermark (7d), or an instant (2025-01-31T00:00:00Z)."),
    ],
    bootstrap_servers: Servers = None,
    redis_url: RedisUrl = None,
    web_port: Annotated[
        int | None,
        Parameter(help="Serve /metrics on this port.", validator=Number(gte=1, lte=65535)),
    ] = None,
    wait: Annotated[
        bool, Parameter(help="Wait until the evaluators have folded the votes, and print the verdict.")
    ] = True,
    json: Json = False,
) -> int:
    """Let a shadow candidate score retained requests, as if it had been there; it can be resumed."""
    declared, settings = open_suite(suite, bootstrap_servers, redis_url)
    extend_path(suite)

    async def registered(found: RegistryLog) -> Suite:
        return found.registry.suite(declared)

    declared = with_log((declared, settings), registered)
    return run_backfill(
        declared,
        settings,
        resolve(declared, [member])[0],
        since,
        again=shlex.join(["chorus", *sys.argv[1:]]),
        as_json=json,
        wait=wait,
        web_port=web_port,
    )


def check_backfill(suite: Suite, member: str) -> None:
    """Raises ConfigError for a member that cannot be backfilled."""
    spec = suite.members[member]
    if spec.stage != "shadow":
        raise ConfigError(
            f"{member} is {spec.stage}, and its votes are those that it gave when it was asked: "
            "only a shadow can be backfilled"
        )
    if spec.trained_through is None:
        raise ConfigError(
            f"{member} has no trained_through, and what happened while its data were gathered must not speak "
            "for it: add it as another version, with --trained-through, or trained_through in the suite file"
        )


def parse_since(text: str) -> tuple[int | None, int]:
    """(instant in ms or None, duration in ms before the watermark or 0). Raises ConfigError."""
    try:
        return None, parse_duration(text)
    except ValueError:
        pass
    try:
        return parse_time(text), 0
    except ValueError:
        raise ConfigError(
            f"--since {text} is neither a duration nor an instant: write it like 7d, or 2025-01-31T00:00:00Z"
        ) from None


def check_since(since: int, watermark: int | None, now: int) -> None:
    """Raises ConfigError for an instant (ms) after which nothing can have been asked yet."""
    end, what = (now, "now") if watermark is None else (watermark, "the suite's watermark")
    if since > end:
        raise ConfigError(
            f"--since {format_time(since)} lies after {what}, {format_time(end - end % 1000)}: there is "
            "nothing to replay; give an earlier instant, or a duration before the watermark like 7d"
        )


def run_backfill(
    suite: Suite,
    settings: Settings,
    member: str,
    since: str,
    *,
    again: str,
    as_json: bool = False,
    wait: bool = True,
    web_port: int | None = None,
) -> int:
    """Backfill one member (an id) of the suite; 0 when it is done, 130 when it was stopped.

    `again` is the command that goes on where this one stopped. Raises ConfigError, Unavailable, ChorusError.
    """
    check_backfill(suite, member)
    when = parse_since(since)
    os.nice(_NICE)  # the live host has the processor first
    quicken()
    metrics = Metrics()
    if web_port is not None:
        from prometheus_client import start_http_server

        try:
            start_http_server(web_port, settings.web.host, metrics.registry)
        except OSError as error:
            raise ConfigError(f"nothing can listen on port {web_port} ({error}): check --web-port") from None
    show: Lines | Bars = Lines() if as_json else Bars(member)
    return asyncio.run(_run(suite, settings, member, when, metrics, show, again, wait=wait))


async def _run(
    suite: Suite,
    settings: Settings,
    member: str,
    when: tuple[int | None, int],
    metrics: Metrics,
    show: Lines | Bars,
    again: str,
    *,
    wait: bool,
) -> int:
    client = redis_client(settings.redis)
    try:
        await ping_broker(settings.kafka)
        await ping_redis(client, settings.redis)
        coverage = Coverage(client, suite.name, member)
        since, back = when
        mark = await suite_watermark(client, suite)
        if since is not None:
            check_since(since, mark, time.time_ns() // 1_000_000)
        elif mark is not None:
            since = max(0, mark - back)
        backfill = Backfill(
            suite, settings, member,
            since=since, back=back, covered=coverage.read, tell=show.progress, metrics=metrics,
        )  # fmt: skip
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, backfill.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, backfill.stop)
        with show:
            outcome = await backfill.run()
        show.end(outcome, again)
        if not outcome.finished:
            return 130
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
        if wait:
            folded = await _folded(coverage, outcome, show.folding)
            show.verdict(member, await _verdict(suite, settings, member) if folded else None)
        return 0
    finally:
        await client.aclose()


async def _folded(coverage: Coverage, outcome: Outcome, tell: Callable[[int], None]) -> bool:
    """Wait until the store has all that was written; False where nobody folds it."""
    written = {p: place.written for p, place in outcome.places.items() if place.written}
    least, moved = None, time.monotonic()
    while left := await coverage.missing(written):
        if least is None or left < least:
            least, moved = left, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE:
            return False
        tell(left)
        await asyncio.sleep(0.1)
    return True


async def _verdict(suite: Suite, settings: Settings, member: str) -> dict[str, Any] | None:
    document = await read_status(suite, settings)
    found = [m["verdict"] for w in document["windows"] for m in w["members"] if m["id"] == member]
    verdict: dict[str, Any] | None = found[0] if found else None
    return verdict


class Lines:
    """Lines of JSON on standard output."""

    def __init__(self) -> None:
        self._due = 0.0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def progress(self, now: Progress) -> None:
        """About one line a second."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _EVERY
        _line(
            event="progress", done=now.done, total=now.total, requests=now.requests,
            event_time=now.event_time,
            seconds=round(now.seconds, 3), requests_per_second=round(now.rate, 1),
            eta_seconds=None if now.eta is None else round(now.eta, 1), throttled=now.throttled,
            live_lag=now.live_lag,
        )  # fmt: skip

    def end(self, outcome: Outcome, again: str) -> None:
        """`done`, or `stopped` with the command that goes on."""
        what = {
            "requests": outcome.requests, "seconds": round(outcome.seconds, 3), "since": outcome.since,
            "begins": outcome.cut, "partitions": outcome.partitions(), "early": outcome.early,
        }  # fmt: skip
        if outcome.finished:
            _line(event="done", **what)
        else:
            _line(event="stopped", **what, resume=again)

    def folding(self, left: int) -> None:
        """Nothing: what comes next is the verdict."""

    def verdict(self, member: str, verdict: dict[str, Any] | None) -> None:
        """The verdict as in the status document, or null where no evaluator has folded the votes."""
        _line(event="verdict", member=member, verdict=verdict)


class Bars:
    """A bar on standard error, and sentences on standard output."""

    def __init__(self, member: str) -> None:
        self._member = member
        self._task: TaskID | None = None
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[more]}"), TimeRemainingColumn(),
            console=Console(file=sys.stderr),
        )  # fmt: skip

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, now: Progress) -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._bar.add_task(self._member, total=now.total, more="")
        reached = "" if now.event_time is None else f", {format_time(now.event_time - now.event_time % 1000)}"
        more = f"{now.rate:,.0f}/s{reached}"
        if now.throttled and now.live_lag is None:
            more += ", waiting for what the live hosts have answered"
        elif now.throttled:
            more += f", throttled: the live hosts are {now.live_lag:,} requests behind"
        self._bar.update(self._task, completed=now.done, total=now.total, more=more)

    def end(self, outcome: Outcome, again: str) -> None:
        """What was done, and how to go on."""
        if outcome.cut is not None:
            print(f"What was asked before {format_time(outcome.cut)} is no longer retained; it begins there.")
        print(
            f"{outcome.requests:,} requests since {format_time(outcome.since)} scored "
            f"in {outcome.seconds:.1f} s."
        )
        if outcome.early:
            where = ", ".join(map(str, outcome.early))
            print(
                f"It ended early, where the live hosts had come, in partition{'s'[: len(outcome.early) > 1]} "
                f"{where}: they do not run, or are stuck there. Run it again when they do: {again}"
            )
        if not outcome.finished:
            print(f"Stopped before the end. To go on from here: {again}")

    def folding(self, left: int) -> None:
        """Said once."""
        if self._task is not None:
            print("Waiting for the evaluators to fold the votes.", file=sys.stderr)
            self._task = None

    def verdict(self, member: str, verdict: dict[str, Any] | None) -> None:
        """One line."""
        if verdict is None:
            print("No evaluator has folded the votes yet: `chorus status` shows the verdict when one has.")
        else:
            print(f"{member}: {verdict['state']} ({', '.join(verdict['reasons']) or 'no reason given'})")


def _line(**fields: Any) -> None:
    print(jsonlib.dumps(fields), flush=True)
