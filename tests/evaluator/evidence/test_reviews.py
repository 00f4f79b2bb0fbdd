"""Where reviewers' time goes: the rule by hand, its probabilities, and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.evidence.reviews import allocate, drawn, precision_weights, recall_weights

few = st.integers(0, 50)


def brute(budget, weights, s, n, room):
    """The rule, one label at a time."""
    asked = [0] * len(n)
    for _ in range(budget):
        gains = []
        for g in range(len(n)):
            p = (s[g] + 0.5) / (n[g] + 1)
            have = n[g] + asked[g]
            gain = sum(w[g] ** 2 for w in weights) * p * (1 - p) * (1 / (have + 1) - 1 / (have + 2))
            gains.append(gain if asked[g] < room[g] else 0)
        best = int(np.argmax(gains))
        if gains[best] > 0:
            asked[best] += 1
    return asked


def test_the_rule():
    """Each label goes to the class where it takes most off the decisions' variance."""
    weights = [[0.7, 0.3, 0, 0], [0, 0.1, 0.9, 0]]
    s, n, room = [10, 2, 0, 0], [20, 3, 0, 0], [1000, 9, 50, 10_000]
    plan = allocate(60, weights, s, n, room, proportional=0)
    assert plan.asked.tolist() == brute(60, weights, s, n, room)
    assert plan.asked.sum() == 60
    assert plan.probability == pytest.approx(plan.asked / room)
    assert plan.asked[3] == 0


@given(
    st.integers(0, 300),
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 50),
            st.integers(0, 50),
            st.integers(0, 90),
            st.sampled_from([1.0, 2.5]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 5),
)
def test_never_more_than_the_budget_or_the_traffic(budget, rows, seed):
    """The same seed gives the same plan, and what is left would buy nothing that is needed."""
    w, s, f, room, cost = (np.array(column) for column in zip(*rows, strict=True))
    plan = allocate(budget, w, s, s + f, room, cost=cost, seed=seed)
    assert (plan.asked >= 0).all()
    assert (plan.asked <= room).all()
    # the proportional part is rounded, by at most one review
    assert (plan.asked * cost).sum() <= budget + cost.max()
    assert plan.asked.tolist() == allocate(budget, w, s, s + f, room, cost=cost, seed=seed).asked.tolist()
    spare = (w**2 > 0) & (plan.asked < room)
    assert not spare.any() or budget - (plan.asked * cost).sum() < cost[spare].min()


def test_a_tenth_follows_the_traffic():
    """On average in proportion, also below one; all of it when nothing is pending."""
    room = np.array([100_000, 2000, 30])
    asked = np.mean(
        [allocate(1000, [0, 0, 1], [0] * 3, [0] * 3, room, seed=i).asked for i in range(400)], axis=0
    )
    assert asked[:2] == pytest.approx(100 * room[:2] / room.sum(), rel=0.1)
    assert asked[2] == 30
    idle = allocate(1000, np.zeros(3), [0] * 3, [0] * 3, room)
    assert idle.asked == pytest.approx(1000 * room / room.sum(), abs=1)


def test_a_request_is_drawn_the_same_everywhere():
    """By its id and the seed alone, at the rate that was promised."""
    ids = [f"r{i}" for i in range(20_000)]
    chosen = [drawn(i, 0.03, 7) for i in ids]
    assert np.mean(chosen) == pytest.approx(0.03, abs=0.004)
    assert chosen == [drawn(i, 0.03, 7) for i in ids]
    assert chosen != [drawn(i, 0.03, 8) for i in ids]
    assert all(drawn(i, 0.5, 7) for i, yes in zip(ids, chosen, strict=True) if yes)
    assert not any(drawn(i, 0, 7) for i in ids)
    assert all(drawn(i, 1, 7) for i in ids)


def test_weights():
    """Shares for a precision; the derivative for recall."""
    assert precision_weights([[1, 3, 0], [0, 0, 0]]).tolist() == [[0.25, 0.75, 0], [0, 0, 0]]
    n, p, part = np.array([100.0, 50, 900]), np.array([0.8, 0.5, 0.1]), np.array([True, True, False])

    def recall(p):
        return (n * p)[part].sum() / (n * p).sum()

    got = recall_weights(n, p, part)
    for g in range(3):
        step = np.eye(3)[g] * 1e-6
        assert got[g] == pytest.approx((recall(p + step) - recall(p - step)) / 2e-6, rel=1e-5)
    assert recall_weights(n, np.zeros(3), part).tolist() == [0, 0, 0]


@pytest.mark.slow
def test_worth():
    """Against proportional sampling: recall a third less exact, unique precisions nine times as exact."""
    rng = np.random.default_rng(16)
    #            flagged by the suite        two candidates' unique sets     nobody
    sizes = np.array([3000, 1500, 500, 60, 40, 94_900.0])
    truth = np.array([0.9, 0.7, 0.8, 0.75, 0.85, 0.03])
    part = np.array([True] * 3 + [False] * 3)
    unique = np.eye(6)[3:5]
    true_recall = (sizes * truth)[part].sum() / (sizes * truth).sum()
    errors = {"rule": [], "proportional": []}
    for run in range(200):
        for name in errors:
            s, n = np.zeros(6), np.zeros(6)
            for day in range(5):
                p = (s + 0.5) / (n + 1)
                weights = [*unique, precision_weights(sizes * part), recall_weights(sizes, p, part)]
                share = 0.1 if name == "rule" else 1.0
                plan = allocate(300, weights, s, n, sizes, proportional=share, seed=10 * run + day)
                s += rng.binomial(plan.asked, truth)
                n += plan.asked
            p = (s + 0.5) / (n + 1)
            recall = (sizes * p)[part].sum() / (sizes * p).sum()
            errors[name].append([recall - true_recall, *(p - truth)[3:5]])
    rmse = {name: np.sqrt(np.mean(np.square(rows), axis=0)) for name, rows in errors.items()}
    print({name: found.round(3).tolist() for name, found in rmse.items()})
    assert rmse["rule"][0] <= 1.5 * rmse["proportional"][0]
    assert (rmse["rule"][1:] < rmse["proportional"][1:] / 5).all()
