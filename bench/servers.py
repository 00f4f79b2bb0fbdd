"""The broker of the measurements: Apache Kafka where there is a JRE and Maven, else the embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from streams.embedded.broker import EmbeddedBroker
from tests.kafka_server import KafkaServer, NoKafka


@contextmanager
def broker(cores: set[int]) -> Iterator[tuple[str, str]]:
    """A broker that runs on these cores, as (its name, its bootstrap servers)."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # what is started inherits it
    server: KafkaServer | EmbeddedBroker
    try:
        try:
            name, server = "Apache Kafka", KafkaServer().start()
        except NoKafka as error:
            print(f"on the embedded broker, because {error}", flush=True)
            name, server = "embedded broker", EmbeddedBroker().start()
    finally:
        os.sched_setaffinity(0, before)
    try:
        yield name, server.bootstrap_servers
    finally:
        server.stop()
