"""From shadow to live on real processes, one member at a time, while they are killed at every step."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from pydantic import SecretStr

from evaluator.history import History
from evaluator.keys import slot_keys
from members.registry.lifecycle import Registry
from members.registry.log import RegistryLog
from streams.connect import redis_client
from streams.errors import Unavailable
from streams.settings import Kafka, Redis
from tests.e2e.clients import read_topic
from tests.e2e.drive import CHORUS, Up, environment, until
from tests.e2e.parade import DAY, HOUR, PER_DAY, START, Parade, fires, write_suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

MEMBERS = ("base@1", "first@1", "twin@1", "second@1", "brittle@1", "bad@1")
#: The first time that the registry shows this of this member → the kind of process that is killed there.
KILLS = {
    ("first@1", "recommended"): "evaluator",
    ("first@1", "approved"): "evaluator",
    ("first@1", "deploying"): "live-host",
    ("first@1", "ready"): "evaluator",
    ("first@1", "swapped"): "live-host",
    ("first@1", "promoted"): "evaluator",
    ("twin@1", "superseded"): "shadow-host",
    ("second@1", "deploying"): "evaluator",
    ("second@1", "swapped"): "evaluator",
    ("second@1", "promoted"): "live-host",
    ("brittle@1", "swapped"): "shadow-host",
    ("brittle@1", "refused"): "evaluator",
}


def kafka_of(up: Up, broker: Any) -> Kafka:
    patience = 1000 if broker.name == "embedded" else 0
    return Kafka(bootstrap_servers=up.bootstrap, session_timeout=4000, fetch_max_wait=50, patience=patience)


async def chorus(up: Up, *arguments: str) -> str:
    """One `chorus` command that must succeed."""
    servers = ["--bootstrap-servers", up.bootstrap] if arguments[0] != "status" else []
    command = [CHORUS, *arguments, "--suite", str(up.suite.path), *servers]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment(), capture_output=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode())


class Watcher:
    """Follows the registry, kills where the plan says so, and samples the status meanwhile."""

    def __init__(self, up: Up, log: RegistryLog) -> None:
        self.up, self.log = up, log
        self.redis = redis_client(Redis(url=SecretStr(up.redis_url)))
        self.over = False
        self.seen: set[tuple[str, str]] = set()
        self.marks: list[tuple[str, int]] = []
        self.killed: list[tuple[str, str]] = []

    @property
    def registry(self) -> Registry:
        return self.log.registry

    async def follow(self) -> None:
        at = 0
        while not self.over:
            await self.log.poll(100)
            while at < len(self.log.recorded):
                event, ignored = self.log.recorded[at].event, self.log.recorded[at].ignored
                at += 1
                place = (event.member, event.kind)
                if ignored is None and place not in self.seen:
                    self.seen.add(place)
                    if kind := KILLS.get(place):
                        await asyncio.to_thread(self.up.kill, await self.doing(kind))
                        self.killed.append(place)

    async def doing(self, kind: str) -> str:
        """The process of that kind that does the work: of evaluators the one that holds the slot."""
        names = self.up.names(kind)
        if kind == "evaluator":
            holder = await self.redis.hget(slot_keys(self.up.suite.name)[0], "holder")
            held = [name for name in names if holder and holder.decode().startswith(name)]
            return (held or names)[0]
        return names[0]

    async def sample(self) -> None:
        """How far evaluation has come, by what is going on in the registry meanwhile."""
        history = History(self.redis, self.up.suite.name)
        while not self.over:
            with suppress(Unavailable):
                await history.refresh(buckets=False)
                mark, deployment = history.watermark("base@1"), self.registry.deployment
                if mark is not None:
                    self.marks.append((deployment.id if deployment else "", mark))
            await asyncio.sleep(0.1)

    async def until(self, condition: Callable[[Registry], Any], why: str, seconds: float = 150.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self.registry):
            states = {name: entry.state for name, entry in self.registry.entries.items()}
            assert time.monotonic() < deadline, f"{why}: {states}"
            await asyncio.sleep(0.1)


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Wait for what was told to end; what went wrong in it is raised."""
    await asyncio.wait_for(asyncio.gather(*tasks), 60)


