"""What a host tells about itself: each condition once when it begins, and once when it ends."""

from __future__ import annotations

import asyncio
import json

from aiokafka.errors import KafkaConnectionError

from members.alarms import Alarms

MINUTE = 60_000
NOW = 1_700_000_000_000


def drain(alarms):
    out = []
    while not alarms.queue.empty():
        event = alarms.queue.get_nowait()
        out.append((event["type"], event["subject"], event["data"]["status"], event["id"]))
    return out


def test_a_suspended_member_is_told_once_and_taken_back():
    """Each suspension is an alarm of its own."""
    alarms = Alarms("s", "live-host-0", "live", lag_after=MINUTE)
    for now in (NOW, NOW + 1):
        alarms.suspended("a@1", "RuntimeError: no", now)
    alarms.resumed("a@1", "it answers again", NOW + 2)
    alarms.resumed("a@1", "it answers again", NOW + 3)
    alarms.suspended("a@1", "RuntimeError: no", NOW + 4)
    found = drain(alarms)
    kind = "chorus.member.suspended"
    assert [each[:3] for each in found] == [
        (kind, "a@1", "firing"), (kind, "a@1", "resolved"), (kind, "a@1", "firing")
    ]  # fmt: skip
    assert len({each[3] for each in found}) == 3


def test_a_host_lags_when_what_it_reads_is_old_and_more_is_to_come():
    """It has caught up at half of that age, or at the end of the log."""
    alarms = Alarms("s", "live-host-0", "live", lag_after=MINUTE)
    alarms.read(NOW - 59_000, 5000, NOW)
    assert drain(alarms) == []
    alarms.read(NOW - 61_000, 5000, NOW)
    alarms.read(NOW - 50_000, 5000, NOW)
    assert [each[:3] for each in drain(alarms)] == [("chorus.host.lagging", "live-host-0", "firing")]
    alarms.read(NOW - 50_000, 0, NOW)
    assert [each[2] for each in drain(alarms)] == ["resolved"]


def test_old_times_at_the_end_of_the_log_are_no_lag():
    """A replay of last year that keeps up does not lag; nor does a host that has nothing to read."""
    alarms = Alarms("s", "live-host-0", "live", lag_after=MINUTE)
    alarms.read(NOW - 365 * 24 * 60 * MINUTE, 0, NOW)
    alarms.read(None, 0, NOW)
    assert drain(alarms) == []


def test_what_the_broker_does_not_take_is_sent_again_in_order():
    """A broker that is away holds nobody up and loses nothing."""
    alarms = Alarms("s", "h", "shadow", lag_after=MINUTE)
    sent, failures = [], [KafkaConnectionError("away")]

    async def send(key, value):
        if failures:
            raise failures.pop()
        sent.append((key, json.loads(value)["data"]["status"]))
        if len(sent) == 2:
            done.set()

    done = asyncio.Event()

    async def scenario():
        alarms.suspended("a@1", "late", NOW)
        alarms.resumed("a@1", "fine", NOW)
        task = asyncio.create_task(alarms.run(send))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    asyncio.run(scenario())
    assert sent == [(b"a@1", "firing"), (b"a@1", "resolved")]


def test_what_lasts_is_said_again_in_the_same_words():
    """Until it ends: a host that is gone is known by its silence. Readers know the event by its id."""
    alarms = Alarms("s", "h", "live", lag_after=MINUTE, instance="pod-1")
    alarms.suspended("a@1", "RuntimeError: no", NOW)
    alarms.suspended("b@1", "RuntimeError: no", NOW)
    alarms.read(NOW - 61_000, 5000, NOW)
    first = [alarms.queue.get_nowait() for _ in range(3)]
    assert {(one["data"]["host"], one["data"]["instance"]) for one in first} == {("h", "pod-1")}
    alarms.again()
    assert [alarms.queue.get_nowait() for _ in range(3)] == first
    alarms.resumed("a@1", "fine", NOW + 1)
    alarms.read(NOW, 0, NOW + 1)
    assert {each[2] for each in drain(alarms)} == {"resolved"}
    alarms.again()
    assert [each[3] for each in drain(alarms)] == [first[1]["id"]]


def test_after_a_silence_it_begins_anew():
    """Somebody may have ended it meanwhile, and would not hear an id that is known."""
    alarms = Alarms("s", "h", "live", lag_after=MINUTE, repeat=60.0)
    alarms.suspended("a@1", "no", NOW)
    fired = alarms.queue.get_nowait()
    alarms.taken(fired, NOW + 10 * MINUTE)
    alarms.taken(fired, NOW + 12 * MINUTE)
    assert drain(alarms) == []
    alarms.taken(fired, NOW + 15 * MINUTE)
    anew = alarms.queue.get_nowait()
    assert (anew["type"], anew["data"]) == (fired["type"], fired["data"])
    assert anew["id"] != fired["id"]
    alarms.taken(anew, NOW + 15 * MINUTE + 1)
    alarms.resumed("a@1", "fine", NOW + 16 * MINUTE)
    ended = alarms.queue.get_nowait()
    alarms.taken(ended, NOW + 16 * MINUTE)
    assert ended["data"]["status"] == "resolved"
    assert drain(alarms) == []


def test_a_flapping_member_does_not_keep_another_from_being_repeated():
    """What lasts is repeated by the clock, however much else there is to say."""
    alarms = Alarms("s", "h", "live", lag_after=MINUTE, repeat=0.05)
    sent = []

    async def send(key, value):
        sent.append(key)
        alarms.resumed("b@1", "fine", NOW)
        alarms.suspended("b@1", "no", NOW + len(sent))
        if sent.count(b"a@1") == 3:
            done.set()
        await asyncio.sleep(0)

    done = asyncio.Event()

    async def scenario():
        alarms.suspended("a@1", "no", NOW)
        task = asyncio.create_task(alarms.run(send))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    asyncio.run(scenario())
