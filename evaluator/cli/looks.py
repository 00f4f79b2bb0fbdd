"""How tables of the commands look: no boxes, instants to the second, and these are never cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_EPOCH = datetime.fromtimestamp(0, UTC)


def moment(ms: int) -> str:
    """An instant (ms) in UTC, to the second: ``2026-03-01 12:01:01``. --json has the milliseconds.

    One that no calendar has stands as it is.
    """
    try:
        return (_EPOCH + timedelta(seconds=ms // 1000)).isoformat(sep=" ")[:19]
    except OverflowError:
        return f"{ms} ms"


def plain_table(*columns: str, whole: tuple[str, ...] = ()) -> Table:
    """A table without lines. whole: the columns that are never wrapped or cut, however narrow it gets."""
    from rich.table import Table

    out = Table(box=None, header_style="bold underline", pad_edge=False)
    for name in columns:
        out.add_column(name, no_wrap=name in whole, overflow="fold")
    return out
