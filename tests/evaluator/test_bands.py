"""Intervals and estimates beside the ratios of a window."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.bands import Dispersions, add_estimates, add_intervals, dispersions
from evaluator.cells import Bucket, join
from evaluator.evidence.confidence import interval
from evaluator.evidence.maturity import bin_upper, delay_bin
from evaluator.status import _window
from evaluator.windows import evaluate
from streams.labels import NEGATIVE, POSITIVE
from streams.suite import DAY, parse_suite

HOUR = 3_600_000
SUITE = parse_suite(
    'name = "b"\nbucket = "1h"\nwindows = ["2d"]\n[[member]]\nname = "a"\nversion = "1"\nstage = "live"\n'
    'owner = "o"\nloader = "a:B"\n'
)


def history(days, hourly):
    """Cells of one live member; hourly(hour) gives (positive, negative, unlabelled)."""
    buckets = []
    for hour in range(days * 24):
        counts = np.array(hourly(hour))
        kept = counts > 0
        patterns = [(1, 0, "", 1)] * int(kept.sum())
        states = np.array([5, 6, 0])[kept]
        buckets.append(Bucket(hour * HOUR, patterns, states, counts[kept], 100, {"a@1": 100}, {}, {}))
    return join([({"a@1": 0}, buckets)], ["a@1"])


def document(cells, start, end):
    found = evaluate(cells, ["a@1"], start, end, HOUR)
    return _window(SUITE, "2d", "latest", found, {"a@1": end}, {})


def test_every_count_has_the_confidence_sequence_of_its_labels():
    """Wider where days differ more than chance would have it; none where nothing is labelled."""
    alike = history(10, lambda hour: (3, 1, 0))
    apart = history(10, lambda hour: (4, 0, 0) if hour // 24 % 2 else (2, 2, 0))
    for cells, factor in ((alike, 1.0), (apart, None)):
        phi = dispersions(cells, SUITE, 10 * DAY)
        assert phi.flagged["a@1"] == phi.unique["a@1"] == phi.suite
        assert phi.suite == 1.0 if factor else phi.suite > 5
        window = document(cells, 0, 10 * DAY)
        add_intervals([window], phi)
        low, high = interval(720, 960, 0.05, phi.suite)
        assert window["members"][0]["flagged"]["interval"] == pytest.approx([low, high])
        assert window["suite"]["unflagged"]["interval"] is None
    wide = dispersions(apart, SUITE, 10 * DAY)
    assert wide.suite > dispersions(alike, SUITE, 10 * DAY).suite


def test_an_immature_window_says_what_it_may_come_to():
    """Positives take a day, negatives an hour: the last day reads too low, the estimate does not."""
    late = {POSITIVE: 24 * HOUR, NEGATIVE: HOUR}
    days = 20
    end = days * DAY

    def hourly(hour):
        age = end - hour * HOUR
        come = {outcome: 1 - np.exp(-age / mean) for outcome, mean in late.items()}
        return round(600 * come[POSITIVE]), round(400 * come[NEGATIVE]), 0

    cells = history(days, hourly)
    delays = {}
    for day in range(days):
        for outcome, mean in late.items():
            for k in range(60):
                upper, lower = bin_upper(k), bin_upper(k - 1) if k else 0
                if lower > end - day * DAY:
                    continue
                share = np.exp(-lower / mean) - np.exp(-min(upper, end - day * DAY) / mean)
                count = round(10_000 * share)
                if count > 0:
                    assert delay_bin(max(upper - 1, 1)) == k
                    delays[day * DAY, outcome, k] = count
    window = document(cells, end - DAY, end)
    plain = window["suite"]["flagged"]["precision"]
    add_estimates(window, cells, SUITE, delays, end, end - 5 * DAY)
    estimate = window["suite"]["flagged"]["estimate"]
    assert plain < 0.5
    assert estimate == pytest.approx(0.6, abs=0.04)
    assert window["members"][0]["unique"]["estimate"] == estimate


def test_a_mature_window_has_no_estimate():
    """Nothing is on its way any more; and without delays nothing is known of it."""
    cells = history(3, lambda hour: (1, 1, 0))
    window = document(cells, 0, DAY)
    add_estimates(window, cells, SUITE, {}, 3 * DAY, 2 * DAY)
    assert window["suite"]["flagged"]["estimate"] is None
    window = document(cells, 0, 3 * DAY)
    add_estimates(window, cells, SUITE, {}, 3 * DAY, 2 * DAY)
    assert window["suite"]["flagged"]["estimate"] is None
    add_intervals([document(join([({}, [])], ["a@1"]), 0, DAY)], Dispersions(1.0, {}, {}))