def state(name: str) -> Callable[[Registry], str]:
    return lambda registry: registry.entries[name].state


def test_two_good_ones_a_twin_a_bad_one_and_one_that_breaks(tmp_path, broker):
    """Both good ones go live one after the other under constant traffic, whatever is killed meanwhile."""
    arguments = ["--evaluators", "2", "--shadow-hosts", "2"]
    if broker.name != "embedded":
        arguments += ["--bootstrap-servers", broker.bootstrap_servers]
    with Up(write_suite(tmp_path, members=MEMBERS), *arguments) as up:
        up.wait()
        asyncio.run(scenario(up, broker))
        assert up.stop() == 0


@asynccontextmanager
async def watching(up: Up, broker: Any, *, pace: float) -> AsyncIterator[tuple[Parade, Watcher]]:
    """Constant traffic under a watcher; afterwards both have ended, and the registry is read to its end."""
    done = asyncio.Event()
    parade = Parade(up.suite, up.bootstrap, pace=pace)
    async with RegistryLog(kafka_of(up, broker), up.suite.name, keep=True) as log:
        watcher = Watcher(up, log)
        marching = asyncio.create_task(parade.march(done.is_set))
        tasks = [asyncio.create_task(each) for each in (watcher.follow(), watcher.sample())]
        try:
            yield parade, watcher
        finally:
            done.set()
            await ended(marching)
            watcher.over = True
            await ended(*tasks)
            await watcher.redis.aclose()
        await log.refresh()


async def scenario(up: Up, broker: Any) -> None:
    async with watching(up, broker, pace=0.6) as (parade, watcher):
        await play(up, watcher)
    check_history(watcher)
    check_evaluation(watcher)
    await check_decisions(up, parade, watcher.log, revisions={1, 2, 3, 4, 5})


async def play(up: Up, watcher: Watcher) -> None:
    """What people do, and what they wait for."""
    for name in ("first@1", "second@1", "twin@1", "brittle@1"):
        await watcher.until(lambda r, n=name: state(n)(r) == "recommended", f"{name} is not recommended")
    for name in ("first@1", "twin@1", "second@1"):
        await chorus(up, "approve", name, "--reason", "the evidence is clear")
    await watcher.until(lambda r: state("first@1")(r) == "live", "first@1 is not live")
    await watcher.until(lambda r: r.entries["twin@1"].by == "first@1", "the twin was not told")
    await watcher.until(lambda r: state("second@1")(r) == "live", "second@1 is not live")
    await chorus(up, "approve", "brittle@1", "--reason", "looks good in shadow")
    await watcher.until(
        lambda r: ("brittle@1", "rolled_back") in watcher.seen, "brittle@1 was not rolled back"
    )


def check_history(watcher: Watcher) -> None:
    """One at a time, in the order of the lifecycle; the bad one never moved; everybody was killed."""
    registry = watcher.registry
    assert set(registry.live) == {"base@1", "first@1", "second@1"}
    accepted = [r.event for r in watcher.log.recorded if r.ignored is None]
    assert not [event for event in accepted if event.member == "bad@1"]
    assert registry.entries["bad@1"].state == "shadow"
    told = next(e for e in accepted if (e.member, e.kind) == ("twin@1", "superseded"))
    assert told.by == "first@1"
    assert "redundant" in told.why
    back = next(e for e in accepted if (e.member, e.kind) == ("brittle@1", "rolled_back"))
    assert "the disk is full" in back.why
    lives = [set(ids) - {"base@1"} for _, ids in sorted(registry.lives.items())]
    assert lives == [
        set(), {"first@1"}, {"first@1", "second@1"}, {"first@1", "second@1", "brittle@1"},
        {"first@1", "second@1"},
    ]  # fmt: skip
    for name in ("first@1", "second@1"):
        kinds = [e.kind for e in accepted if e.member == name and e.kind not in ("ready", "reranked")]
        assert kinds == ["recommended", "approved", "queued", "deploying", "swapped", "promoted"], (
            name,
            kinds,
        )
    assert set(watcher.killed) == set(KILLS)


