"""The command `chorus`. Modules that only one command needs are imported in it: `chorus status` is quick."""

from __future__ import annotations

import asyncio
import json as jsonlib
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from evaluator.cli.lazily import add_commands
from evaluator.cli.options import Json, RedisUrl, Servers, SuiteFile, open_suite
from evaluator.cli.run import fail, guarded
from streams.errors import ConfigError

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.suite import Suite

app = App(
    name="chorus",
    help="Run a suite of binary classifiers as one, whose answer is the OR of the live members, and see what "
    "each of them alone contributes. `chorus demo` shows it; `chorus up` runs your own.",
    version=lambda: metadata.version("chorus"),
)
add_commands(app)

WebPort = Annotated[
    int | None,
    Parameter(
        name="--web-port",
        help="Where /metrics, /healthz and /readyz are; 0 is any free port.",
        validator=Number(gte=0, lte=65535),
    ),
]
View = Annotated[
    Literal["latest", "matured"], Parameter(help="Up to the watermark, or up to where labels have come.")
]
Name = Annotated[str, Parameter(name="--name", help="What this process calls itself in logs and records.")]

PROCESSES = Group("Processes", sort_key=1)
LOOKING = Group("Looking", sort_key=2)
KEEPING = Group("Keeping", sort_key=3)

topics_app = App(name="topics", help="The suite's topics on the broker.", group=KEEPING)
app.command(topics_app)


def _host(
    stage: Any,
    suite_file: Path,
    members: list[str] | None,
    name: str,
    opened: tuple[Suite, Settings],
    share: tuple[int, int] = (0, 1),
    isolate: bool = False,
) -> int:
    from members.host import HostService
    from members.loading import extend_path
    from members.registry.log import RegistryLog
    from streams.app import run_worker
    from streams.metrics import Metrics

    suite, settings = opened
    extend_path(suite_file)
    metrics = Metrics()

    def make() -> HostService:
        registry = RegistryLog(settings.kafka, suite.name)
        more: dict[str, Any] = {"metrics": metrics, "registry": registry, "share": share, "isolate": isolate}
        return HostService(suite, settings, stage=stage, members=members or [], name=name, **more)

    return run_worker(name, suite, settings, make, metrics=metrics)


def _share(text: str, named: list[str] | None) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise ConfigError(f"--share {text}: write it as 0/2 and 1/2 for the two of two shadow hosts")
    if named and text != "0/1":
        raise ConfigError("--share and --member exclude each other: name members, or take a share of all")
    return int(number), int(of)


@app.command(group=PROCESSES)
def serve(
    *,
    suite: SuiteFile,
    isolate: Annotated[bool, Parameter(negative="", help="Give each member a process of its own.")] = False,
    bootstrap_servers: Servers = None,
    redis_url: RedisUrl = None,
    web_port: WebPort = None,
    name: Name = "live-host",
) -> int:
    """Run the live host: all live members in one process, answering decisions."""
    opened = open_suite(suite, bootstrap_servers, redis_url, web_port)
    return _host("live", suite, None, name, opened, isolate=isolate)


@app.command(group=PROCESSES)
def shadow(
    *,
    suite: SuiteFile,
    member: Annotated[
        list[str] | None,
        Parameter(name="--member", negative="", help="name@version, and no other; all by default."),
    ] = None,
    share: Annotated[
        str, Parameter(help="Which part of the candidates: 0/2 and 1/2 are two halves.")
    ] = "0/1",
    isolate: Annotated[
        bool, Parameter(negative="", help="Give each candidate a process of its own.")
    ] = False,
    bootstrap_servers: Servers = None,
    redis_url: RedisUrl = None,
    web_port: WebPort = None,
    name: Name = "shadow-host",
) -> int:
    """Run a shadow host: candidates that score the same requests, and never act."""
    opened = open_suite(suite, bootstrap_servers, redis_url, web_port)
    return _host("shadow", suite, member, name, opened, _share(share, member), isolate)


