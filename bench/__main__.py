"""``python -m bench [--rounds N]``: the ratios, and build/bench.json."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from typing import Any

from bench import arithmetic, hosts, store

OWN_BAR = 7.0  # µs of an evaluator's own CPU for a request and its label
BYTES_BARS = {"Redis": 110.0, "Valkey": 65.0}


def median(turns: Iterable[dict[str, Any]], key: str) -> float:
    """The middle one of all turns."""
    return statistics.median(turn[key] for turn in turns)


def spread(turns: list[dict[str, Any]], key: str) -> float:
    """(greatest - least) / median: how much the turns differ."""
    values = [turn[key] for turn in turns]
    return round((max(values) - min(values)) / statistics.median(values), 3)


def host_rows(rounds: int) -> list[dict[str, Any]]:
    """A host per core: how many times as many requests per CPU second as each of the others."""
    turns, failed, broker = hosts.measure(rounds)
    rows: list[dict[str, Any]] = []
    for name, bar in hosts.BARS.items():
        row: dict[str, Any] = {"name": hosts.TITLES[name], "ratio": None, "bar": bar, "broker": broker}
        rows.append(row)
        if why := next((failed[each] for each in ("host", name) if each in failed), None):
            row["note"] = f"not measured: {why}"
            continue
        host, other = turns["host"], turns[name]
        row["ratio"] = round(median(other, "cpu_us") / median(host, "cpu_us"), 2)
        row["wall_ratio"] = round(median(other, "wall_us") / median(host, "wall_us"), 2)
        row["cpu_us"] = [round(median(each, "cpu_us"), 2) for each in (host, other)]
        row["spread"] = [spread(each, "cpu_us") for each in (host, other)]
    rows.append(backfill_row(turns, failed, broker))
    if turns["host"]:
        stages = [turn["stages"] for turn in turns["host"]]
        n = hosts.TURNS["host"]
        rows[0]["stages_wall_us"] = {
            stage: round(statistics.median(each.get(stage, 0.0) for each in stages) / n * 1e6, 2)
            for stage in stages[0]
        }
    return rows


def backfill_row(
    turns: dict[str, list[dict[str, Any]]], failed: dict[str, str], broker: str
) -> dict[str, Any]:
    """A backfill of one candidate against a shadow host that has it."""
    row: dict[str, Any] = {"name": "backfill / shadow host", "ratio": None, "bar": 0.8, "broker": broker}
    if why := next((failed[each] for each in ("shadow", "backfill") if each in failed), None):
        return {**row, "note": f"not measured: {why}"}
    host, fill = turns["shadow"], turns["backfill"]
    row["ratio"] = round(median(host, "cpu_us") / median(fill, "cpu_us"), 2)
    row["wall_ratio"] = round(median(host, "wall_us") / median(fill, "wall_us"), 2)
    row["cpu_us"] = [round(median(each, "cpu_us"), 2) for each in (fill, host)]
    row["spread"] = [spread(each, "cpu_us") for each in (fill, host)]
    return row


def store_rows(rounds: int) -> list[dict[str, Any]]:
    """Updates per second through one server, an evaluator's own CPU, and bytes per record."""
    rows: list[dict[str, Any]] = []
    for server, turns in store.measure(rounds).items():
        base, own = turns["baseline"], turns["product"]
        each = median(own, "own_us") * 2
        rows += [
            {
                "name": f"updates through one {server} / one key per record",
                "ratio": round(median(base, "wall_us") / median(own, "wall_us"), 2),
                "bar": 3.0,
                "wall_us": [round(median(t, "wall_us"), 2) for t in (own, base)],
                "server_us": [round(median(t, "server_us"), 2) for t in (own, base)],
                "spread": [spread(t, "wall_us") for t in (own, base)],
            },
            {
                "name": f"evaluator CPU per request and label ({server}): {OWN_BAR:g} µs / measured",
                "ratio": round(OWN_BAR / each, 2),
                "bar": 1.0,
                "cpu_us": round(each, 2),
                "spread": [spread(own, "own_us")],
            },
            {
                "name": f"memory per flagged request ({server}): {BYTES_BARS[server]:g} B / measured",
                "ratio": round(BYTES_BARS[server] / median(own, "bytes"), 2),
                "bar": 1.0,
                "bytes": round(median(own, "bytes"), 1),
            },
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender; medians are compared")
    rounds = parser.parse_args().rounds
    rows = arithmetic.rows(rounds) + host_rows(rounds) + store_rows(rounds)
    hosts.BUILD.mkdir(exist_ok=True)
    (hosts.BUILD / "bench.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{'':62s}{'ratio':>8s}{'bar':>7s}   medians of {rounds} rounds")
    for row in rows:
        ratio = row["ratio"]
        shown = "-" if ratio is None else f"{ratio:.2f}"
        mark = "" if ratio is None else "reached" if ratio >= row["bar"] else "MISSED"
        detail = ", ".join(
            f"{key} {' vs '.join(map(str, row[key])) if isinstance(row[key], list) else row[key]}"
            for key in ("cpu_us", "wall_us", "server_us", "bytes", "ms", "spread", "note")
            if key in row
        )
        print(f"{row['name']:62s}{shown:>8s}{row['bar']:>7g}   {mark:8s}{detail}")


if __name__ == "__main__":
    main()
