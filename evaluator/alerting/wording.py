"""Alerts in plain words: one line that says what is the matter, and the numbers and the reason behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evaluator.alerting.alert import Alert
from members.alarms import SUSPENDED
from streams.times import format_time

#: Event type → severity, what to say while it fires, what to say when it has ended.
SAID: dict[str, tuple[str, str, str]] = {
    "chorus.candidate.promotion_recommended": (
        "info", "{0} has earned its place in suite {1}", "{0} is no longer recommended for suite {1}"),
    "chorus.candidate.rejected": (
        "info", "{0} would not improve suite {1}", "{0} is no longer rejected for suite {1}"),
    "chorus.member.flagged": (
        "warning", "{0} lowers the precision of suite {1}",
        "{0} no longer lowers the precision of suite {1}"),
    "chorus.member.decaying": (
        "warning", "{0} of suite {1} is worse than it was", "{0} of suite {1} is as good as it was"),
    "chorus.member.suspended": (
        "critical", "{0} of suite {1} is suspended and abstains",
        "{0} of suite {1} is no longer suspended"),
    "chorus.labels.starved": (
        "warning", "labels of suite {1} have stopped coming", "labels of suite {1} come again"),
    "chorus.labels.late": (
        "warning", "votes and labels of suite {1} come too late to count",
        "those of suite {1} are in time again"),
    "chorus.host.lagging": (
        "warning", "{0} of suite {1} is falling behind", "{0} of suite {1} no longer falls behind"),
    "chorus.deployment.started": ("info", "{0} is being deployed to suite {1}", ""),
    "chorus.deployment.completed": ("info", "{0} is live in suite {1}", ""),
    "chorus.deployment.aborted": ("warning", "the deployment of {0} to suite {1} was aborted", ""),
    "chorus.deployment.rolled_back": ("warning", "{0} was rolled back from suite {1}", ""),
    "chorus.candidate.added": ("info", "{0} is a candidate for suite {1}", ""),
    "chorus.candidate.approved": ("info", "{0} is approved for suite {1}", ""),
    "chorus.candidate.reranked": ("info", "{0} has another place in the queue of suite {1}", ""),
    "chorus.candidate.superseded": ("info", "{0} falls back: suite {1} does not need it as it is now", ""),
    "chorus.member.retired": ("info", "{0} is retired from suite {1}", ""),
    "chorus.member.back_to_shadow": ("info", "{0} of suite {1} is in shadow again", ""),
}  # fmt: skip

SEVERITIES = ("info", "warning", "critical")

#: Codes of reasons, of verdicts and of decay, in words.
REASONS = {
    "believed": "the evidence is beyond what chance would give",
    "worse_than_the_suite": "what it alone flags is less often right than what the suite flags",
    "worse_than_the_rest": "what it alone flags is less often right than what the rest flags",
    "redundant": "hardly anything of what it flags is its own",
    "not_worse": "there is no evidence against it",
    "another_is_lower": "another member is lower, and comes first",
    "no_evidence_yet": "there is no evidence yet",
    "nothing_of_its_own_yet": "it has flagged nothing of its own yet",
    "needs_labels": "more labels are needed",
    "not_at_this_rate": "the evidence does not grow at this rate",
    "min_span": "it has not been watched for long enough",
    "pooled_precision_is_lower": "over all requests its precision is lower",
    "below_the_floor": "its precision is below the floor of the policy",
    "empty_suite_needs_a_floor": "there is no live member, and the policy has no floor",
    "labels_starved": "labels have stopped coming",
    "insufficient_labels": "the labels that are needed are not there",
    "dependent_outcomes": "labels of one day resemble each other, although the suite says they do not",
    "no_common_coverage": "it has not scored what the others have",
    "own_decline": "its own precision fell",
    "cannibalised": "others now catch what it caught",
    "labels_late": "fewer of its requests are labelled than before",
}

#: Long or nested parts that a message leaves out: the event has them.
_LEFT_OUT = (
    "status",
    "severity",
    "verdict",
    "counts",
    "evidence",
    "decay",
    "event",
    "why",
    "reason",
    "detail",
)
_MOST = 1500  # characters of a description


def severity(alert: Alert) -> str:
    """The event's own, where it names one of SEVERITIES."""
    told = alert.data.get("severity")
    if isinstance(told, str) and told in SEVERITIES:
        return told
    if alert.candidate:
        return "warning"  # it decides nothing
    return SAID[alert.type][0] if alert.type in SAID else "info" if alert.notice else "warning"


