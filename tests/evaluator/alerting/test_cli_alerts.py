"""`chorus alerts`: what is firing, from the topic alone."""

from __future__ import annotations

import asyncio
import json
import uuid

from evaluator.cli.main import app
from streams.connect import make_producer
from streams.settings import Kafka
from streams.suite import parse_suite
from streams.topics import Topics, create_topics
from tests.evaluator.alerting.alerts import COMPLETED, event

NO_SUITE = 'name = "{name}"\n'


def test_what_fires_and_what_happened_last(tmp_path, broker, monkeypatch, capsys):
    """Ended conditions and notices are not firing; an event that is there twice is shown once."""
    name = f"a{uuid.uuid4().hex[:8]}"
    path = tmp_path / "suite.toml"
    path.write_text(NO_SUITE.format(name=name))
    for key, value in broker.env.items():
        monkeypatch.setenv(key, value)
    kafka = Kafka(bootstrap_servers=broker.bootstrap_servers, partitions=1)

    async def fill(*values: bytes) -> None:
        await create_topics(parse_suite(path.read_text()), kafka)
        producer = make_producer(kafka)
        await producer.start()
        for value in values:
            await producer.send_and_wait(Topics(name).alerts, value, key=b"k")
        await producer.stop()

    def chorus(*more: str) -> str:
        where = ["--suite", str(path), "--bootstrap-servers", broker.bootstrap_servers]
        assert app(["alerts", *where, *more], result_action="return_value", exit_on_error=False) == 0
        return capsys.readouterr().out

    asyncio.run(fill())
    assert json.loads(chorus("--json")) == {"schema": 1, "suite": name, "firing": [], "events": []}
    assert "nothing is firing" in chorus()
    events = [
        event(subject="a@1"), event(subject="b@1", at=1), event(subject="b@1", at=1),
        event(subject="a@1", status="resolved", at=2), event(COMPLETED, "c@1", None, at=3, why="it [adds]"),
    ]  # fmt: skip
    asyncio.run(fill(*(json.dumps(one).encode() for one in events), b"{"))
    document = json.loads(chorus("--json", "--last", "3"))
    (firing,) = document["firing"]
    assert (firing["subject"], firing["since"]) == ("b@1", "2026-03-01T12:00:01Z")
    assert [(one["subject"], one["status"]) for one in document["events"]] == [
        ("b@1", "firing"), ("a@1", "resolved"), ("c@1", None),
    ]  # fmt: skip
    assert document["events"][-1]["description"] == "It [adds]."
    shown = chorus("--last", "0")
    assert "b@1" in shown
    assert "the last events" not in shown
    assert "2026-03-01 12:00:01 " in shown