@app.command(group=PROCESSES)
def evaluate(
    *,
    suite: SuiteFile,
    bootstrap_servers: Servers = None,
    redis_url: RedisUrl = None,
    web_port: WebPort = None,
    name: Name = "evaluator",
) -> int:
    """Run an evaluator: votes and labels from Kafka into the store. Any number may run at once."""
    from evaluator.promotion.registrar import registry_log
    from evaluator.service import EvaluatorService
    from streams.app import run_worker
    from streams.metrics import Metrics

    declared, settings = open_suite(suite, bootstrap_servers, redis_url, web_port)
    metrics = Metrics()
    return run_worker(
        name,
        declared,
        settings,
        lambda: EvaluatorService(
            declared, settings, name=name, metrics=metrics, registry=registry_log(declared, settings)
        ),
        metrics=metrics,
    )


@app.command(group=PROCESSES)
def up(
    *,
    suite: SuiteFile,
    bootstrap_servers: Annotated[
        str | None,
        Parameter(help="A Kafka that is there; else CHORUS_BOOTSTRAP_SERVERS, else it brings one."),
    ] = None,
    redis_url: Annotated[
        str | None, Parameter(help="A Redis that is there; else CHORUS_REDIS_URL, else it brings one.")
    ] = None,
    evaluators: Annotated[int, Parameter(help="How many evaluators.", validator=Number(gte=1))] = 1,
    shadow_hosts: Annotated[
        int | None, Parameter(help="How many shadow hosts; at most 2 by default.", validator=Number(gte=0))
    ] = None,
    json: Json = False,
) -> int:
    """Run everything in one foreground command, with a Kafka and a Redis of its own unless they are named."""
    from evaluator.up import Up, run_up
    from streams.app import set_up_logging
    from streams.settings import load_settings

    set_up_logging(load_settings().log_level)
    whole = Up(
        suite,
        bootstrap_servers=bootstrap_servers,
        redis_url=redis_url,
        evaluators=evaluators,
        shadow_hosts=shadow_hosts,
    )
    return asyncio.run(run_up(whole, as_json=json))


@app.command(group=PROCESSES)
def demo(
    *,
    speed: Annotated[float, Parameter(help="Seconds of event time per second; 0 is as fast as it goes.")] = 0,
    days: Annotated[int | None, Parameter(help="How many days of the year to replay.")] = None,
    exit: Annotated[bool, Parameter(negative="", help="Stop when all is counted.")] = False,
    auto: Annotated[bool, Parameter(negative="", help="Candidates go live by themselves.")] = False,
    json: Json = False,
) -> int:
    """Replay a real year of flights, and show what each member alone contributes."""
    from evaluator.demo.run import run_demo

    return run_demo(speed=speed, days=days, exit=exit, auto=auto, json=json)


@app.command(group=LOOKING)
def status(
    *,
    suite: SuiteFile,
    redis_url: RedisUrl = None,
    window: Annotated[
        str | None, Parameter(help="Which window of the suite file to show (24h); the longest by default.")
    ] = None,
    view: View = "latest",
    json: Json = False,
) -> int:
    """Show what is known of the suite, from Redis alone."""
    from evaluator.status import read_status

    document = asyncio.run(read_status(*open_suite(suite, None, redis_url)))
    if json:
        print(jsonlib.dumps(document))
        return 0
    from rich.console import Console

    from evaluator.render import status_table

    Console().print(status_table(document, window, view))
    return 0


@app.command(group=LOOKING)
def what_if(
    *,
    suite: SuiteFile,
    redis_url: RedisUrl = None,
    add: Annotated[
        list[str] | None, Parameter(negative="", help="A member to add to the live ones; may be given again.")
    ] = None,
    drop: Annotated[
        list[str] | None, Parameter(negative="", help="A live member to drop; may be given again.")
    ] = None,
    window: Annotated[
        str | None, Parameter(help="Which window of the suite file (24h); its last one by default.")
    ] = None,
    view: View = "latest",
    json: Json = False,
) -> int:
    """Show what another suite would have done: exact, from what is stored, for any members."""
    from evaluator.cli.whatif import read_what_if, show

    declared, settings = open_suite(suite, None, redis_url)
    document = asyncio.run(read_what_if(declared, settings, add or [], drop or [], window, view))
    if json:
        print(jsonlib.dumps(document))
    else:
        show(document)
    return 0


