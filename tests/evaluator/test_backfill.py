"""A candidate that is new has the figures and the verdict of one that was there, once it is backfilled."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from evaluator.cli.backfill import Bars, Lines, check_backfill, check_since, parse_since
from members.ownership import Owned
from members.replay import Place, Progress, outcome
from streams.embedded import EmbeddedRedis
from streams.errors import ConfigError
from streams.suite import parse_suite
from streams.watermark import Watermark
from tests.conftest import Broker
from tests.evaluator.backfill_week import DAY, START, Week, lines, suite_text

pytestmark = pytest.mark.timeout(120)

FIGURES = (
    "watermark",
    "covered",
    "scored",
    "abstained",
    "errors",
    "flagged",
    "unique",
    "unique_recall",
)

Scenario = Callable[[Week], Awaitable[None]]


@pytest.fixture
def run(broker: Broker, valkey: EmbeddedRedis, tmp_path: Path) -> Callable[[Scenario, int], None]:
    """Runs a scenario on a week of n requests."""

    def play(scenario: Scenario, n: int) -> None:
        async def whole() -> None:
            async with Week(broker, valkey.url, tmp_path, n) as week:
                await scenario(week)

        asyncio.run(whole())

    return play


def same_as_early(week: Week, document: dict[str, Any], name: str) -> None:
    for window in ("24h", "7d"):
        there, new = week.member(document, "early", window), week.member(document, name, window)
        assert {key: new[key] for key in FIGURES} == {key: there[key] for key in FIGURES}
        assert new["overlap"]["base@1"] == there["overlap"]["base@1"]


def test_a_candidate_added_today_has_its_verdict_today(run) -> None:
    """After the replay of a week it is promoted, on the same counts as one that was there all the time.

    One that was trained on a part of the week has the same counts, and its verdict leaves that part out. A
    second backfill does nothing.
    """

    async def scenario(week: Week) -> None:
        code, said, errors = await week.backfill("late", "--since", "10d")
        assert code == 0, errors
        done, verdict = said[-2:]
        assert [each["event"] for each in said[:-2]] == ["progress"] * (len(said) - 2)
        assert done["event"] == "done"
        assert done["requests"] == week.n + 10
        assert (verdict["event"], verdict["member"], verdict["verdict"]["state"]) == (
            "verdict", "late@1", "PROMOTE",
        )  # fmt: skip
        document = await week.status()
        same_as_early(week, document, "late")
        there = week.member(document, "early")["verdict"]
        assert {**week.member(document, "late")["verdict"], "e_value": 0} == {**there, "e_value": 0}

        code, said, errors = await week.backfill("taught@1", "--since", "2024-01-01")
        assert code == 0, errors
        document = await week.status()
        same_as_early(week, document, "taught")
        taught = week.member(document, "taught")["verdict"]
        assert taught["blocks"] == there["blocks"] - 17  # those that begin at or before what it knows

        code, said, errors = await week.backfill("late", "--since", "2090-01-01")
        assert (code, said) == (2, []), errors
        assert "lies after the suite's watermark" in errors

        code, said, errors = await week.backfill("late", "--since", "10d")
        assert code == 0, errors
        assert said[-2]["requests"] == 0
        same_as_early(week, await week.status(), "late")

    run(scenario, 20_000)


@pytest.mark.slow
def test_one_that_is_killed_goes_on(run) -> None:
    """kill -9 and Ctrl-C in the middle, then once more to the end: the counts are those of `early`.

    Of a member that fails on everything there is one sentence, and nothing in the figures.
    """

    async def scenario(week: Week) -> None:
        once = await half(week)
        once.kill()
        await asyncio.to_thread(once.wait, 20)
        twice = await half(week)
        twice.send_signal(signal.SIGINT)
        out, errors = await asyncio.to_thread(twice.communicate, timeout=20)
        assert twice.returncode == 130, errors.decode()
        stopped = lines(out.splitlines())[-1]
        assert stopped["event"] == "stopped"
        assert stopped["resume"].startswith("chorus backfill slow --since 11d")
        code, said, errors = await week.backfill("slow", "--since", "11d")
        assert code == 0, errors
        assert said[-2]["requests"] < week.n
        same_as_early(week, await week.status(), "slow")

        code, said, errors = await week.backfill("broken", "--since", "7d")
        assert code == 1
        assert "not with me" in errors
        assert "Traceback" not in errors
        assert [each["event"] for each in said] == ["progress"] * len(said)
        broken = week.member(await week.status(), "broken")
        assert (broken["covered"], broken["scored"], broken["errors"]) == ([], 0, 0)

    async def half(week: Week) -> Any:
        process = week.start("slow", "--since", "11d")

        def read() -> None:
            assert process.stdout
            for line in process.stdout:
                if lines([line])[0]["requests"]:
                    return
            raise AssertionError(process.stderr.read().decode() if process.stderr else "")

        await asyncio.wait_for(asyncio.to_thread(read), 30)
        return process

    run(scenario, 6_000)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("base@1", "base@1 is live, .* only a shadow can be backfilled"),
        ("late@1", "late@1 has no trained_through, .* with --trained-through"),
    ],
)
def test_what_cannot_be_backfilled_is_refused(name: str, sentence: str) -> None:
    """A live member has answered already; of a candidate it must be known what it was made with."""
    suite = parse_suite(suite_text("refused", {"base": START}))
    with pytest.raises(ConfigError, match=sentence):
        check_backfill(suite, name)


def test_when_to_begin() -> None:
    """A duration is taken from the suite's watermark, an instant as it is; nothing else is one."""
    assert parse_since("7d") == (None, 7 * DAY)
    assert parse_since("1970-01-03T00:00:00Z") == (2 * DAY, 0)
    with pytest.raises(ConfigError, match="write it like 7d, or 2025"):
        parse_since("soon")


