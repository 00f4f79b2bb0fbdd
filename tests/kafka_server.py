"""Apache Kafka itself as one process of its own, for tests: fetched once with Maven, then started in 2 s."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Self

from streams.embedded.process import die_with_parent, free_port

VERSION = "4.1.0"
HOME = Path(__file__).resolve().parents[1] / "build" / "kafka"
START_WITHIN = 90.0

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>chorus</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
<version>{VERSION}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},LOCKED://127.0.0.1:{locked},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},LOCKED://127.0.0.1:{locked}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LOCKED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.locked.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \\
  required user_clerk="quill";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
inter.broker.listener.name=PLAINTEXT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
log.dirs={data}
"""


class NoKafka(Exception):
    """Apache Kafka cannot be run here; the text says what is missing."""


def fetch() -> Path:
    """The folder with Kafka's jars, fetched where it is not there yet. Raises NoKafka."""
    for program in ("java", "mvn"):
        if not shutil.which(program):
            raise NoKafka(f"there is no {program} (Apache Kafka needs a JRE 17 or newer, and Maven)")
    lib = HOME / f"lib-{VERSION}"
    if lib.is_dir():
        return lib
    HOME.mkdir(parents=True, exist_ok=True)
    pom = HOME / "pom.xml"
    pom.write_text(POM)
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={folder}/lib", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        except subprocess.TimeoutExpired:
            raise NoKafka("Maven did not fetch Apache Kafka within four minutes") from None
        if done.returncode:
            raise NoKafka(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr)[-500:]}")
        os.rename(f"{folder}/lib", lib)
    return lib


class KafkaServer:
    """One Kafka node, broker and controller at once, with a log of its own.

    On `locked` it takes the login clerk with the password quill (SASL_PLAINTEXT), who may do nothing but what
    ACLs allow; whoever comes without a login may do everything.
    """

    def __init__(self) -> None:
        self.port, self.locked, self._controller = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it says so. Raises NoKafka."""
        lib = fetch()
        self._folder = Path(tempfile.mkdtemp(prefix="chorus-kafka-"))
        properties = self._folder / "server.properties"
        data = self._folder / "data"
        ports = {"port": self.port, "locked": self.locked, "controller": self._controller}
        properties.write_text(PROPERTIES.format(**ports, data=data))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster.startswith("-"):  # it would pass for an option
            cluster = "A" + cluster[1:]
        java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{lib}/*"]
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        deadline = time.monotonic() + START_WITHIN
        while "Kafka Server started" not in (told := log.read_text(errors="replace")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NoKafka(f"Apache Kafka did not start: {told[-2000:]}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
