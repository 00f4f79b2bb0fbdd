"""`chorus demo`: everything up, the year replayed, and a live table of what each member alone contributes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiokafka.errors import KafkaError

from evaluator.demo.flights import Flights, load_flights
from evaluator.demo.replay import Progress, Timeline, replay, timeline
from evaluator.demo.screen import Screen, make_screen
from evaluator.demo.story import Trend, story
from evaluator.history import History
from evaluator.render import pick_window
from evaluator.status import status_of
from evaluator.up import Up
from streams.connect import redis_client
from streams.errors import ChorusError, Unavailable
from streams.settings import Settings
from streams.suite import DAY, Suite, load_suite
from streams.topics import Topics

#: How far (ms of event time) the replay may run ahead of what the evaluator has counted.
AHEAD = 28 * DAY
#: Seconds without anything being counted after which `--exit` gives up.
PATIENCE = 120.0
_POLL = 0.5
#: What lets the evidence decide. A week of the replay is over in a second.
_AUTO = """
[policy]
mode = "auto"
bake = "7d"
"""


def suite_file() -> Path:
    """The demo's suite file."""
    return Path(str(resources.files("evaluator.demo").joinpath("suite.toml")))


def run_demo(
    *,
    speed: float = 0,
    days: int | None = None,
    exit: bool = False,
    auto: bool = False,
    json: bool = False,
) -> int:
    """Run the demo and return the exit code: 0, or 1 when something was not counted in time.

    speed: seconds of event time per second of wall clock, 0 is as fast as possible; days: how many to
    replay, None for the year; exit: stop when all is counted, else stay up until Ctrl-C; auto: candidates go
    live by themselves; json: JSON lines, the last of them the status document. Raises ChorusError where it
    cannot go on.
    """
    screen = make_screen(as_json=json)
    if not auto:
        return asyncio.run(_Demo(suite_file(), speed, days, exit, screen).run())
    with TemporaryDirectory(prefix="chorus-demo-") as folder:
        path = Path(folder) / "suite.toml"
        path.write_text(suite_file().read_text(encoding="utf-8") + _AUTO, encoding="utf-8")
        return asyncio.run(_Demo(path, speed, days, exit, screen).run())


