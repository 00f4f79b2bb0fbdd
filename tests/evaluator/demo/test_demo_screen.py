"""What the demo prints."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from evaluator.demo.replay import Progress
from evaluator.demo.screen import JsonScreen, LiveScreen, PlainScreen, make_screen

NONE = {"n": None, "positive": None, "negative": None, "unlabelled": None, "precision": None}
MEMBER = {
    "id": "queue@1",
    "stage": "live",
    "owner": "ana@example.com",
    "scored": 10,
    "abstained": 0,
    "errors": 0,
    "flagged": NONE,
    "unique": {**NONE, "precision": 0.75},
    "unique_recall": None,
    "overlap": {},
}
WINDOW = {
    "view": "latest",
    "start": 0,
    "end": 86_400_000,
    "volume": 10,
    "suite": {"flagged": {**NONE, "precision": 0.5}, "recall": None},
    "members": [MEMBER],
}
DOC = {
    "suite": "flights",
    "revision": 1,
    "watermark": 86_400_000,
    "labels_through": None,
    "counters": {},
    "windows": [{**WINDOW, "name": name} for name in ("28d", "365d")],
}
HALF = Progress(43_200_000, 5, 4)


def test_json_ends_with_the_status_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line is an object; the last one is the document and nothing else."""
    screen = make_screen(as_json=True)
    assert isinstance(screen, JsonScreen)
    with screen:
        screen.say("starting")
        screen.show(HALF, 10, None)
        screen.show(HALF, 10, DOC)
        screen.finish(DOC, ["All is well."])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("event") for line in lines] == ["message", "progress", "story", None]
    assert lines[1] == {
        "event": "progress",
        "time": 43_200_000,
        "requests": 5,
        "of": 10,
        "labels": 4,
        "watermark": None,
    }
    assert lines[-1] == DOC


def test_a_pipe_gets_a_line_now_and_then_and_the_table_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pictures at once are one line; no control characters."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    screen = make_screen(as_json=False)
    assert isinstance(screen, PlainScreen)
    with screen:
        screen.show(HALF, 10, DOC)
        screen.show(HALF, 10, DOC)
        screen.finish(DOC, ["All is well."])
    out = capsys.readouterr().out
    assert out.count("1970-01-01 · 5 of 10 flights · 4 labels") == 1
    assert "suite 0.500, unique: queue@1 0.750" in out
    assert "365d latest" in out
    assert out.endswith("• All is well.\n")
    assert "\x1b" not in out


def test_a_terminal_gets_a_table_that_is_redrawn() -> None:
    """The rolling window while it runs, the longest at the end; the cursor comes back."""
    out = io.StringIO()
    with LiveScreen(Console(file=out, force_terminal=True, width=100, height=40)) as screen:
        screen.say("starting")
        screen.show(HALF, 10, None)
        screen.show(HALF, 10, DOC)
        assert "28d latest" in out.getvalue()
        assert "365d latest" not in out.getvalue()
        screen.finish(DOC, ["All is well."])
    assert "365d latest" in out.getvalue()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_stopped_before_anything_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    """No document: the sentences alone."""
    with PlainScreen(Console(width=100)) as screen:
        screen.finish(None, ["Stopped."])
    assert capsys.readouterr().out == "• Stopped.\n"
