"""The status document as a table for people. What is not defined is shown as –, never as 0."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from streams.errors import ChorusError
from streams.times import format_duration, format_time

Doc = Mapping[str, Any]
Kind = Literal["adds", "costs", "nothing", "failing", "unknown"]

#: A member that failed on more than this share of what it scored is called failing.
FAILING = 0.01
#: A member of whose flags less than this share is unique is said to have nothing of its own.
NOTHING = 0.01
#: With fewer labels than this the unique precision is shown, but nothing is said about it.
FEW = 30

#: From this many columns on the table shows everything.
_WIDE = 98
_COLUMNS = ("member", "owner", "flagged", "prec.", "unique", "prec.", "recall", "labels", "scored", "abst.",
            "err.", "")  # fmt: skip
_LEFT_OUT = ("owner", "labels", "scored", "abst.")

_STYLES: dict[Kind, str] = {
    "adds": "green", "costs": "yellow", "nothing": "cyan", "failing": "red", "unknown": "dim",
}  # fmt: skip


#: Where nobody has folded anything.
NOTHING_YET = "nothing has been counted yet: run `chorus evaluate`, or check the name in the suite file"

#: Verdicts that say no more than the hint does.
_SILENT = ("HOLD", "OK")
_VERDICTS = {"PROMOTE": "green", "REJECT": "red", "FLAG": "red", "INCONCLUSIVE": "yellow"}


@dataclass(frozen=True, slots=True)
class Hint:
    """What a member's figures say at a glance. A plain comparison, no evidence: that is the verdict's job."""

    kind: Kind
    text: str
    detail: str = ""


def hint(member: Doc, window: Doc) -> Hint:
    """Compare a member of `window` with the suite's precision there."""
    scored, errors = member["scored"], member["errors"] or 0
    flagged, unique = member["flagged"], member["unique"]
    if scored and errors > FAILING * scored:
        return Hint("failing", "failing", f"{percent(errors / scored)} of its answers are errors")
    if not flagged["n"] or unique["n"] is None:
        return Hint("unknown", "")
    if unique["n"] <= NOTHING * flagged["n"]:
        return Hint("nothing", "nothing of its own", _twin(member, window))
    precision, bar = unique["precision"], window["suite"]["flagged"]["precision"]
    if precision is None or bar is None or unique["n"] - unique["unlabelled"] < FEW:
        return Hint("unknown", "too few labels yet")
    return Hint("adds", "adds") if precision >= bar else Hint("costs", "costs precision")


def _twin(member: Doc, window: Doc) -> str:
    live = {other["id"] for other in window["members"] if other["stage"] == "live"}
    shared = {name: n for name, n in member["overlap"].items() if name in live and n}
    if not shared:
        return ""
    name = max(shared, key=lambda key: shared[key])
    return f"{percent(shared[name] / member['flagged']['n'])} of its flags are also flagged by {name}"


def pick_window(doc: Doc, window: str | None = None, view: str = "latest") -> Doc:
    """The window of that name, or the longest. Raises ChorusError, naming those that there are."""
    views: list[Doc] = [each for each in doc["windows"] if each["view"] == view]
    found = [each for each in views if window is None or each["name"] == window]
    if not found:
        names = ", ".join(sorted({f"{each['name']} ({each['view']})" for each in doc["windows"]}))
        raise ChorusError(f"there is no window {window or ''} ({view}): this suite has {names or 'none'}")
    return found[-1]


class _Status:
    """The table, with fewer columns where the terminal is narrow."""

    def __init__(self, doc: Doc, window: Doc) -> None:
        self._doc, self._window = doc, window

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _header(self._doc, self._window)
        yield Text()
        yield _members(self._window, narrow=options.max_width < _WIDE)
        yield from _notes(self._window)


def status_table(doc: Doc, window: str | None = None, view: str = "latest") -> RenderableType:
    """One window of the status document: the suite's lines, then the members by stage.

    `window` None is the last in the suite file. Fits into 100 columns, and with fewer figures into 80.
    Raises ChorusError for a window that there is not.
    """
    return _Status(doc, pick_window(doc, window, view))


