"""Counts for evidence by single labels: a request without a label is no evidence."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.cells import ANCHORED, ANSWERED, Cells
from evaluator.judgement import Moment, judge_suite
from evaluator.tables import Sets
from streams.suite import DAY, parse_suite

YES = np.array([[1, 0], [0, 1]], dtype=np.bool_)


def test_by_label_counts_are_the_labels():
    """One class: its labels, however many requests. All labelled: all. Several: as Kish has it."""
    one = Sets(*(np.array([[[float(v)]]]) for v in (1000, 16, 20)))
    assert [float(v[0, 0]) for v in one.side(0.0, by_label=True)] == pytest.approx([0.8, 16, 20])
    assert [float(v[0, 0]) for v in one.side(0.0)] == pytest.approx([0.8, 800, 1000])
    n = np.array([[[30.0], [50.0]]])
    full = Sets(n, n * 0.5, n)
    assert [float(v[0, 0]) for v in full.side(0.0, by_label=True)] == pytest.approx([0.5, 40, 80])
    two = Sets(n, np.array([[[6.0], [5.0]]]), np.array([[[10.0], [50.0]]]))
    ratio, s, total = (float(v[0, 0]) for v in two.side(0.0, by_label=True))
    assert ratio == pytest.approx((30 * 0.6 + 50 * 0.1) / 80)
    assert total == pytest.approx(80**2 / (30**2 / 10 + 50**2 / 50))
    assert s == pytest.approx(ratio * total)
    none = Sets(n, n * 0, n * 0)
    assert [float(v[0, 0]) for v in none.side(0.0, by_label=True)][1:] == [0, 0]


def test_few_labels_of_many_requests_do_not_promote():
    """A candidate just as bad as it may not be, of whose requests one in twenty is labelled."""
    rng, days, runs = np.random.default_rng(1), 60, 60
    volume = np.full(days, 1000, dtype=np.int64)
    zeros = np.zeros((days, 2), dtype=np.int64)
    member = '[[member]]\nname = "{}"\nversion = "1"\nstage = "{}"\nowner = "o"\nloader = "x:Y"\n'
    text = 'name = "s"\nbucket = "1d"\nwindows = ["7d"]\n[policy]\nevidence = "labels"\n'
    suite = parse_suite(text + member.format("a", "live") + member.format("b", "shadow"))
    end = days * DAY
    promoted = 0
    for _ in range(runs):
        labels = rng.binomial([[440], [200]], 0.05, (2, days))
        positive = rng.binomial(labels, [[0.8], [0.75]])
        numbers = np.stack([[[440], [200]] - labels, positive, labels - positive])
        code, pattern, bucket = (each.ravel() for each in np.indices(numbers.shape))
        state = code + np.where(code > 0, ANCHORED, 0) + np.where(pattern == 0, ANSWERED, 0)
        cells = Cells(
            ["a@1", "b@1"], bucket, pattern, state, numbers.ravel(), YES, YES & False, ["", ""],
            np.ones(2, dtype=np.int64), np.arange(days, dtype=np.int64) * DAY, volume,
            np.tile(volume[:, None], 2), zeros, zeros,
        )  # fmt: skip
        verdicts = judge_suite(cells, suite, Moment(end, end + DAY, end + DAY, DAY))
        promoted += verdicts["b@1"].state == "PROMOTE"
    print(f"promoted in {promoted} of {runs}")
    assert promoted <= 6
