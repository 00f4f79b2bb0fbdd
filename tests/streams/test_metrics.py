"""Metrics: their names, and that what is undefined is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

from streams.metrics import Metrics


def filled() -> Metrics:
    metrics = Metrics()
    for part in (metrics.host, metrics.evaluator):
        for metric in vars(part).values():
            if names := getattr(metric, "_labelnames", ()):
                metric.labels(*("x" for _ in names))
    return metrics


def status(precision: float | None) -> dict[str, Any]:
    counts = {"n": 3, "positive": 1, "negative": 0, "unlabelled": 2, "precision": precision}
    member = {
        "id": "a@1",
        "stage": "live",
        "scored": 9,
        "abstained": 0,
        "errors": 0,
        "flagged": counts,
        "unique": counts,
    }
    return {"windows": [{"name": "1h", "view": "latest", "members": [member]}]}


def test_names_pass_promtool() -> None:
    """promtool has nothing to say about any metric."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing: install Prometheus"
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=filled().exposition(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_prefix() -> None:
    """Every series is named chorus_…"""
    lines = filled().exposition().decode().splitlines()
    assert lines
    assert all(line.startswith(("chorus_", "# HELP chorus_", "# TYPE chorus_")) for line in lines)


def test_undefined_ratio_has_no_series() -> None:
    """A precision that was there and no longer is defined goes away, and is never 0."""
    metrics = Metrics()
    series = 'chorus_contribution_precision_ratio{member="a@1",set="unique"'
    metrics.evaluator.show(status(1.0))
    assert series in metrics.exposition().decode()
    metrics.evaluator.show(status(None))
    assert series not in metrics.exposition().decode()
    assert (
        'chorus_contribution_requests{label="positive",member="a@1",set="unique"'
        in metrics.exposition().decode()
    )
    metrics.evaluator.show({"windows": []})
    assert "a@1" not in metrics.exposition().decode()


def test_processes_show_what_they_have() -> None:
    """A host has no metrics of an evaluator, and two processes share nothing."""
    metrics = Metrics()
    metrics.host.requests.inc(5)
    assert b"chorus_requests_scored_total 5.0" in metrics.exposition()
    assert b"chorus_pending_labels" not in metrics.exposition()
    assert Metrics().exposition() == b""
