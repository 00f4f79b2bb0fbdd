"""What receivers are sent: Alertmanager's message of version 4, or a text for Slack."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from evaluator.alerting.alert import Alert, decode_alert, wanted
from evaluator.alerting.payload import NEVER, alertmanager, alertname, slack
from evaluator.alerting.posting import body_of
from evaluator.alerting.wording import REASONS, SAID, SEVERITIES, description, summary
from evaluator.announce import DECLINING, TYPES
from evaluator.label_alarms import LATE, STARVED
from evaluator.promotion.notices import TYPES as NOTICES
from evaluator.promotion.notices import notices
from members.alarms import SUSPENDED
from members.registry.events import Event
from members.registry.log import Recorded
from streams.errors import BadRecord
from streams.settings import Webhook
from tests.evaluator.alerting.alerts import COMPLETED, FLAGGED, VERDICT, Record, alert, event

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
INSTANT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
STATUS = {"enum": ["firing", "resolved"]}
ALERT: dict[str, Any] = {
    "status": STATUS,
    "labels": {
        **TEXTS,
        "required": ["alertname", "severity"],
        "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
    },
    "annotations": TEXTS,
    "startsAt": INSTANT,
    "endsAt": INSTANT,
    "generatorURL": {"type": "string"},
    "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
}
MESSAGE: dict[str, Any] = {
    "version": {"const": "4"},
    "groupKey": {"type": "string", "minLength": 1},
    "truncatedAlerts": {"type": "integer", "minimum": 0},
    "status": STATUS,
    "receiver": {"type": "string", "minLength": 1},
    "groupLabels": TEXTS,
    "commonLabels": TEXTS,
    "commonAnnotations": TEXTS,
    "externalURL": {"type": "string"},
    "alerts": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": ALERT,
            "required": list(ALERT),
            "additionalProperties": False,
        },
    },
}
SCHEMA = {"type": "object", "properties": MESSAGE, "required": list(MESSAGE), "additionalProperties": False}
VERSION_4 = Draft202012Validator(SCHEMA, format_checker=FormatChecker())


def test_a_firing_alert_is_a_message_of_version_4():
    """Every field that Alertmanager sends, with the numbers and the reason in words."""
    one = alert(verdict=VERDICT, counts=[[1, 2, 3]])
    message = alertmanager(one, receiver="pager", link="https://look.example/{suite}/m?id={subject}")
    VERSION_4.validate(message)
    assert message["alerts"] == [
        {
            "status": "firing",
            "labels": {
                "alertname": "ChorusMemberFlagged",
                "suite": "storms",
                "member": "a@1",
                "severity": "warning",
            },
            "annotations": {
                "summary": "a@1 lowers the precision of suite storms",
                "description": "The verdict is FLAG: what it alone flags is less often right than what "
                "the rest flags. Unique precision 0.29 (0.25 to 0.33) against 0.61. 96 % labelled, "
                "24 blocks. Evidence 3.20 of 3.00 (log e-value).",
            },
            "startsAt": "2026-03-01T12:00:00Z",
            "endsAt": NEVER,
            "generatorURL": "https://look.example/storms/m?id=a@1",
            "fingerprint": one.fingerprint,
        }
    ]
    assert message["externalURL"] == "https://look.example"
    assert message["groupKey"] == '{}:{alertname="ChorusMemberFlagged", member="a@1", suite="storms"}'
    assert "severity" not in message["groupLabels"]
    assert message["commonLabels"] == message["alerts"][0]["labels"]


def test_a_promotion_below_the_bar_for_one_says_that_others_are_good_too():
    """By e-BH less evidence is enough where several candidates are good at once: no "3.05 of 3.69" then."""
    promote = {**VERDICT, "state": "PROMOTE", "reasons": ["believed"], "log_e": 3.05, "threshold": 3.69}
    told = description(alert(verdict=promote))
    assert told.endswith("Evidence 3.05 (log e-value), enough beside others; 3.69 alone.")
    assert description(alert(verdict={**promote, "log_e": 4.0})).endswith(
        "Evidence 4.00 of 3.69 (log e-value)."
    )


def test_names_of_members_keep_their_letters():
    """A sentence begins with a capital; gale@1 and Gale@1 are two members."""
    assert description(alert(why="gale@1: no module storms")) == "gale@1: no module storms."
    assert description(alert(why="no module storms")) == "No module storms."


def test_a_candidate_that_was_declined_was_never_being_deployed():
    """Only what had the slot is told of as a deployment that was given up."""
    kind = "chorus.deployment.aborted"
    assert summary(alert(kind, "c@1", None)) == "c@1 is declined for suite storms, and stays in shadow"
    had = alert(kind, "c@1", None, deployment="c@1-1-5")
    assert summary(had) == "the deployment of c@1 to suite storms was aborted"


def test_a_resolved_alert_says_from_when_to_when():
    """It has the group and the fingerprint of what it ends."""
    fired, ended = alert(), alert(status="resolved", at=3600)
    first = alertmanager(fired, receiver="r")
    last = alertmanager(ended, receiver="r", starts_at=fired.time)
    VERSION_4.validate(last)
    assert last["status"] == last["alerts"][0]["status"] == "resolved"
    assert last["alerts"][0]["startsAt"] == "2026-03-01T12:00:00Z"
    assert last["alerts"][0]["endsAt"] == "2026-03-01T13:00:00Z"
    assert last["alerts"][0]["annotations"]["summary"] == "a@1 no longer lowers the precision of suite storms"
    for message in (first, last):
        assert message["groupKey"] == first["groupKey"]
        assert message["alerts"][0]["fingerprint"] == fired.fingerprint


def test_fingerprints_tell_conditions_apart():
    """By type, suite and subject, and by nothing else."""
    one = alert()
    assert one.fingerprint == alert(at=9, status="resolved", verdict=VERDICT).fingerprint
    others = {alert(DECLINING).fingerprint, alert(subject="b@1").fingerprint}
    assert len(others | {one.fingerprint}) == 3


def test_a_notice_fires_once_and_never_ends():
    """What has no status is told as firing, as something to know, with who and why."""
    one = alert(COMPLETED, status=None, who="ana", why="it adds 120 catches", revision=7, by=None)
    message = alertmanager(one, receiver="r")
    VERSION_4.validate(message)
    assert one.notice
    assert (message["status"], message["alerts"][0]["endsAt"]) == ("firing", NEVER)
    assert message["alerts"][0]["labels"]["severity"] == "info"
    assert description(one) == "It adds 120 catches. Who: ana. Revision: 7."


def test_what_concerns_the_suite_names_no_member():
    """Alarms of labels have the suite as subject; a host is a host."""
    starved = alert(
        STARVED, "storms", why="event time is 3d ahead of the labels", watermark=1_772_366_400_000
    )
    labels = alertmanager(starved, receiver="r")["commonLabels"]
    assert labels == {"alertname": "ChorusLabelsStarved", "suite": "storms", "severity": "warning"}
    assert "watermark: 2026-03-01T12:00:00Z" in description(starved).lower().replace("t1", "T1").replace(
        "z.", "Z"
    )
    assert alertmanager(alert("chorus.host.lagging", "live"), receiver="r")["groupLabels"]["host"] == "live"


def test_what_a_host_says_is_said_for_that_host():
    """A member may be suspended on one host and answer on another; hosts of one name are told apart too."""

    def on(host: str, instance: str, status: str = "firing") -> Alert:
        return alert(SUSPENDED, "a@1", status, host=host, instance=instance, stage="live")

    one = on("live-0", "pod-1")
    assert one.fingerprint == on("live-0", "pod-1", "resolved").fingerprint
    others = {on("live-1", "pod-1").fingerprint, on("live-0", "pod-2").fingerprint}
    assert len(others | {one.fingerprint, alert(SUSPENDED, "a@1").fingerprint}) == 4
    message = alertmanager(one, receiver="r")
    VERSION_4.validate(message)
    labels = {"member": "a@1", "host": "live-0", "instance": "pod-1"}
    assert message["groupLabels"] == {
        "alertname": "ChorusMemberSuspended", "suite": "storms", **labels
    }  # fmt: skip
    assert summary(one) == "a@1 of suite storms is suspended and abstains on live-0"
    assert summary(on("live-0", "p", "resolved")) == "a@1 of suite storms is no longer suspended on live-0"


def test_a_candidate_that_cannot_answer_wakes_nobody():
    """It decides nothing; a live member that abstains is critical."""
    live, shadow = (
        alert(SUSPENDED, "a@1", host="h", stage=stage, why="a@1: no module") for stage in ("live", "shadow")
    )
    assert alertmanager(live, receiver="r")["commonLabels"]["severity"] == "critical"
    assert alertmanager(shadow, receiver="r")["commonLabels"]["severity"] == "warning"
    assert summary(shadow) == "candidate a@1 of suite storms is suspended and abstains on h"


def test_an_approval_by_override_says_so():
    """Whoever hears of it knows that the evidence was passed over."""

    def said(override: bool) -> str:
        event = Event(kind="approved", member="a@1", at=1, who="ana", why="soon", override=override)
        (notice,) = notices("storms", [Recorded(0, event, None)], 0)
        return summary(decode_alert(Record(json.dumps(notice).encode()), "storms"))

    assert said(False) == "a@1 is approved for suite storms"
    assert said(True) == "an override approves a@1 for suite storms, whatever the evidence"


def test_decay_says_from_what_to_what_and_why():
    """The reason of a decline is in the message, with who took over."""
    decay = {"before": 0.5, "after": 0.2, "reason": "cannibalised", "by": "b@1", "since": 1, "reference": 0.4}
    said = description(alert(DECLINING, verdict={**VERDICT, "state": "OK", "reasons": [], "decay": decay}))
    assert "Its unique precision fell from 0.50 to 0.20. Others now catch what it caught (by b@1)." in said


def test_every_type_that_is_sent_has_words():
    """And every code of a reason; neither table has one that nobody sends, but for those of other parts."""
    sent = {*TYPES.values(), DECLINING, STARVED, LATE, *(kind for kind, _ in NOTICES.values())}
    assert sent <= set(SAID)
    assert {kind for kind, said in SAID.items() if said[0] not in SEVERITIES} == set()
    assert "cannibalised" in REASONS


def test_unknown_types_are_spelt_out():
    """A type of tomorrow is told too."""
    new = alert("chorus.moon.rising_fast", "luna", status="resolved", height=0.123456)
    assert summary(new) == "moon rising fast has ended: luna of suite storms"
    assert description(new) == "Height: 0.1235."
    assert alertname("chorus.moon.rising_fast") == "ChorusMoonRisingFast"
    VERSION_4.validate(alertmanager(new, receiver="r"))


def test_an_event_may_name_its_severity():
    """One that is known; anything else is not believed."""
    assert alertmanager(alert(severity="critical"), receiver="r")["commonLabels"]["severity"] == "critical"
    assert alertmanager(alert(severity="huge"), receiver="r")["commonLabels"]["severity"] == "warning"


def test_slack_gets_a_text():
    """With the state in front, the link at the end, and nothing that Slack would take for markup."""
    text = slack(alert(subject="<a&b>", reason="x"), link="https://look.example/{subject}")["text"]
    assert text.splitlines() == [
        "*WARNING* &lt;a&amp;b&gt; lowers the precision of suite storms",
        "X.",
        "<https://look.example/%3Ca%26b%3E|Look at it>",
    ]
    assert slack(alert(status="resolved"))["text"].startswith("*RESOLVED* ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
fields = st.sampled_from(["reason", "detail", "why", "verdict", "decay", "x", "since", "watermark"])


@settings(max_examples=60)
@given(
    st.sampled_from([*SAID, "x", "..", "ä.ö"]),
    st.text(),
    st.sampled_from(["firing", "resolved", None]),
    st.dictionaries(fields, json_values),
)
def test_whatever_an_event_holds_it_can_be_said(kind, subject, status, data):
    """Any data leads to a message of version 4 and to a text, in bytes."""
    try:
        one = alert(kind, subject, status, **{k: v for k, v in data.items() if k != "status"})
    except UnicodeEncodeError:
        return
    VERSION_4.validate(alertmanager(one, receiver="r", link="https://h/{subject}"))
    for form in ("alertmanager", "slack"):
        hook = Webhook.model_validate({"name": "r", "url": "http://h", "format": form})
        assert json.loads(body_of(one, hook, link="", starts_at=one.time))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "malformed"),
        (b"\xff", "malformed"),
        (b'{"id": "1"}', "malformed"),
        (b'{"id": "", "type": "t"}', "missing_field"),
        (b'{"id": "1", "type": "t", "data": {"status": "perhaps"}}', "wrong_type"),
    ],
)
def test_what_is_no_event_is_refused(value, reason):
    """With the reason that its dead letter gives."""
    with pytest.raises(BadRecord) as caught:
        decode_alert(Record(value), "storms")
    assert caught.value.reason == reason


def test_an_event_without_a_time_has_that_of_its_record():
    """So that every message has a beginning."""
    said = {**event(), "time": "soon"}
    assert decode_alert(Record(json.dumps(said).encode()), "storms").time == "2026-03-04T00:00:00Z"
    assert isinstance(decode_alert(Record(b'{"id": "1", "type": "t"}', None), "s"), Alert)


@pytest.mark.parametrize(
    ("glob", "takes"),
    [
        ("*", True),
        ("chorus.member.*", True),
        ("member.*", True),
        (FLAGGED, True),
        ("member.decaying", False),
        ("candidate.*", False),
    ],
)
def test_receivers_take_the_types_that_they_name(glob, takes):
    """Globs, with or without `chorus.` in front."""
    assert wanted(FLAGGED, [glob]) is takes
