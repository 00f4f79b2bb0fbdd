"""Figures repaired for labels that exist more often for what was flagged."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.cells import Bucket, join
from evaluator.repaired import repaired
from streams.suite import DAY, parse_suite

MEMBERS = {"a@1": "live", "c@1": "shadow"}
TEXT = 'name = "r"\nbucket = "1d"\nwindows = ["30d"]\n' + "".join(
    f'[[member]]\nname = "{name[0]}"\nversion = "1"\nstage = "{stage}"\nowner = "o"\nloader = "x:Y"\n'
    for name, stage in MEMBERS.items()
)
# who flags → (requests a day, precision, share that is labelled): what is flagged is labelled far more often
TRUTH = {
    ("a@1",): (400, 0.8, 0.5),
    ("c@1",): (200, 0.4, 0.05),
    ("a@1", "c@1"): (100, 0.9, 0.5),
    (): (2000, 0.02, 0.02),
}


def history(days=30, seed=1, anchored=True):
    rng = np.random.default_rng(seed)
    slots = {name: i for i, name in enumerate(MEMBERS)}
    buckets = []
    for day in range(days):
        patterns, states, counts, volume = [], [], [], 0
        for who, (n, precision, rate) in TRUTH.items():
            mask = sum(1 << slots[name] for name in who)
            volume += n
            positive = rng.binomial(n, precision)
            seen = rng.binomial(positive, rate), rng.binomial(n - positive, rate)
            known = 4 if anchored else 0
            rest = n - sum(seen) if who else 0
            for state, count in ((1 + known, seen[0]), (2 + known, seen[1]), (0, rest)):
                if count:
                    patterns.append((mask, 0, "", 1 if who else 0))
                    states.append(state)
                    counts.append(count)
        scored = dict.fromkeys(MEMBERS, volume)
        buckets.append(
            Bucket(day * DAY, patterns, np.array(states), np.array(counts), volume, scored, {}, {})
        )
    return join([(slots, buckets)], list(MEMBERS))


def test_what_labels_exist_for_does_not_move_the_figures():
    """Truths: precision .82; recall 410 of 530; what c flags 170 of 300, plainly .78; its own .4."""
    truths = {
        ("", "precision"): 410 / 500,
        ("", "recall"): 410 / 530,
        ("c@1", "precision"): 170 / 300,
        ("c@1", "unique_precision"): 0.4,
        ("c@1", "unique_recall"): 80 / 530,
    }
    inside = []
    for seed in range(12):
        found = repaired(history(seed=seed), parse_suite(TEXT), 0, 30 * DAY)
        for (who, name), truth in truths.items():
            figure = found[who][name]
            assert figure["value"] == pytest.approx(truth, abs=0.06), (who, name)
            assert not figure["insufficient"]
            inside.append(figure["low"] < truth < figure["high"])
        assert found["c@1"]["precision"]["coverage"] == pytest.approx(0.2, abs=0.03)
    assert np.mean(inside) > 0.85  # 95 % intervals, 60 of them


def test_a_set_without_labels_is_undefined_and_says_so():
    """[0, 1], insufficient, and no value."""
    cells = history()
    own = cells.yes[:, 1] & ~cells.yes[:, 0]
    cells.state[own[cells.pattern]] = 0
    figure = repaired(cells, parse_suite(TEXT), 0, 30 * DAY)["c@1"]["unique_precision"]
    assert figure["insufficient"]
    assert (figure["low"], figure["high"]) == (0.0, 1.0)


def test_what_cannot_be_known_is_none():
    """Recall without `requested_at`; everything where nothing is there, or the suite holds out."""
    found = repaired(history(anchored=False), parse_suite(TEXT), 0, 30 * DAY)
    assert found[""]["recall"] is found["c@1"]["unique_recall"] is None
    assert repaired(history(), parse_suite(TEXT), 90 * DAY, 120 * DAY) == {}
    assert repaired(history(), parse_suite(f"holdout = 0.1\n{TEXT}"), 0, 30 * DAY) == {}
