"""Bytewax, batched: its Kafka source brings 2000 records at a time, and one step maps them at once."""

from __future__ import annotations

import os
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from confluent_kafka import Producer

from bench.job import Clock, Job, arguments


class Partition(StatelessSinkPartition[Any]):
    """As Bytewax's own Kafka sink writes, and ends the run after n."""

    def __init__(self, servers: str, topic: str, n: int, clock: Clock) -> None:
        self._producer, self._topic, self._n, self._clock = (
            Producer({"bootstrap.servers": servers}), topic, n, clock,
        )  # fmt: skip
        self._done = 0

    def write_batch(self, items: list[Any]) -> None:
        """Produce and flush."""
        for item in items:
            self._producer.produce(self._topic, item.value, item.key)
            self._producer.poll(0)
        self._producer.flush()
        self._done += len(items)
        if self._done >= self._n:
            self._clock.report(self._done)
            os._exit(0)


class Sink(DynamicSink[Any]):
    """One partition per worker; there is one worker."""

    def __init__(self, *args: Any) -> None:
        self._args = args

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Partition:
        """Made once."""
        return Partition(*self._args)


def main() -> None:
    servers, suite, n = arguments()
    job, clock = Job(), Clock()

    def answer(messages: list[Any]) -> list[Any]:
        return [KafkaSinkMessage(key, value) for key, value in job([each.value for each in messages])]

    flow = Dataflow("bench")
    source = KafkaSource(brokers=[servers], topics=[f"{suite}.requests"], batch_size=2000)
    stream = op.input("requests", flow, source)
    decisions = op.flat_map_batch("job", stream, answer)
    op.output("decisions", decisions, Sink(servers, f"{suite}.decisions", n, clock))
    clock.start()  # before it connects: librdkafka reads ahead in threads of its own
    run_main(flow)


if __name__ == "__main__":
    main()