class _Demo:
    def __init__(self, path: Path, speed: float, days: int | None, exit: bool, screen: Screen) -> None:
        self.path, self.speed, self.days, self.exit, self.screen = path, speed, days, exit, screen
        self.suite: Suite = load_suite(path)
        self.doc: dict[str, Any] | None = None
        self.trend = Trend()
        self.progress = Progress(0, 0, 0)
        self.counted = asyncio.Condition()
        self.first: int | None = None
        self.finished = False

    async def run(self) -> int:
        """Until done, or until SIGINT or SIGTERM."""
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        # The table is the news; what goes wrong is still told.
        os.environ.setdefault("CHORUS_LOG_LEVEL", "WARNING")
        up = Up(self.path, on_event=self._event)
        asked = False

        def stop() -> None:
            nonlocal asked
            if asked:
                up.kill()  # whoever asks twice does not want to wait
            elif main:
                main.cancel()
            asked = True

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        with self.screen:
            try:
                return await self._run(up)
            except asyncio.CancelledError:
                if not self.finished:
                    self._finish(["Stopped before everything was counted."])
                return 0

    async def _run(self, up: Up) -> int:
        self.screen.say("reading a year of flights, and starting a broker, a Redis, hosts and evaluators …")
        reading = asyncio.create_task(asyncio.to_thread(load_flights))
        try:
            async with up:
                flights = await reading
                line = timeline(flights, self.days)
                self.trend.since = int(line.at[0]) if len(line) else 0
                watching = asyncio.create_task(self._watch(up.settings, line))
                replaying = asyncio.create_task(self._replay(flights, up.settings))
                telling = asyncio.create_task(self._tell(replaying, up.settings, line))
                assert up.failed
                try:
                    # Watching never ends by itself, and the rest waits for what it sees.
                    ends: list[asyncio.Future[Any]] = [watching, telling, up.failed]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    if up.failed.done():
                        raise ChorusError(up.failed.result())
                    if watching.done():
                        await watching
                    return await telling
                finally:
                    tasks = (watching, replaying, telling)
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            reading.cancel()

    def _event(self, event: dict[str, Any]) -> None:
        told = "everything is up"
        if event["event"] == "restarted":
            told = f"{event['process']} has ended and runs again, as process {event['pid']}"
        self.screen.say(told, **event)

    def _finish(self, sentences: list[str]) -> None:
        self.finished = True
        self.screen.finish(self.doc, sentences)

    async def _replay(self, flights: Flights, settings: Settings) -> None:
        def note(progress: Progress) -> None:
            self.progress = progress

        topics = Topics(self.suite.name)
        kafka, speed, days = settings.kafka, self.speed, self.days
        try:
            await replay(flights, kafka, topics, speed=speed, days=days, progress=note, gate=self._gate)
        except KafkaError as error:
            raise Unavailable(f"the replay lost the broker at {kafka.bootstrap_servers}: {error}") from None

    async def _gate(self, event_time: int) -> None:
        """Wait while `event_time` is too far ahead of what has been counted."""
        if self.first is None:
            self.first = event_time
        start = self.first

        def near() -> bool:
            reached = (self.doc or {}).get("watermark")
            return event_time - (start if reached is None else reached) <= AHEAD

        async with self.counted:
            await self.counted.wait_for(near)

    async def _watch(self, settings: Settings, line: Timeline) -> None:
        """Read the store again and again, and show it."""
        client = redis_client(settings.redis)
        history = History(client, self.suite.name)
        try:
            while True:
                began = time.monotonic()
                with suppress(Unavailable):
                    if await history.refresh():
                        doc = await asyncio.to_thread(status_of, self.suite, history, settings.host.leap)
                        self.trend.add(doc)
                        async with self.counted:
                            self.doc = doc
                            self.counted.notify_all()
                if not self.finished:
                    self.screen.show(self.progress, line.requests, self.doc)
                # Looking must not slow down what is looked at.
                await asyncio.sleep(max(_POLL, 2 * (time.monotonic() - began)))
        finally:
            await client.aclose()

    async def _tell(self, replaying: asyncio.Task[None], settings: Settings, line: Timeline) -> int:
        """When everything has been counted: what has been seen. Then the exit code."""
        await replaying
        missing = await self._counted_or_stuck(line)
        if missing:
            self._finish([f"Not everything was counted in time: {missing}."])
            return 1
        sentences = story(self.doc, self.trend) if self.doc else []
        if not self.exit:
            url = settings.redis.url.get_secret_value()
            sentences.append(
                "All is counted. Press Ctrl-C to stop; until then there is also "
                f"chorus status --suite {self.path} --redis-url {url}"
            )
        self._finish(sentences)
        if not self.exit:
            await asyncio.Event().wait()
        return 0

    async def _counted_or_stuck(self, line: Timeline) -> str:
        """Wait until the store has all of `line`; "" then, else what is missing."""
        seen, since = "", time.monotonic()
        while missing := uncounted(self.doc, line, self.suite.bucket):
            picture = f"{missing} {self.doc and self.doc['watermark']}"
            if picture != seen:
                seen, since = picture, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                return missing
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0), self.counted:
                    await self.counted.wait()
        return ""


def uncounted(doc: dict[str, Any] | None, line: Timeline, bucket: int) -> str:
    """What of `line` the status document lacks so far, "" when it has all of it.

    The last bucket stays open, because no later request closes it: what is in there is not waited for.
    """
    if not len(line):
        return ""
    requested = line.at[~line.label]
    last = int(requested[-1]) // bucket * bucket
    try:
        window = pick_window(doc) if doc else None
    except ChorusError:
        window = None
    if window is None or window["end"] is None:
        return "no status yet"
    if window["end"] < last:
        return "the watermark has not reached the last request"
    behind = [m["id"] for m in window["members"] if m["watermark"] is None or m["watermark"] < last]
    if behind:
        return f"{', '.join(behind)} have not scored everything"
    inside = int(((requested >= window["start"]) & (requested < window["end"])).sum())
    if window["volume"] < inside:
        return f"{inside - window['volume']} requests"
    open_labels = [window["suite"][part]["unlabelled"] for part in ("flagged", "unflagged")]
    if None in open_labels or sum(open_labels):
        return f"the labels of {sum(n or 0 for n in open_labels)} requests"
    return ""
