"""What a person watches while it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

from evaluator.history import History
from evaluator.rebuild import rebuild
from evaluator.render import status_table
from evaluator.status import status_of
from streams.connect import redis_client
from streams.errors import Unavailable
from streams.settings import Settings
from streams.suite import Suite

_EVERY = 1.0  # s


async def watch_status(suite: Suite, settings: Settings, window: str | None, view: str) -> int:
    """A live table, until Ctrl-C; an outage of Redis is shown and waited for."""
    client = redis_client(settings.redis)
    history = History(client, suite.name)
    try:
        with Live(Text("…"), console=Console(), auto_refresh=False, screen=False) as live:
            while True:
                try:
                    await history.refresh()
                    shown = status_table(status_of(suite, history, settings.host.leap), window, view)
                    live.update(shown, refresh=True)
                except Unavailable as error:
                    live.update(Text(str(error)), refresh=True)
                await asyncio.sleep(_EVERY)
    finally:
        await client.aclose()


async def rebuild_with_progress(
    suite: Suite, settings: Settings, *, fresh: bool, quiet: bool
) -> Mapping[str, int]:
    """Rebuild, saying on standard error how far it is; returns the offsets reached."""
    console = Console(file=sys.stderr, quiet=quiet)
    last: dict[str, int] = {}

    def note(positions: Mapping[str, int]) -> None:
        last.update(positions)
        total = sum(positions.values())
        status.update(f"folding the log: {total:,} records of {len(positions)} partitions")

    with console.status("connecting") as status:
        await rebuild(suite, settings, progress=note, fresh=fresh)
    console.print(f"rebuilt from {sum(last.values()):,} records")
    return last