def summary(alert: Alert) -> str:
    """One line: what is the matter, or that it has ended. Types that are not known here are spelt out."""
    subject = alert.subject or "something"
    _, firing, resolved = SAID.get(alert.type, ("", "", ""))
    said = resolved if alert.status == "resolved" else firing
    if alert.type == "chorus.deployment.aborted" and not alert.data.get("deployment"):
        said = "{0} is declined for suite {1}, and stays in shadow"  # it never came to a deployment
    if alert.type == "chorus.candidate.approved" and alert.data.get("override") is True:
        said = "an override approves {0} for suite {1}, whatever the evidence"
    if alert.type == SUSPENDED and "host" in alert.place:
        said = f"{'candidate ' if alert.candidate else ''}{said} on {{2}}"
    if said:
        return said.format(subject, alert.suite, alert.place.get("host"))
    words = alert.type.removeprefix("chorus.").replace(".", " ").replace("_", " ")
    ended = " has ended" if alert.status == "resolved" else ""
    return f"{words}{ended}: {subject} of suite {alert.suite}"


def description(alert: Alert) -> str:
    """The reason first, then the numbers, as sentences; "" where the event has neither."""
    parts = [part for part in _parts(alert.data) if part]
    text = ". ".join(_begun(part) for part in parts)
    return "" if not text else text[:_MOST] + ("…" if len(text) > _MOST else ".")


def _begun(part: str) -> str:
    """With a capital, unless it begins with the name of a member."""
    return part if "@" in part.partition(" ")[0] else f"{part[0].upper()}{part[1:]}"


def _parts(data: Mapping[str, Any]) -> Iterator[str]:
    for name in ("why", "reason", "detail"):
        told = data.get(name)
        for each in told if isinstance(told, list) else [told]:
            if isinstance(each, str) and each:
                yield REASONS.get(each, each).rstrip(".")
    verdict = data.get("verdict")
    if isinstance(verdict, Mapping):
        yield from _verdict(verdict)
    yield from (
        f"{name.replace('_', ' ')}: {_plain(name, value)}"
        for name, value in data.items()
        if name not in _LEFT_OUT and isinstance(value, str | int | float) and value != ""
    )


def _verdict(verdict: Mapping[str, Any]) -> Iterator[str]:
    reasons = verdict.get("reasons")
    words = (
        [REASONS.get(str(code), str(code)) for code in reasons] if isinstance(reasons, list | tuple) else []
    )
    if words or verdict.get("state"):
        twin = f" (with {verdict['twin']})" if verdict.get("twin") else ""
        yield f"the verdict is {verdict.get('state')}: {', '.join(words) or 'no reason given'}{twin}"
    decay = verdict.get("decay")
    if isinstance(decay, Mapping):
        by = f" (by {decay['by']})" if decay.get("by") else ""
        why = REASONS.get(str(decay.get("reason")), str(decay.get("reason")))
        yield f"its unique precision fell from {_ratio(decay.get('before'))} to {_ratio(decay.get('after'))}"
        yield f"{why}{by}"
    interval = verdict.get("interval")
    if verdict.get("unique_precision") is not None:
        between = ""
        if isinstance(interval, list | tuple) and len(interval) == 2:
            between = f" ({_ratio(interval[0])} to {_ratio(interval[1])})"
        against = _ratio(verdict.get("reference_precision"))
        yield f"unique precision {_ratio(verdict['unique_precision'])}{between} against {against}"
    if verdict.get("label_coverage") is not None:
        yield f"{_percent(verdict['label_coverage'])} labelled, {verdict.get('blocks')} blocks"
    if verdict.get("log_e") is not None and verdict.get("threshold") is not None:
        log_e, bar = verdict["log_e"], verdict["threshold"]
        if verdict.get("state") == "PROMOTE" and log_e < bar:  # several are good at once: less is enough
            yield f"evidence {_ratio(log_e)} (log e-value), enough beside others; {_ratio(bar)} alone"
        else:
            yield f"evidence {_ratio(log_e)} of {_ratio(bar)} (log e-value)"


def _ratio(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "unknown"


def _percent(value: Any) -> str:
    return f"{value:.0%}".replace("%", " %") if isinstance(value, int | float) else "unknown"


def _plain(name: str, value: Any) -> str:
    """Instants as people read them, ratios with few digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name in ("since", "watermark", "labels_through", "event_time", "at"):
        try:
            return format_time(value)
        except (ValueError, OverflowError):
            return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