def check_evaluation(watcher: Watcher) -> None:
    """Evaluation went on while a member was deployed and baked.

    Nothing is asked of one that is rolled back: it may last a second, and its evaluator was killed.
    """
    promoted = [r.event.deployment for r in watcher.log.recorded if r.event.kind == "promoted"]
    assert len(promoted) == 2
    for deployment in promoted:
        sampled = [at for at, (during, _) in enumerate(watcher.marks) if during == deployment]
        before, after = watcher.marks[sampled[0]][1], watcher.marks[sampled[-1] + 1][1]
        assert after - before >= 6 * HOUR, (deployment, before, after, len(sampled))


async def decided(up: Up, parade: Parade) -> list[dict[str, Any]]:
    """All decisions, once every request that was sent has one."""
    wanted = set(parade.sent)

    def missing(records: list[Any]) -> set[str]:
        return wanted - {json.loads(record.value)["request_id"] for record in records}

    records = await read_topic(up.bootstrap, up.suite.topic("decisions"), missing)
    return [json.loads(record.value) for record in records]


async def check_decisions(up: Up, parade: Parade, log: RegistryLog, revisions: set[int]) -> None:
    """Every request is decided; a revision gives it one answer, which is the OR of the revision's members."""
    answers: dict[tuple[str, int], set[str]] = defaultdict(set)
    seen: Counter[int] = Counter()
    for decision in await decided(up, parade):
        revision, features = decision["revision"], parade.sent[decision["request_id"]]
        assert set(decision["fired"]) <= set(log.registry.lives[revision])
        assert decision["judgement"] == bool(decision["fired"])
        expected = {who for who in log.registry.lives[revision] if fires(who, features)}
        if "brittle@1" in expected:  # it abstains where it fails
            expected = expected - {"brittle@1"} | {"brittle@1"} & set(decision["fired"])
        assert set(decision["fired"]) == expected, decision
        answers[decision["request_id"], revision].add(json.dumps(sorted(decision["fired"])))
        seen[revision] += 1
    twice = {place: given for place, given in answers.items() if len(given) > 1}
    assert not twice
    assert set(seen) <= revisions, seen
    assert {1, max(revisions)} <= set(seen), seen


def test_a_member_that_ends_its_host_is_rolled_back(tmp_path, embedded_broker):
    """The live host dies with it, is started anew, dies again, and then goes on without it."""
    # The bake outlasts two deaths of the host, however long they take on this machine.
    with Up(write_suite(tmp_path, members=("base@1", "deadly@1"), bake="60d")) as up:
        up.wait()
        asyncio.run(deadly(up, embedded_broker))
        assert up.pids
        assert up.restarts.count("live-host-0") == 2
        assert up.stop() == 0


async def deadly(up: Up, broker: Any) -> None:
    async with watching(up, broker, pace=2.0) as (parade, watcher):
        await watcher.until(lambda r: "deadly@1" in r.entries, "the suite was not founded")
        await chorus(up, "promote", "deadly@1", "--reason", "it cannot do any harm")
        await watcher.until(
            lambda r: ("deadly@1", "rolled_back") in watcher.seen, "deadly@1 was not rolled back"
        )
    back = next(r.event for r in watcher.log.recorded if r.event.kind == "rolled_back")
    assert "ended 2 times while it was baking" in back.why
    assert watcher.registry.live == ("base@1",)
    await check_decisions(up, parade, watcher.log, revisions={1, 2, 3})


def test_a_candidate_of_today_is_recommended_after_its_backfill(tmp_path, embedded_broker):
    """Added with one command over a month of retained traffic: its verdict is there when that is replayed."""
    with Up(write_suite(tmp_path, members=("base@1",))) as up:
        up.wait()
        asyncio.run(latecomer(up, embedded_broker))
        assert up.stop() == 0


