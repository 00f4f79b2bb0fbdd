"""A Faust agent that answers one event at a time, as Faust's own introduction writes one."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from bench.job import Clock, Job, arguments
from streams.app import import_faust


def main() -> None:
    servers, suite, n = arguments()
    sys.argv = sys.argv[:1]
    faust = import_faust()
    app = faust.App(
        f"{suite}.faust",
        broker=f"kafka://{servers}",
        store="memory://",
        datadir=tempfile.mkdtemp(),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )
    requests = app.topic(f"{suite}.requests", value_serializer="raw", key_serializer="raw")
    decisions = app.topic(f"{suite}.decisions", value_serializer="raw", key_serializer="raw")
    job, clock = Job(), Clock()

    @app.agent(requests)
    async def decide(stream: Any) -> None:
        done = 0
        async for value in stream:
            if not done:
                clock.start()
            [(key, answer)] = job([value])
            await decisions.send(key=key, value=answer)
            done += 1
            if done >= n:
                clock.report(done)
                os._exit(0)

    worker = faust.Worker(app, loglevel="CRITICAL", redirect_stdouts=False)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
