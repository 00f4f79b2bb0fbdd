"""The broker of the measurements: Apache Kafka where there is a JRE and Maven, else the embedded one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.embedded.broker import EmbeddedBroker
from streams.embedded.process import Server, free_port

KAFKA, SLF4J = "4.1.0", "1.7.36"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>bench</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{SLF4J}</version></dependency>
</dependencies></project>
"""


class Kafka(Server):
    """One node of Apache Kafka, with its data in a temporary folder."""

    name = "Apache Kafka"

    def __init__(self, lib: Path) -> None:
        super().__init__()
        self._lib, self._folder = lib, Path(tempfile.mkdtemp(prefix="chorus-bench-"))

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Format the storage, then say how the broker is called."""
        properties = self._folder / "server.properties"
        controller = free_port()
        options = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "log.dirs": str(self._folder / "data"),
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in options.items()))
        java = ["java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-cp", f"{self._lib}/*"]
        identity = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        format_ = [*java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(properties)]
        subprocess.run(format_, check=True, capture_output=True)
        return [*java, "kafka.Kafka", str(properties)]

    def clean_up(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def broker(build: Path) -> Any:
    """A broker that is not started yet. Apache Kafka is fetched once, into `build`."""
    if not (shutil.which("java") and shutil.which("mvn")):
        return EmbeddedBroker()
    lib = build / "kafka" / KAFKA
    if not any(lib.glob("kafka_*.jar")):
        lib.mkdir(parents=True, exist_ok=True)
        (build / "kafka" / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "-f", str(build / "kafka" / "pom.xml")]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={lib.resolve()}"]
        if subprocess.run([*command, "-DincludeScope=runtime"], capture_output=True, check=False).returncode:
            return EmbeddedBroker()
    return Kafka(lib)
