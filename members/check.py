"""The contract of a member, for anybody to run on their own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from members.errors import MemberError
from members.loading import load_member
from members.protocol import needs_of, normalise
from streams.batch import Batch, column
from streams.suite import FeatureType, MemberSpec

#: Requests that a budget is for (members/panel.py).
_REQUESTS = 256
#: Calls that may be needed to show that it is quick enough, on a machine that has other work, too.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a member: `code` is load, needs, error, answer, random, missing, order or slow."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


def check_member(
    member: MemberSpec | Any,
    features: Mapping[str, FeatureType],
    *,
    budget_ms: float = 50.0,
    seed: int = 0,
) -> list[Finding]:
    """Try a member (a spec, or a loaded instance) on made-up requests; [] where nothing is wrong.

    It is asked about ordinary requests, requests that lack everything, one request and none at all; twice
    about the same ones; and about a part of them. A spec's own budget is used where there is one. A member
    that hangs hangs the check, too.
    """
    if isinstance(member, MemberSpec):
        budget_ms = member.budget_ms
        try:
            member = load_member(member)
        except MemberError as error:
            return [Finding("load", str(error))]
    try:
        needs_of(member, features)
    except MemberError as error:
        return [Finding("needs", str(error))]
    batch, out = _requests(features, _REQUESTS, seed), list[Finding]()
    first = _ask(member, batch, "ordinary requests", out)
    if first is None:
        return out
    second, took = None, float("inf")
    for _ in range(_TRIES):  # the first call may have warmed it up; the quickest of these is its own time
        began = time.perf_counter()
        second = _ask(member, batch, "the same requests again", out)
        took = min(took, (time.perf_counter() - began) * 1000)
        if second is None or took <= budget_ms:
            break
    if took > budget_ms:
        out.append(
            Finding("slow", f"{took:.1f} ms for {_REQUESTS} requests, where {budget_ms:g} ms are allowed")
        )
    if second is not None and not np.array_equal(first, second):
        out.append(Finding("random", "it answers the same requests differently when asked again"))
        second = None
    part = _ask(member, batch.take(0, 100), "a part of the requests", out)
    if part is not None and second is not None and not np.array_equal(part, first[:, :100]):
        out.append(Finding("order", "its answer to a request depends on the others in the batch"))
    _ask(member, batch.take(0, 1), "one request", out)
    _ask(member, batch.take(0, 0), "no requests", out)
    nothing = {name: column(kind, [None] * 8) for name, kind in features.items()}
    empty = Batch(
        batch.time[:8],
        {name: values for name, (values, _) in nothing.items()},
        {name: mask for name, (_, mask) in nothing.items() if mask is not None},
    )
    _ask(member, empty, "requests that lack every feature", out, code="missing")
    return out


def _ask(member: Any, batch: Batch, what: str, out: list[Finding], *, code: str = "error") -> Any:
    try:
        with np.errstate(all="ignore"):
            true, abstain = normalise(member.vote(batch), len(batch))
    except MemberError as error:
        out.append(Finding("answer", f"on {what}: {error}"))
        return None
    except Exception as error:
        out.append(Finding(code, f"on {what}: {type(error).__name__}: {error}"))
        return None
    abstains = np.zeros(len(batch), np.bool_) if abstain is None else abstain
    return np.stack([true & ~abstains, abstains])


def _requests(features: Mapping[str, FeatureType], n: int, seed: int) -> Batch:
    random = np.random.default_rng(seed)
    make: dict[str, Any] = {
        "float": lambda: random.normal(0, 100, n).tolist(),
        "int": lambda: random.integers(0, 100, n).tolist(),
        "bool": lambda: (random.random(n) < 0.5).tolist(),
        "category": lambda: random.choice(list("abc"), n).tolist(),
        "text": lambda: random.choice(["", "a word", "two words"], n).tolist(),
    }
    columns = {name: column(kind, make[kind]())[0] for name, kind in features.items()}
    return Batch(np.arange(n, dtype=np.int64) * 1000 + 1_356_998_400_000, columns)
