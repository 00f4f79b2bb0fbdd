"""A backfill of one candidate, as `chorus backfill` runs it."""

from __future__ import annotations

import asyncio

from bench.job import Clock, arguments, with_candidate
from members.backfill import Backfill
from streams.app import quicken, set_up_logging
from streams.settings import Kafka, Settings
from streams.suite import parse_suite


async def main() -> None:
    servers, name, n = arguments()
    kafka = Kafka(bootstrap_servers=servers, session_timeout=6000, fetch_max_wait=20)
    settings = Settings(kafka=kafka, log_level="WARNING")
    backfill = Backfill(parse_suite(with_candidate(name)), settings, "candidate@1", since=0)
    running = asyncio.create_task(backfill.run())
    clock = Clock()
    while not backfill.places and not running.done():
        await asyncio.sleep(0.002)
    clock.start()
    while (done := sum(place.owned.done for place in backfill.places.values())) < n and not running.done():
        await asyncio.sleep(0.01)
    clock.report(done)
    backfill.stop()
    await running


if __name__ == "__main__":
    set_up_logging("WARNING")
    quicken()
    asyncio.run(main())
