"""The consumer that looks twice at a hole between two offsets."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.patient import PatientConsumer

TP = TopicPartition("t", 0)


class Script:
    """Fetches as a test wants them: each item the offsets of one answer."""

    def __init__(self, monkeypatch, *answers):
        self.seeks, self._answers = [], list(answers)
        monkeypatch.setattr(AIOKafkaConsumer, "seek", lambda _, tp, offset: self.seeks.append(offset))
        monkeypatch.setattr(AIOKafkaConsumer, "assignment", lambda _: {TP})
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", self._getmany)

    async def _getmany(self, *_, **__):
        offsets = self._answers.pop(0)
        return {TP: [SimpleNamespace(offset=offset) for offset in offsets]} if offsets else {}


def _read(patience, rounds, pause=0.0):
    async def read():
        consumer = PatientConsumer(patience=patience)
        consumer.seek(TP, 5)
        out = []
        for _ in range(rounds):
            out += [record.offset for record in (await consumer.getmany()).get(TP, [])]
            deadline = time.monotonic() + pause
            while time.monotonic() < deadline:
                await asyncio.sleep(0)
        await consumer.stop()
        return out

    return asyncio.run(read())


def test_a_hole_is_read_again_until_it_is_filled(monkeypatch):
    """What stands before the hole is handed out, the rest once the hole has been filled."""
    script = Script(monkeypatch, [5, 6, 9], [9], [7, 8, 9], [10])
    assert _read(60, 4) == [5, 6, 7, 8, 9, 10]
    assert script.seeks == [5, 7, 7]


def test_a_hole_at_the_very_beginning_is_one(monkeypatch):
    """The position that was sought counts, not the first record that came."""
    Script(monkeypatch, [7], [5, 6, 7])
    assert _read(60, 2) == [5, 6, 7]


def test_a_hole_that_stays_is_believed(monkeypatch):
    """After the patience has run out the log is taken as it is, and the next hole gets its own."""
    Script(monkeypatch, [5, 8], [8, 11], [9, 10, 11])
    assert _read(0.02, 3, pause=0.03) == [5, 8, 9, 10, 11]
