"""What a receiver knows decides what it is told; how it answers decides what happens next."""

from __future__ import annotations

import pytest

from evaluator.alerting.conditions import REMEMBERED, Conditions, latest, still_firing
from evaluator.alerting.posting import (
    LONGEST_RETRY_AFTER,
    backoff,
    headers_of,
    outcome_of,
    parse_retry_after,
)
from evaluator.alerting.signing import sign, verify
from evaluator.announce import DECLINING
from streams.settings import Webhook
from tests.evaluator.alerting.alerts import COMPLETED, alert


def tell(known: Conditions, *alerts):
    """What is decided on each; what is to be sent is told."""
    decided = []
    for one in alerts:
        decided.append(known.decide(one))
        if decided[-1] == "send":
            known.told(one)
    return decided


def test_a_condition_is_told_when_it_begins_changes_and_ends():
    """Not by an id that is known, not without news, and no end of what never began."""
    fired, ended = alert(x=1), alert(status="resolved", at=9)
    series = [fired, fired, alert(x=1, at=3), alert(x=2, at=4), ended, ended, alert(status="resolved", at=10)]
    said = ["send", "known", "unchanged", "send", "send", "known", "not_firing"]
    assert tell(Conditions(), *series) == said
    assert tell(Conditions(), ended) == ["not_firing"]
    assert tell(Conditions(), fired, ended, alert(x=1, at=20)) == ["send"] * 3


def test_an_update_keeps_its_beginning():
    """A condition fires since its first event, until it ends."""
    known = Conditions()
    tell(known, alert(x=1), alert(x=2, at=60))
    assert known.starts_at(alert(status="resolved", at=90)) == "2026-03-01T12:00:00Z"
    tell(known, alert(status="resolved", at=90))
    assert known.starts_at(alert(at=120)) == "2026-03-01T12:02:00Z"


def test_notices_are_told_each_and_are_no_conditions():
    """The same member may be deployed twice; a new receiver is not told of either."""
    first, second = alert(COMPLETED, status=None), alert(COMPLETED, status=None, at=5)
    known = Conditions()
    assert tell(known, first, second, first) == ["send", "send", "known"]
    assert known.firing == {}
    assert latest([first, second]) == []


def test_what_is_firing_after_a_history():
    """The last word on each condition counts, in the order in which these came."""
    history = [
        alert(subject="a"), alert(subject="b"), alert(DECLINING, "a"),
        alert(subject="a", status="resolved", at=1),
        alert(subject="b", at=2, x=1), alert(COMPLETED, status=None),
    ]  # fmt: skip
    assert [(one.type, one.subject, since) for one, since in still_firing(history)] == [
        (history[1].type, "b", "2026-03-01T12:00:00Z"),
        (DECLINING, "a", "2026-03-01T12:00:00Z"),
    ]
    assert tell(Conditions(), *latest(history)) == ["send", "not_firing", "send"]


def test_the_memory_of_ids_is_bounded():
    """The oldest are forgotten first."""
    known = Conditions()
    notices = [alert(COMPLETED, status=None, at=i) for i in range(3)]
    known.told(notices[0])
    known.ids |= dict.fromkeys(map(str, range(REMEMBERED - 1)))
    tell(known, *notices[1:])
    assert len(known.ids) == REMEMBERED
    assert tell(known, notices[2], notices[0]) == ["known", "send"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"), (204, "delivered"), (302, "retried"), (400, "refused"), (401, "refused"),
        (404, "refused"), (408, "retried"), (410, "refused"), (429, "retried"), (500, "retried"),
        (503, "retried"),
    ],
)  # fmt: skip
def test_what_an_answer_means(status, outcome):
    """4xx is final, but for those that ask to come again."""
    assert outcome_of(status) == outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0), ("", 0), ("7", 7), (" 7 ", 7), ("soon", 0), ("-5", 0), ("²", 0),
        ("9" * 400, LONGEST_RETRY_AFTER),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_how_long_a_receiver_wants_to_be_left_alone(header, seconds):
    """Seconds, or a date; bounded, and nothing where it cannot be read."""
    assert parse_retry_after(header, 100.0) == seconds


def test_waits_double_up_to_the_longest():
    """Chance takes off a half at most."""
    assert [backoff(n, 1.0, 10.0, 0.0) for n in (1, 2, 3, 4, 5, 2000)] == [1, 2, 4, 8, 10, 10]
    assert backoff(3, 1.0, 10.0, 1.0) == 2.0


def test_a_signature_is_checked_with_the_time_it_was_made():
    """Another body, secret or time is noticed; an old message is refused; nonsense is no error."""
    body = b'{"a": 1}'
    hook = Webhook.model_validate({"name": "r", "url": "http://h", "secret": "s3"})
    headers = headers_of(alert(), hook, body, 1000.9)
    stamp, signature = headers["X-Chorus-Timestamp"], headers["X-Chorus-Signature"]
    assert (stamp, headers["X-Chorus-Event-Id"]) == ("1000", alert().id)
    assert verify("s3", stamp, signature, body, now=1100)
    assert not verify("s3", stamp, signature, body + b" ", now=1100)
    assert not verify("s4", stamp, signature, body, now=1100)
    assert not verify("s3", "1001", signature, body, now=1100)
    assert not verify("s3", stamp, signature, body, now=1000 + 301)
    assert not verify("s3", stamp, signature, body, now=1000 - 301)
    for stamp in ("", "x", "nan", "inf"):
        assert not verify("s3", stamp, sign("s3", stamp, body), body, now=1000)
    assert not verify("s3", "1000", "sha256=ä", body, now=1000)


def test_without_a_secret_nothing_is_signed():
    """The id is there all the same."""
    hook = Webhook.model_validate({"name": "r", "url": "http://h"})
    assert not {"X-Chorus-Signature", "X-Chorus-Timestamp"} & set(headers_of(alert(), hook, b"", 0))
