"""The status document as a table."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from evaluator.render import hint, number, percent, status_text, verdict_line
from streams.errors import ChorusError

NONE = {"n": None, "positive": None, "negative": None, "unlabelled": None, "precision": None}


def count(n: int, positive: int, negative: int) -> dict[str, Any]:
    labelled = positive + negative
    return {
        "n": n,
        "positive": positive,
        "negative": negative,
        "unlabelled": n - labelled,
        "precision": positive / labelled if labelled else None,
    }


def member(id: str, stage: str = "shadow", **more: Any) -> dict[str, Any]:
    figures = {
        "flagged": count(1000, 300, 200),
        "unique": count(400, 120, 80),
        "unique_recall": 0.1,
        "scored": 336_776,
        "abstained": 0,
        "errors": 0,
        "overlap": {},
    }
    return {"id": id, "stage": stage, "owner": "ana@example.com", **figures, **more}


def document(*members: dict[str, Any]) -> dict[str, Any]:
    suite = {"flagged": count(2000, 400, 600), "unflagged": count(9000, 10, 20), "recall": 0.3}
    window = {"start": 1356998400000, "end": 1357084800000, "volume": 11_000, "suite": suite}
    return {
        "schema": 1,
        "suite": "flights",
        "revision": 7,
        "watermark": 1357084800000,
        "labels_through": None,
        "windows": [
            {**window, "name": name, "view": view, "members": list(members)}
            for name in ("24h", "7d")
            for view in ("latest", "matured")
        ],
        "counters": {"dead_letters": 0, "pending_labels": 3, "late": 0},
    }


def said(figures: dict[str, Any]) -> tuple[str, str]:
    told = hint(figures, document(member("queue@1", "live"), figures)["windows"][0])
    return told.kind, told.detail


def test_the_table_names_every_member_and_its_figures() -> None:
    """One line per member: flagged, precision, unique, its precision and recall, labels, and the hint."""
    text = status_text(document(member("queue@1", "live"), member("storm@2")))
    row = next(line for line in text.splitlines() if "storm@2" in line)
    assert row.split() == [
        *("storm@2", "ana", "1000", "0.600", "400", "0.600", "0.100", "50", "%", "337k", "0", "0", "adds")
    ]
    assert "precision 0.400" in text
    assert "pending labels 3" in text
    assert "dead letters" not in text


@pytest.mark.parametrize(
    ("floor", "source", "told"),
    [
        (0.625, "adoption", "floor 0.625, the suite's precision before its first deployment"),
        (0.6, "declared", "floor 0.600, as the suite file declares"),
        (0.0, "declared", None),
        (None, None, None),
    ],
)
def test_the_floor_is_told_with_where_it_comes_from(floor: Any, source: Any, told: Any) -> None:
    """One line, where there is one."""
    text = status_text({**document(), "policy": {"floor": floor, "floor_source": source}})
    assert (told in text) if told else ("floor" not in text)


def test_what_is_undefined_is_a_dash_never_a_zero() -> None:
    """Nothing read yet: every figure is –, and the table still renders."""
    doc = document()
    nothing = member(
        "storm@2", flagged=NONE, unique=NONE, unique_recall=None, scored=None, abstained=None, errors=None
    )
    for window in doc["windows"]:
        window |= {"start": None, "end": None, "volume": None, "members": [nothing]}
        window["suite"] = {"flagged": NONE, "unflagged": NONE, "answered": NONE, "recall": None}
    doc |= {"watermark": None, "revision": None, "counters": {"dead_letters": None}}
    text = status_text(doc)
    row = next(line for line in text.splitlines() if "storm@2" in line)
    assert row.split() == ["storm@2", "ana", *["–"] * 9]
    assert "0" not in text.replace("storm@2", "").replace("7d", "")


def test_a_suite_that_nobody_has_counted_says_what_to_do() -> None:
    """A misspelt name shows no figures either; members are told with the live ones first."""
    doc = document(member("c@1"), member("a@1", "live"))
    assert "nothing has been counted yet" not in status_text(doc)
    text = status_text({**doc, "watermark": None})
    assert "run `chorus evaluate`, or check the name" in text
    assert text.index("a@1") < text.index("c@1")


def test_an_empty_unique_set_has_no_precision() -> None:
    """Zero unique requests is a 0 with a – beside it, and says whose twin the member is."""
    figures = member(
        "twin@1", unique=count(0, 0, 0), unique_recall=0.0, overlap={"queue@1": 1000, "x@1": 9000}
    )
    assert said(figures) == ("nothing", "100 % of its flags are also flagged by queue@1")
    row = next(line for line in status_text(document(figures)).splitlines() if "twin@1" in line)
    assert row.split()[4:6] == ["0", "–"]


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"unique": count(400, 80, 120)}, "adds"),
        ({"unique": count(400, 79, 121)}, "costs"),
        ({"unique": count(400, 20, 5)}, "unknown"),
        ({"unique": count(400, 0, 0)}, "unknown"),
        ({"unique": NONE}, "unknown"),
        ({"flagged": count(0, 0, 0), "unique": count(0, 0, 0)}, "unknown"),
        ({"errors": 50_000}, "failing"),
        ({"errors": 3}, "adds"),
    ],
)
def test_the_hint_compares_unique_precision_with_the_suites(more: dict[str, Any], kind: str) -> None:
    """At the suite's precision (.4) or above it adds, below it costs; with few labels nothing is said."""
    assert said(member("storm@2", **more))[0] == kind


