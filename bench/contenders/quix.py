"""Quix Streams, batched: its batching sink hands over the records of a checkpoint, 2000 at a time."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from quixstreams import Application
from quixstreams.sinks import BatchingSink

from bench.job import Clock, Job, arguments


class Answers(BatchingSink):
    """Does the job on each batch and waits until its decisions are written."""

    def __init__(self, producer: Any, topic: str, n: int, clock: Clock) -> None:
        super().__init__()
        self._producer, self._topic, self._left, self._n = producer, topic, n, n
        self._job, self._clock = Job(), clock

    def write(self, batch: Any) -> None:
        """One batch of one partition."""
        decisions = self._job([item.value for item in batch])
        for key, value in decisions:
            self._producer.produce(self._topic, key=key, value=value)
        self._producer.flush()
        self._left -= len(decisions)
        if self._left <= 0:
            self._clock.report(self._n - self._left)
            os._exit(0)


def main() -> None:
    servers, suite, n = arguments()
    app = Application(
        broker_address=servers,
        consumer_group=f"{suite}.quix",
        auto_offset_reset="earliest",
        commit_every=2000,
        auto_create_topics=False,
        state_dir=tempfile.mkdtemp(),
        loglevel="ERROR",
        producer_extra_config={"enable.idempotence": False},
    )
    frame = app.dataframe(app.topic(f"{suite}.requests", value_deserializer="bytes"))
    with app.get_producer() as producer:
        clock = Clock()
        frame.sink(Answers(producer, f"{suite}.decisions", n, clock))
        clock.start()  # before it connects: librdkafka reads ahead in threads of its own
        app.run()


if __name__ == "__main__":
    main()
