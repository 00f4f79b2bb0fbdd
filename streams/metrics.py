"""Every metric of Chorus is registered here, so that names, units and labels are decided in one place.

A ratio that is not defined has no series: it is removed, never set to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_KINDS = ("flagged", "unique", "overlapping")


class HostMetrics:
    """What a member host says about itself. Durations in seconds, instants in seconds since the epoch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        on: dict[str, Any] = {"registry": registry}
        self.requests = Counter("chorus_requests_scored_total", "Requests scored.", **on)
        self.batch = Histogram("chorus_batch_requests", "Requests in one batch.", buckets=_SIZES, **on)
        self.stage = Histogram(
            "chorus_stage_duration_seconds",
            "Time that one batch spent in a stage of the host.",
            ["stage"],
            buckets=_SECONDS,
            **on,
        )
        self.lag = Gauge(
            "chorus_consumer_lag_records",
            "Records behind the high watermark that the broker reports; the embedded broker reports it low.",
            ["topic", "partition"],
            **on,
        )
        self.watermark = Gauge(
            "chorus_watermark_timestamp_seconds",
            "Event time up to which the member has scored: the least of its host's partitions.",
            ["member"],
            **on,
        )
        self.delay = Gauge(
            "chorus_watermark_delay_seconds",
            "How far the member's watermark is behind the wall clock.",
            ["member"],
            **on,
        )
        self.member_events = Counter(
            "chorus_member_events_total",
            "Times that a member failed, was late, was suspended or came back.",
            ["member", "event"],
            **on,
        )
        self.suspended = Gauge(
            "chorus_member_suspended", "1 while the circuit breaker keeps the member out.", ["member"], **on
        )
        self.abstentions = Counter(
            "chorus_member_abstentions_total", "Requests on which the member abstained.", ["member"], **on
        )
        self.votes = Counter(
            "chorus_member_true_votes_total", "Requests that the member flagged.", ["member"], **on
        )
        self.dead_letters = Counter(
            "chorus_dead_letters_total", "Records sent to dead letters.", ["reason"], **on
        )
        self.decisions = Counter("chorus_decisions_total", "Decisions sent.", ["judgement"], **on)
        self.replayed = Counter(
            "chorus_decisions_replayed_total",
            "Decisions rebuilt from the votes that an earlier host recorded; among chorus_decisions_total.",
            **on,
        )