def test_it_fits_into_a_hundred_columns() -> None:
    """Long names, big counts and the longest hint."""
    longest = member("regional_evening@12", unique=count(0, 0, 0), overlap={"late_inbound@1": 999})
    longest |= {"owner": "the-team-of-evenings@example.com", "abstained": 98_765_432, "errors": 1000}
    text = status_text(document(member("late_inbound@1", "live"), longest, member("x@1", scored=9_999_999)))
    assert max(map(len, text.splitlines())) <= 100
    assert "regional_evening@12" in text
    assert "98.8M" in text


def test_a_narrow_terminal_gets_fewer_figures() -> None:
    """Eighty columns: who, flagged, unique with its precision and recall, errors, hint; no line is folded."""
    text = status_text(document(member("regional_evening@1", "live"), member("x@1")), width=80)
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if "regional_evening@1" in line)
    assert row.split() == ["regional_evening@1", "1000", "0.600", "400", "0.600", "0.100", "0", "adds"]


def test_an_unknown_window_is_refused_with_those_there_are() -> None:
    """The message lists what can be asked for."""
    with pytest.raises(ChorusError, match=r"no window 9d \(latest\): this suite has .*7d \(matured\)"):
        status_text(document(), "9d")
    assert "24h matured" in status_text(document(), "24h", "matured")


def test_rendering_changes_nothing() -> None:
    """The document is only read."""
    doc = document(member("storm@2"))
    before = copy.deepcopy(doc)
    status_text(doc)
    assert doc == before


def test_numbers_are_short_and_percentages_honest() -> None:
    """Counts take at most six characters; almost all is not all."""
    shown = [number(n) for n in (0, 9_999, 10_000, 99_949, 99_950, 999_499, 999_500, 12_345_678_901_234)]
    assert shown == ["0", "9999", "10.0k", "99.9k", "100k", "999k", "1.0M", "12.3T"]
    assert [percent(x) for x in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "<1 %", "50 %", ">99 %", "100 %"]


def test_a_candidate_that_waits_says_for_what() -> None:
    """Labels and time, as ranges; an end that is not known may be never. Without a forecast, nothing."""
    day = 86_400_000
    verdict = {
        "state": "HOLD",
        "reasons": ["needs_labels"],
        "since": None,
        "twin": None,
        "labels_needed": 240,
        "labels_range": [150, None],
        "time_needed": 21 * day - 5,
        "time_range": [13 * day, None],
    }
    line = verdict_line(member("c@1", verdict=verdict))
    assert line == "c@1: HOLD, about 240 (150 to never) more labels, 21d (13d to never)"
    assert line in status_text(document(member("c@1", verdict=verdict)))
    assert verdict_line(member("c@1", verdict={**verdict, "time_needed": None})) == ""