def test_an_instant_after_all_that_was_asked_is_refused() -> None:
    """After the watermark, or where none is known after now: there is nothing to replay, and it says so."""
    check_since(2 * DAY, 2 * DAY, 0)
    check_since(2 * DAY, None, 2 * DAY)
    with pytest.raises(
        ConfigError, match="--since 1970-01-04T00:00:00Z lies after the suite's watermark, 1970-01-03T"
    ):
        check_since(3 * DAY, 2 * DAY, 9 * DAY)
    with pytest.raises(
        ConfigError, match=r"lies after now, 1970-01-03T00:00:00Z: .* earlier instant, or a duration"
    ):
        check_since(3 * DAY, None, 2 * DAY + 7)


@pytest.mark.parametrize(
    ("lag", "said"),
    [
        (1234, "the live hosts are 1,234 requests behind"),
        (None, "waiting for what the live hosts have answered"),
    ],
)
def test_the_bar_says_what_is_waited_for(lag: int | None, said: str) -> None:
    """Also while it is not known how far behind the live hosts are."""
    bars = Bars("late@1")
    bars.progress(Progress(0, 10, 0, None, 1.0, throttled=True, live_lag=lag))
    assert bars._bar.tasks[0].fields["more"].endswith(said)


def test_one_that_ended_before_its_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs the partitions, for people what is to be done about it as well."""
    places = {}
    for p in (0, 1, 2):
        owned = Owned(p, Watermark(1, 1), position=40, done=40)
        places[p] = Place(TopicPartition("s.requests", p), owned, 0, 100, finished=True, early=p > 0)
    done = outcome(places, 0, 1000, 2.0)
    Lines().end(done, "chorus backfill late")
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["early"]) == ("done", [1, 2])
    Bars("late@1").end(done, "chorus backfill late")
    assert "in partitions 1, 2: they do not run, or are stuck there. Run it again when they do: chorus" in (
        capsys.readouterr().out
    )
    for place in places.values():
        place.early = False
    Bars("late@1").end(outcome(places, 0, 1000, 2.0), "chorus backfill late")
    assert "early" not in capsys.readouterr().out
