"""Waiting until everything has been read, recounting it, and comparing every number."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from tests.e2e.clients import Senders, read_topic
from tests.e2e.drive import Up
from tests.e2e.logs import Ballots, Raw, Request, ballots_of, labels_of, requests_of
from tests.e2e.recount import LIVE, Recount, differences
from tests.e2e.suites import MEMBERS, SuiteFile


async def recount(suite: SuiteFile, bootstrap: str, sent: Senders) -> Recount:
    """Read the topics until they are complete, check them against each other, and count them."""

    async def read(kind: str, missing: Any) -> list[Raw]:
        return await read_topic(bootstrap, suite.topic(kind), missing)

    def there(kind: str) -> Any:
        return lambda records: sent.places[kind] - {record.place for record in records}

    raw_requests = await read("requests", there("requests"))
    raw_labels = await read("labels", there("labels"))
    requests, labels = requests_of(raw_requests), labels_of(raw_labels)
    bad = sum(topic != suite.topic("votes") for topic, _, _ in sent.bad)
    assert len(raw_requests) + len(raw_labels) - len(requests) - len(labels) == bad

    injected = sent.places["votes"]
    ballots = Ballots()

    def votes(records: list[Raw]) -> dict[str, list[tuple[int, int]]]:
        nonlocal ballots
        ballots = ballots_of(records, injected)
        voters = ["*", *MEMBERS]
        lacking = {who: [r.place for r in requests if (who, r.place) not in ballots.of] for who in voters}
        return {who: sorted(places) for who, places in lacking.items() if places}

    await read("votes", votes)
    places = {request.place for request in requests}
    raw = await read("decisions", lambda records: places - {place for place, _ in map(_decision, records)})
    decisions = [decision for _, decision in map(_decision, sorted(raw))]
    check_decisions(decisions, requests, ballots)
    letters = await read("dead-letters", lambda records: sent.bad.keys() - _letters(records).keys())
    assert _letters(letters) == sent.bad
    return Recount(suite, requests, labels, ballots, decisions, len(sent.bad))


def _decision(record: Raw) -> tuple[tuple[int, int], dict[str, Any]]:
    decision = json.loads(record.value or b"{}")
    return (decision["partition"], decision["offset"]), decision


def _letters(records: list[Raw]) -> dict[tuple[str, int, int], str]:
    """Origin → reason; a record that several readers could not use stands there more than once."""
    found = {}
    for record in records:
        letter = json.loads(record.value or b"{}")
        origin = letter["origin"]
        found[origin["topic"], origin["partition"], origin["offset"]] = letter["reason"]
    return found


def check_decisions(decisions: list[dict[str, Any]], requests: list[Request], ballots: Ballots) -> None:
    """Every decision that was ever sent says what the counted votes say, and no rule was misapplied."""
    known = {request.place: request for request in requests}
    for decision in decisions:
        place = (decision["partition"], decision["offset"])
        request = known[place]
        fired = [who for who in LIVE if ballots.of[who, place].true]
        assert sorted(decision["fired"]) == sorted(fired), (decision, fired)
        assert decision["judgement"] is bool(fired) is ballots.of["*", place].true, decision
        assert (decision["request_id"], decision["time"]) == (request.id, request.time)
    for who, (_, rule) in MEMBERS.items():
        for request in requests if rule else []:
            answer, vote = rule(request.features), ballots.of[who, request.place]
            assert (vote.true, vote.state) == (bool(answer), 1 if answer is None else 0), (who, request, vote)


async def settle(up: Up, expected: dict[str, Any], *, seconds: float = 120.0) -> None:
    """Until the status says what is expected, number by number, and goes on saying it."""
    deadline = time.monotonic() + seconds
    right = 0
    while right < 2:
        document = await asyncio.to_thread(up.status)
        wrong = differences(expected, document)
        right = 0 if wrong else right + 1
        if wrong and time.monotonic() > deadline:
            shown = "\n".join(wrong[:60])
            raise AssertionError(f"{len(wrong)} numbers are not what a recount finds:\n{shown}")