class BackfillMetrics:
    """What a backfill says about itself, beside what a host does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        on: dict[str, Any] = {"registry": registry}
        self.done = Gauge("chorus_backfill_done_positions", "Positions of requests that are done.", **on)
        self.wanted = Gauge(
            "chorus_backfill_wanted_positions", "Positions that there were to do when it began.", **on
        )
        self.throttled = Gauge(
            "chorus_backfill_throttled", "1 while it pauses because the live hosts are behind.", **on
        )
        self.live_lag = Gauge(
            "chorus_backfill_live_lag_records", "How far the live hosts are behind, as it sees them.", **on
        )


class EvaluatorMetrics:
    """What an evaluator says about itself and the suite."""

    def __init__(self, registry: CollectorRegistry) -> None:
        on: dict[str, Any] = {"registry": registry}
        self.applied = Counter(
            "chorus_records_applied_total", "Records applied to the store.", ["topic"], **on
        )
        self.refusals = Counter(
            "chorus_apply_refusals_total", "Runs that a shard refused for not going on where it stood.", **on
        )
        self.apply = Histogram(
            "chorus_redis_apply_duration_seconds", "One call of the script.", buckets=_SECONDS, **on
        )
        self.batch = Histogram(
            "chorus_apply_batch_records", "Records in one run.", ["topic"], buckets=_SIZES, **on
        )
        self.lag = Gauge(
            "chorus_evaluator_lag_records",
            "Records behind the high watermark that the broker reports; the embedded broker reports it low.",
            ["topic", "partition"],
            **on,
        )
        self.watermark = Gauge(
            "chorus_suite_watermark_timestamp_seconds", "Event time at which the suite stands.", **on
        )
        self.delay = Gauge(
            "chorus_suite_watermark_delay_seconds", "How far the suite's watermark is behind the clock.", **on
        )
        self.labels_through = Gauge(
            "chorus_labels_through_timestamp_seconds", "Label time up to which labels are in.", **on
        )
        self.pending = Gauge("chorus_pending_labels", "Labels that wait for their request.", **on)
        self.late = Gauge("chorus_late_updates", "Updates dropped for being older than the store.", **on)
        self.gaps = Gauge("chorus_log_gaps", "Places where retention cut the log before it was read.", **on)
        self.gap_records = Gauge("chorus_log_gap_records", "Records that were lost in such places.", **on)
        self.dead_letters = Gauge(
            "chorus_dead_letter_origins", "Distinct records in dead letters, counted by their origin.", **on
        )
        at = ["member", "stage", "window", "view"]
        self.requests = Gauge(
            "chorus_contribution_requests",
            "Requests of the window the member flagged, alone (unique) or with others, by their label.",
            [*at, "set", "label"],
            **on,
        )
        self.precision = Gauge(
            "chorus_contribution_precision_ratio",
            "Precision over the labelled part; no series where nothing is labelled.",
            [*at, "set"],
            **on,
        )
        self.scored = Gauge(
            "chorus_contribution_scored_requests",
            "Requests of the window by what the member did.",
            [*at, "state"],
            **on,
        )
        self.verdict = Gauge(
            "chorus_member_verdict", "1 for the state of the member's verdict.", ["member", "state"], **on
        )
        self.e_value = Gauge(
            "chorus_member_e_value", "Evidence for the claim that the verdict is about.", ["member"], **on
        )
        self.declining = Gauge(
            "chorus_member_declining", "1 while a live member is worse than its own past.", ["member"], **on
        )
        self.state = Gauge(
            "chorus_member_state",
            "1 for where the member is between shadow and live.",
            ["member", "state"],
            **on,
        )
        self.revision = Gauge(
            "chorus_suite_revision",
            "Revision of the suite: as registered, and as requests were last answered.",
            ["kind"],
            **on,
        )
        self.webhook_deliveries = Counter(
            "chorus_webhook_deliveries_total",
            "Attempts to deliver an alert: delivered, retried, refused; skipped were not tried.",
            ["receiver", "outcome"],
            **on,
        )
        self.webhook_pending = Gauge(
            "chorus_webhook_pending_seconds",
            "Age of the oldest alert that the receiver does not have yet; only where it is delivered from.",
            ["receiver"],
            **on,
        )
        self._series: dict[Gauge, set[tuple[str, ...]]] = {}
        for gauge in (self.watermark, self.delay, self.labels_through):
            set_optional(gauge, None)

    def show(self, status: Mapping[str, Any]) -> None:
        """Take the contribution of every member from a status document (docs/status.md)."""
        seen: dict[Gauge, dict[tuple[str, ...], float]] = {
            self.requests: {}, self.precision: {}, self.scored: {},
            self.verdict: {}, self.e_value: {}, self.declining: {}, self.state: {}, self.revision: {},
        }  # fmt: skip
        if (registry := status.get("registry")) is not None:
            seen[self.revision][("registered",)] = registry["revision"]
        if status.get("revision"):
            seen[self.revision][("answered",)] = status["revision"]
        for window in status["windows"]:
            for member in window["members"]:
                at = (member["id"], member["stage"], window["name"], window["view"])
                seen[self.state][member["id"], member.get("state", member["stage"])] = 1
                if verdict := member.get("verdict"):
                    seen[self.verdict][member["id"], verdict["state"]] = 1
                    seen[self.declining][(member["id"],)] = int(verdict["decay"] is not None)
                    if verdict["e_value"] is not None:
                        seen[self.e_value][(member["id"],)] = verdict["e_value"]
                for state in ("scored", "abstained", "errors"):
                    if member.get(state) is not None:
                        seen[self.scored][(*at, state)] = member[state]
                for kind in _KINDS:
                    counts = member.get(kind)
                    if not counts:
                        continue
                    for label in ("positive", "negative", "unlabelled"):
                        if counts[label] is not None:
                            seen[self.requests][(*at, kind, label)] = counts[label]
                    if counts["precision"] is not None:
                        seen[self.precision][(*at, kind)] = counts["precision"]
        for gauge, values in seen.items():
            _replace(gauge, self._series.get(gauge, set()), values)
            self._series[gauge] = set(values)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._host: HostMetrics | None = None
        self._backfill: BackfillMetrics | None = None
        self._evaluator: EvaluatorMetrics | None = None

    @property
    def host(self) -> HostMetrics:
        """Registered on first use: a process shows only what it has."""
        if self._host is None:
            self._host = HostMetrics(self.registry)
        return self._host

    @property
    def backfill(self) -> BackfillMetrics:
        """Registered on first use: a process shows only what it has."""
        if self._backfill is None:
            self._backfill = BackfillMetrics(self.registry)
        return self._backfill

    @property
    def evaluator(self) -> EvaluatorMetrics:
        """Registered on first use: a process shows only what it has."""
        if self._evaluator is None:
            self._evaluator = EvaluatorMetrics(self.registry)
        return self._evaluator

    def exposition(self) -> bytes:
        """The text that /metrics answers."""
        return generate_latest(self.registry)


def set_optional(gauge: Gauge, value: float | None) -> None:
    """Set a gauge without labels; NaN where there is no value (a gauge without labels cannot be removed)."""
    gauge.set(float("nan") if value is None else value)


def _replace(gauge: Gauge, before: set[tuple[str, ...]], values: Mapping[tuple[str, ...], float]) -> None:
    for labels in before - set(values):
        gauge.remove(*labels)
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
