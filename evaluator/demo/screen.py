"""What the demo shows while it runs: a live table on a terminal, lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evaluator.demo.replay import Progress
from evaluator.demo.story import ROLLING
from evaluator.render import pick_window, ratio, status_table
from streams.times import format_time

Doc = Mapping[str, Any]
#: Seconds between two lines where there is no terminal.
_EVERY = 5.0


class Screen(Protocol):
    """Where the demo tells how it goes."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, text: str, **details: Any) -> None:
        """What is being done now."""

    def show(self, progress: Progress, total: int, doc: Doc | None) -> None:
        """How far it is: what is written of `total` requests, and the status document where there is one."""

    def finish(self, doc: Doc | None, sentences: list[str]) -> None:
        """The last picture."""


def make_screen(*, as_json: bool) -> Screen:
    """JSON lines, or a live table on a terminal, or now and then a line of text."""
    if as_json:
        return JsonScreen()
    console = Console(highlight=False)
    if console.is_terminal:
        return LiveScreen(console)
    return PlainScreen(Console(highlight=False, width=100))


class _Quiet:
    def __enter__(self) -> Self:
        self._last, self._began = 0.0, time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._last < _EVERY:
            return False
        self._last = now
        return True

    def _rate(self, progress: Progress) -> float:
        return (progress.requests + progress.labels) / max(1e-3, time.monotonic() - self._began)


class JsonScreen(_Quiet):
    """One JSON object a line; the last line is the status document."""

    def say(self, text: str, **details: Any) -> None:
        self._print({**details, "event": details.get("event", "message"), "message": text})

    def show(self, progress: Progress, total: int, doc: Doc | None) -> None:
        if self._due():
            self._print(
                {
                    "event": "progress",
                    "time": progress.time,
                    "requests": progress.requests,
                    "of": total,
                    "labels": progress.labels,
                    "watermark": doc["watermark"] if doc else None,
                }
            )

    def finish(self, doc: Doc | None, sentences: list[str]) -> None:
        self._print({"event": "story", "sentences": sentences})
        if doc is not None:
            self._print(doc)

    def _print(self, value: Any) -> None:
        print(json.dumps(value, ensure_ascii=False), flush=True)


class PlainScreen(_Quiet):
    """For logs and pipes: a line every few seconds, and the table at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str, **_: Any) -> None:
        self._console.print(Text(text), soft_wrap=True)
        sys.stdout.flush()

    def show(self, progress: Progress, total: int, doc: Doc | None) -> None:
        if self._due():
            figures = _figures(doc)
            self.say(f"{_where(progress, total, self._rate(progress))}{' · ' + figures if figures else ''}")

    def finish(self, doc: Doc | None, sentences: list[str]) -> None:
        _finish(self._console, doc, sentences)


class LiveScreen(_Quiet):
    """On a terminal: progress, and the table of the rolling window, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        super().__enter__()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str, **_: Any) -> None:
        self._live.update(Text(text), refresh=True)

    def show(self, progress: Progress, total: int, doc: Doc | None) -> None:
        line = Table.grid(padding=(0, 2))
        done = progress.requests + progress.labels
        line.add_row(
            ProgressBar(total=2 * total, completed=done, width=24),
            Text(_where(progress, total, self._rate(progress))),
        )
        parts: list[RenderableType] = [line, Text()]
        if doc is not None:
            parts.append(status_table(doc, ROLLING))
        self._live.update(Group(*parts), refresh=True)

    def finish(self, doc: Doc | None, sentences: list[str]) -> None:
        self._live.stop()
        _finish(self._console, doc, sentences)


def _finish(console: Console, doc: Doc | None, sentences: list[str]) -> None:
    if doc is not None:
        console.print(status_table(doc))
        console.print()
    for sentence in sentences:
        console.print(Text(f"• {sentence}"), soft_wrap=not console.is_terminal)


def _where(progress: Progress, total: int, rate: float) -> str:
    date = format_time(progress.time)[:10] if progress.requests else "waiting"
    return (
        f"{date} · {progress.requests:,} of {total:,} flights ·"
        f" {progress.labels:,} labels · {rate:,.0f} records/s"
    )


def _figures(doc: Doc | None) -> str:
    if doc is None or doc["watermark"] is None:
        return ""
    window = pick_window(doc, ROLLING)
    told = [f"{member['id']} {ratio(member['unique']['precision'])}" for member in window["members"]]
    return f"suite {ratio(window['suite']['flagged']['precision'])}, unique: {', '.join(told)}"