@app.command(group=LOOKING)
def examples(
    name: Annotated[str, Parameter(help="A member, with its version where there are several.")],
    /,
    *,
    suite: SuiteFile,
    redis_url: RedisUrl = None,
    false: Annotated[bool, Parameter(negative="", help="Only what is labelled false.")] = False,
    true: Annotated[bool, Parameter(negative="", help="Only what is labelled true.")] = False,
    unlabelled: Annotated[bool, Parameter(negative="", help="Only what has no label.")] = False,
    limit: Annotated[
        int | None,
        Parameter(help="How many at most; 20 by default, all with --jsonl.", validator=Number(gte=1)),
    ] = None,
    json: Json = False,
    jsonl: Annotated[
        str | None,
        Parameter(help="A file, or - for standard output: one per line.", allow_leading_hyphen=True),
    ] = None,
) -> int:
    """Show requests that only this member flagged, with their features: a sample."""
    from evaluator.cli.examples import one_of, run

    wanted = one_of(false, true, unlabelled)
    return run(*open_suite(suite, None, redis_url), name, wanted, limit, as_json=json, jsonl=jsonl)


@app.command(group=LOOKING)
def watch(
    *,
    suite: SuiteFile,
    redis_url: RedisUrl = None,
    window: Annotated[
        str | None, Parameter(help="Which window of the suite file to show (24h); the longest by default.")
    ] = None,
    view: View = "latest",
) -> int:
    """Show the suite live, until Ctrl-C."""
    from evaluator.cli.watch import watch_status

    return asyncio.run(watch_status(*open_suite(suite, None, redis_url), window, view))


@app.command(group=LOOKING)
def reviews(*, suite: SuiteFile, redis_url: RedisUrl = None, json: Json = False) -> int:
    """Show which requests reviewers were asked about, and what came back."""
    import time

    from evaluator.reviewer import read_reviews

    document = asyncio.run(read_reviews(*open_suite(suite, None, redis_url), time.time_ns() // 1_000_000))
    if json:
        print(jsonlib.dumps(document))
        return 0
    from rich.console import Console

    from evaluator.cli.reviews import reviews_table

    Console().print(reviews_table(document))
    return 0


@app.command(group=KEEPING)
def rebuild(
    *,
    suite: SuiteFile,
    bootstrap_servers: Servers = None,
    redis_url: RedisUrl = None,
    fresh: Annotated[
        bool,
        Parameter(negative="", help="Lay the store out anew (bucket, shards); stop the evaluators first."),
    ] = False,
    json: Json = False,
) -> int:
    """Forget the suite's store and make it anew from Kafka; evaluators may go on running."""
    from evaluator.cli.watch import rebuild_with_progress

    opened = open_suite(suite, bootstrap_servers, redis_url)
    positions = asyncio.run(rebuild_with_progress(*opened, fresh=fresh, quiet=json))
    if json:
        print(jsonlib.dumps({"event": "rebuilt", "positions": positions}))
    return 0


app.command(
    "evaluator.cli.alerts:alerts",
    name="alerts",
    group=LOOKING,
    help="Show which alerts fire now, and the last events.",
)
app.command(  # imported when it is called
    "evaluator.cli.backfill:backfill",
    name="backfill",
    group=KEEPING,
    help="Let a shadow candidate score retained requests, as if it had been there.",
)


@topics_app.command
def create(*, suite: SuiteFile, bootstrap_servers: Servers = None, json: Json = False) -> int:
    """Make the suite's topics; those that are there are left as they are."""
    from streams.topics import create_topics

    declared, settings = open_suite(suite, bootstrap_servers)
    made = asyncio.run(create_topics(declared, settings.kafka))
    if json:
        print(jsonlib.dumps(made))
    else:
        for name, state in made.items():
            print(f"{name:<40} {state}")
    return 0


def main() -> None:
    """The entry point."""
    sys.exit(guarded(lambda: app(sys.argv[1:], result_action="return_value", exit_on_error=False), fail))


if __name__ == "__main__":
    main()