async def latecomer(up: Up, broker: Any) -> None:
    parade = Parade(up.suite, up.bootstrap, pace=0.0)
    await parade.march(lambda: parade.time >= START + 30 * DAY)
    async with RegistryLog(kafka_of(up, broker), up.suite.name, keep=True) as log:
        watcher = Watcher(up, log)
        following = asyncio.create_task(watcher.follow())
        added = ["members", "add", "late@1", "--loader", "choir:Above", "--owner", "lea@example.com"]
        added += ["--param", "feature=b", "--param", "above=0.92", "--reason", "a new idea"]
        await chorus(up, *added, "--trained-through", "2025-02-28T00:00:00Z")
        await watcher.until(lambda r: "late@1" in r.shadow, "late@1 was not added")
        told = await chorus(up, "backfill", "late", "--since", "40d", "--json", "--redis-url", up.redis_url)
        done = [event for line in told.splitlines() if (event := json.loads(line))["event"] == "done"]
        assert done, told
        await watcher.until(lambda r: state("late@1")(r) == "recommended", "late@1 is not recommended")
        watcher.over = True
        await ended(following)
        await watcher.redis.aclose()
    found = await asyncio.to_thread(up.status)
    late = next(member for member in found["windows"][0]["members"] if member["id"] == "late@1")
    assert late["verdict"]["state"] == "PROMOTE"
    assert late["verdict"]["blocks"] >= 27
    # A member that no suite file names is in the registry alone; a rebuild must know it nevertheless.
    await chorus(up, "rebuild", "--redis-url", up.redis_url)
    deadline = time.monotonic() + 60
    while other := differing(found, await asyncio.to_thread(up.status)):
        assert time.monotonic() < deadline, other


def differing(one: Any, two: Any, where: str = "") -> list[str]:
    """Where two documents differ, and in what."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [each for key in one for each in differing(one[key], two[key], f"{where}.{key}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return [each for i in range(len(one)) for each in differing(one[i], two[i], f"{where}[{i}]")]
    return [] if one == two else [f"{where}: {one} and {two}"]


def test_a_candidate_that_ends_its_host_does_not_end_the_evaluation_of_others(tmp_path, embedded_broker):
    """After two crashes its shadow host runs each candidate in a process of its own, and goes on."""
    with Up(write_suite(tmp_path, members=("base@1", "first@1", "fatal@1")), "--shadow-hosts", "1") as up:
        up.wait()
        parade = Parade(up.suite, up.bootstrap, pace=0.0)
        asyncio.run(parade.march(lambda: parade.time >= START + 3 * DAY))

        def scored() -> dict[str, int | None]:
            windows = [w for w in up.status()["windows"] if (w["name"], w["view"]) == ("7d", "latest")]
            return {member["id"]: member["scored"] for member in windows[0]["members"]}

        def done() -> bool:
            found = scored()
            return found["base@1"] == found["first@1"] and (found["base@1"] or 0) > 2.5 * PER_DAY

        until(done, "first@1 was not scored", seconds=90)
        assert up.pids
        assert set(up.restarts) == {"shadow-host-0"}
        assert "shadow-host-0 crashes again and again: from now on with --isolate" in up.stderr
        assert up.stop() == 0


def test_a_live_member_that_ends_its_host_does_not_end_the_answers_of_others(tmp_path, embedded_broker):
    """After two crashes the live host runs each member in a process of its own, and the OR goes on."""
    both = ("base@1", "fatal@1")
    with Up(write_suite(tmp_path, members=both, live=both)) as up:
        up.wait()
        parade = Parade(up.suite, up.bootstrap, pace=0.0)
        asyncio.run(parade.march(lambda: parade.time >= START + DAY))
        decisions = asyncio.run(decided(up, parade))
        assert len(decisions) >= len(parade.sent) > 0.9 * PER_DAY
        for decision in decisions:
            fired = fires("base@1", parade.sent[decision["request_id"]])
            assert decision["fired"] == (["base@1"] if fired else []), decision
        assert up.pids
        assert set(up.restarts) == {"live-host-0"}
        assert "live-host-0 crashes again and again: from now on with --isolate" in up.stderr
        assert up.stop() == 0
