"""`chorus reviews` as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from streams.times import format_duration


def reviews_table(document: Mapping[str, Any]) -> Table:
    """What was asked and answered, by class and in total."""
    table = Table(
        title=f"{document['suite']}: reviews",
        title_justify="left",
        title_style="bold",
        box=None,
        header_style="bold underline",
        pad_edge=False,
    )
    table.add_column("class")
    for name in ("asked", "answered", "positive", "pending", "oldest pending"):
        table.add_column(name, justify="right")
    for row in [*document["classes"], {"class": "total", **document["total"]}]:
        age = row["oldest_pending_age"]
        cells = [str(row[name]) for name in ("asked", "answered", "positive", "pending")]
        table.add_row(row["class"], *cells, "" if age is None else format_duration(age - age % 60_000))
    return table