def status_text(doc: Doc, window: str | None = None, view: str = "latest", *, width: int = 100) -> str:
    """`status_table` as plain text of at most `width` columns."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(
        status_table(doc, window, view)
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + "\n"


def _header(doc: Doc, window: Doc) -> list[Text]:
    flagged, counters = window["suite"]["flagged"], doc["counters"]
    lines = [
        Text.assemble(
            (str(doc["suite"]), "bold"), f" revision {number(doc['revision'])}"
            f" · event time {moment(doc['watermark'])} · labels through {moment(doc['labels_through'])}",
        ),
        Text(
            f"{window['name']} {window['view']}, {moment(window['start'])} to {moment(window['end'])}:"
            f" {number(window['volume'])} requests"
        ),
        Text.assemble(
            f"the suite flags {number(flagged['n'])}, precision ", (ratio(flagged["precision"]), "bold"),
            f", recall {ratio(window['suite']['recall'])}, labelled {labelled(flagged)}",
        ),
    ]  # fmt: skip
    if line := _floor(doc):
        lines.append(Text(line, style="dim"))
    if doc["watermark"] is None:
        lines.append(Text(NOTHING_YET, style="yellow"))
    if any(counters.values()):
        told = " · ".join(f"{name.replace('_', ' ')} {number(n)}" for name, n in counters.items() if n)
        lines.append(Text(told, style="yellow"))
    return lines


def _floor(doc: Doc) -> str:
    policy = doc.get("policy") or {}  # a document of before there was one has none
    if not policy.get("floor"):
        return ""
    adopted = policy["floor_source"] == "adoption"
    whence = "the suite's precision before its first deployment" if adopted else "as the suite file declares"
    return f"floor {ratio(policy['floor'])}, {whence}"


def _members(window: Doc, *, narrow: bool) -> Table:
    shown = [at for at, name in enumerate(_COLUMNS) if not (narrow and name in _LEFT_OUT)]
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold underline")
    widest = max((len(_name(member)) for member in window["members"]), default=0)
    for name in (_COLUMNS[at] for at in shown):
        if name == "member":
            table.add_column(name, overflow="fold", no_wrap=widest <= 20, min_width=min(20, widest))
        elif name == "owner":
            table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=8)
        elif name:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name)
    there = {member["stage"] for member in window["members"]}
    for stage in (each for each in ("live", "shadow") if each in there):
        table.add_row(Text(stage, style="dim"))
        for member in window["members"]:
            if member["stage"] == stage:
                row = _row(member, window)
                table.add_row(*(row[at] for at in shown))
    return table


def _name(member: Doc) -> Text:
    """Its id, and where it is between shadow and live."""
    name, state = Text(member["id"]), member.get("state", member["stage"])
    return name if state == member["stage"] else name.append(f" {state}", style="italic dim")


def _row(member: Doc, window: Doc) -> list[Text]:
    """One cell for each of `_COLUMNS`."""
    said, unique = hint(member, window), member["unique"]
    style = _STYLES[said.kind]
    figures = [
        number(member["flagged"]["n"]), ratio(member["flagged"]["precision"]),
        number(unique["n"]), ratio(unique["precision"]), ratio(member["unique_recall"]),
        labelled(member["flagged"]),
        number(member["scored"]), number(member["abstained"]), number(member["errors"]),
    ]  # fmt: skip
    row = [_name(member), Text(str(member["owner"]).split("@")[0]), *map(Text, figures)]
    row[5].stylize(f"bold {style}")
    verdict = member.get("verdict")
    if verdict and verdict["state"] not in _SILENT and said.kind != "failing":
        return [*row, Text(verdict["state"], style=f"bold {_VERDICTS.get(verdict['state'], '')}")]
    return [*row, Text(said.text, style=style)]


def _notes(window: Doc) -> list[Text]:
    said = [(member["id"], hint(member, window)) for member in window["members"]]
    lines = [Text(f"{name}: {told.detail}", style=_STYLES[told.kind]) for name, told in said if told.detail]
    lines += [Text(line) for member in window["members"] if (line := verdict_line(member))]
    return [Text(), *lines] if lines else []


def verdict_line(member: Doc) -> str:
    """A verdict in one line: since when, and why, or what it waits for; "" where there is nothing to say."""
    verdict = member.get("verdict")
    if verdict and verdict["state"] == "HOLD" and verdict.get("time_needed") is not None:
        labels = _range(verdict["labels_needed"], verdict["labels_range"], str)
        time = _range(verdict["time_needed"], verdict["time_range"], _span)
        return f"{member['id']}: HOLD, about {labels} more labels, {time}"
    if not verdict or verdict["state"] in _SILENT:
        return ""
    since = f" since {format_time(verdict['since'])[:10]}" if verdict["since"] is not None else ""
    why = ", ".join(verdict["reasons"]).replace("_", " ")
    twin = f" (with {verdict['twin']})" if verdict["twin"] else ""
    return f"{member['id']}: {verdict['state']}{since}, {why}{twin}"


def _range(value: Any, ends: Sequence[Any], text: Callable[[Any], str]) -> str:
    """ "240 (150 to 590)"; an upper end that is not known is "never"."""
    low, high = ("never" if end is None else text(end) for end in ends)
    return f"{'?' if value is None else text(value)} ({low} to {high})"


def _span(ms: int) -> str:
    """To the day, or where that is more than it to the hour."""
    unit = 86_400_000 if ms >= 86_400_000 else 3_600_000
    return format_duration(-(-ms // unit) * unit) if ms else "no time"


def number(n: int | None) -> str:
    """A count in at most six characters: 4498, 25.1k, 337k, 1.2M; – for None."""
    if n is None:
        return "–"
    if n < 10_000:
        return str(n)
    for size, letter in ((1_000, "k"), (1_000_000, "M"), (1_000_000_000, "G")):
        if n < 999.5 * size:
            return f"{n / size:.1f}{letter}" if n < 99.95 * size else f"{n / size:.0f}{letter}"
    return f"{n / 1e12:.1f}T"


def ratio(x: float | None) -> str:
    """Three decimals; – for None."""
    return "–" if x is None else f"{x:.3f}"


def percent(x: float) -> str:
    """Whole percent, but never 0 for something nor 100 for not quite everything."""
    if 0 < x < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= x < 1 else f"{x:.0%}".replace("%", " %")


def labelled(count: Doc) -> str:
    """Which share of the requests has a label; – where there are none."""
    return percent(1 - count["unlabelled"] / count["n"]) if count["n"] else "–"


def moment(ms: int | None) -> str:
    """To the minute, UTC; – for None."""
    return "–" if ms is None else format_time(ms)[:16].replace("T", " ")
