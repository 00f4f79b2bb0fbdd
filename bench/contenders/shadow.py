"""A shadow host with one candidate, as `chorus shadow` runs it: in a Faust worker, votes written."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from bench.job import Clock, arguments, with_candidate
from members.host import HostService
from streams.app import run_worker
from streams.metrics import Metrics
from streams.settings import Kafka, Settings, Web
from streams.suite import parse_suite


def main() -> int:
    servers, name, n = arguments()
    suite = parse_suite(with_candidate(name))
    kafka = Kafka(bootstrap_servers=servers, session_timeout=6000, fetch_max_wait=20)
    settings = Settings(kafka=kafka, web=Web(port=0), log_level="WARNING")
    metrics = Metrics()
    tasks = []

    def make() -> HostService:
        host = HostService(
            suite, settings, stage="shadow", members=suite.shadow, name="bench", metrics=metrics
        )
        tasks.append(asyncio.get_running_loop().create_task(watch(host, n)))
        return host

    return run_worker("shadow", suite, settings, make, metrics=metrics)


async def watch(host: Any, n: int) -> None:
    """From the first partitions to the last votes that the broker has confirmed."""
    clock = Clock()
    while not host.ready:
        await asyncio.sleep(0.002)
    clock.start()
    while (done := sum(owned.done for owned in host._owned.values())) < n:
        await asyncio.sleep(0.01)
    stages = {
        sample.labels["stage"]: round(sample.value, 3)
        for family in host._metrics.stage.collect()
        for sample in family.samples
        if sample.name.endswith("_sum")
    }
    clock.report(done, stages=stages)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
