"""What to send to reviewers: a budget, spent where it settles the pending decisions.

Most traffic is of classes that no decision depends on, and a candidate's unique set is a sliver of it. The
next label goes where it takes most off the variance of the decisions' estimates per cost: a greedy form of
Neyman's optimal allocation ("On the two different aspects of the representative method", 1934). A tenth is
spent in proportion to traffic, so that nothing is ever quite out of sight.

Within a class each request is as likely as any other, so labels that come back are a fair sample of it. Where
a pending decision needs only a part of a sampling class, make the part a class of its own here.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PROPORTIONAL = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for. asked: int64[G] of each class; probability: float64[G], of each of its requests."""

    asked: NDArray[np.int64]
    probability: Floats


def allocate(
    budget: float,
    weights: ArrayLike,
    positives: ArrayLike,
    labels: ArrayLike,
    traffic: ArrayLike,
    *,
    cost: ArrayLike = 1.0,
    proportional: float = PROPORTIONAL,
    seed: int = 0,
) -> Plan:
    """Divide `budget` (in units of cost) over G classes for the time in which `traffic` requests arrive.

    weights: [D, G] of each class in each pending decision (`precision_weights`, `recall_weights`);
    positives, labels: [G] known so far; traffic: [G] requests that could be asked for, the most that are;
    cost: [G] or one. Again and again the class with the largest

        Σ_d a_dg² p̃ (1 − p̃) [1/(n + 1) − 1/(n + 2)] / cost        p̃ = (s + ½)/(n + 1)

    gets one. The seed matters to the rounding of the proportional part only, which may cost one review more
    than its share.
    """
    s, n = np.asarray(positives, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    room = np.floor(np.asarray(traffic, dtype=np.float64))
    price = np.broadcast_to(np.asarray(cost, dtype=np.float64), n.shape)
    need = (np.atleast_2d(np.asarray(weights, dtype=np.float64)) ** 2).sum(axis=0)
    if not need.any():
        proportional = 1.0  # nothing is pending
    asked = _proportional(proportional * budget, room, price, seed)
    left = budget - float((asked * price).sum())
    p = (s + 0.5) / (n + 1)
    urgency = need * p * (1 - p) / price

    def gain(g: int) -> float:
        have = n[g] + asked[g]
        return -float(urgency[g] / ((have + 1) * (have + 2)))

    queue = [(gain(g), g) for g in range(len(n)) if urgency[g] > 0 and asked[g] < room[g]]
    heapq.heapify(queue)
    while queue:
        _, g = heapq.heappop(queue)
        if price[g] > left:
            continue  # a cheaper class may still fit
        asked[g] += 1
        left -= float(price[g])
        if asked[g] < room[g]:
            heapq.heappush(queue, (gain(g), g))
    share = np.divide(asked, room, out=np.zeros(len(n)), where=room > 0)
    return Plan(asked, share)


def drawn(request_id: str, probability: float, seed: int = 0) -> bool:
    """Whether this request is asked for: by chance, yet the same whenever and wherever it is decided."""
    digest = blake2b(request_id.encode(), digest_size=8, key=seed.to_bytes(8, "big", signed=True)).digest()
    return int.from_bytes(digest, "big") < probability * 2.0**64


def precision_weights(sizes: ArrayLike) -> Floats:
    """float64[..., G], each class's share of a set with `sizes` [..., G] requests in the classes."""
    n = np.asarray(sizes, dtype=np.float64)
    total = n.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(n, total, out=np.zeros(n.shape), where=total > 0))


def recall_weights(sizes: ArrayLike, precision: ArrayLike, part: ArrayLike) -> Floats:
    """float64[G], by how much recall, T_part / T_all, moves with each class's precision.

    sizes: [G] requests; precision: [G], as estimated; part: bool[G], the classes that the suite flags.
    """
    n, p, inside = (
        np.asarray(sizes, dtype=np.float64),
        np.asarray(precision),
        np.asarray(part, dtype=np.bool_),
    )
    total = float((n * p).sum())
    if total <= 0:
        return np.zeros(n.shape)
    recall = float((n * p)[inside].sum()) / total
    return np.asarray(n * (inside - recall) / total)


def _proportional(budget: float, room: Floats, price: Floats, seed: int) -> NDArray[np.int64]:
    """Requests of each class in proportion to traffic, rounded by systematic sampling: right on average."""
    whole = float((room * price).sum())
    if whole <= 0:
        return np.zeros(len(room), dtype=np.int64)
    edges = np.cumsum(room * min(1.0, budget / whole))
    start = np.random.default_rng(seed).random()
    counts = np.diff(np.floor(np.concatenate([[0.0], edges]) + start)).astype(np.int64)
    return np.asarray(np.minimum(counts, room.astype(np.int64)))
