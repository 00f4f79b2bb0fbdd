"""What is sent to a receiver: Alertmanager's webhook message of version 4, or a text for Slack."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from evaluator.alerting.alert import Alert
from evaluator.alerting.wording import description, severity, summary

#: Go's zero time: the end of what has not ended.
NEVER = "0001-01-01T00:00:00Z"

#: Second word of the event type → the label that names the subject.
_NAMED = {"member": "member", "candidate": "member", "deployment": "member", "host": "host"}


def alertname(kind: str) -> str:
    """``chorus.member.flagged`` → ``ChorusMemberFlagged``."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in kind).split()
    return "".join(word[0].upper() + word[1:] for word in words) or "Chorus"


def identity(alert: Alert) -> dict[str, str]:
    """The labels that tell one condition from another. An empty label would be none: it is left out."""
    parts = alert.type.removeprefix("chorus.").split(".")
    labels = {"alertname": alertname(alert.type), "suite": alert.suite}
    if alert.subject and alert.subject != alert.suite:
        labels[_NAMED.get(parts[0], "subject")] = alert.subject
    return labels | alert.place


def wording(alert: Alert) -> dict[str, str]:
    """summary and description, in plain words."""
    return {"summary": summary(alert), "description": description(alert)}


def links(alert: Alert, link: str) -> tuple[str, str]:
    """(externalURL, generatorURL) from the setting `link`; both "" without it."""
    if not link:
        return "", ""
    parts = urlsplit(link)
    filled = {"{suite}": alert.suite, "{subject}": alert.subject, "{type}": alert.type}
    for name, value in filled.items():
        link = link.replace(name, quote(value, safe="@"))
    return f"{parts.scheme}://{parts.netloc}", link


def alertmanager(
    alert: Alert, *, receiver: str, link: str = "", starts_at: str | None = None
) -> dict[str, Any]:
    """The webhook message: one group of one alert, so that receivers which go by groups open and close it.

    starts_at: since when the condition fires, where that was before this event.
    """
    group = identity(alert)
    labels, said = {**group, "severity": severity(alert)}, wording(alert)
    external, generator = links(alert, link)
    one = {
        "status": alert.status,
        "labels": labels,
        "annotations": said,
        "startsAt": starts_at or alert.time,
        "endsAt": alert.time if alert.status == "resolved" else NEVER,
        "generatorURL": generator,
        "fingerprint": alert.fingerprint,
    }
    names = ", ".join(f'{name}="{_escaped(value)}"' for name, value in sorted(group.items()))
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{names}}}",
        "truncatedAlerts": 0,
        "status": alert.status,
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": said,
        "externalURL": external,
        "alerts": [one],
    }


def slack(alert: Alert, *, link: str = "") -> dict[str, Any]:
    """The message of an incoming webhook of Slack, or of what understands the same."""
    state = "resolved" if alert.status == "resolved" else severity(alert)
    lines = [f"*{state.upper()}* {_slack(summary(alert))}"]
    if said := description(alert):
        lines.append(_slack(said))
    if generator := links(alert, link)[1]:
        lines.append(f"<{generator}|Look at it>")
    return {"text": "\n".join(lines)}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
