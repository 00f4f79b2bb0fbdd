"""What a member is, and what it may answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from members.errors import LoadError, VoteError
from streams.batch import Batch
from streams.suite import FeatureType

Bits = NDArray[np.bool_]


class Member(Protocol):
    """Any class that has this method, constructed as ``Class(**params)``; no base class is needed.

    It may also have ``needs`` (feature name → type; where a request lacks one of them the member abstains),
    ``load()`` (called once, for files and models), ``score(batch) -> float array[n]`` and ``close()``.
    """

    def vote(self, batch: Batch) -> Any:
        """bool array[n], or `Votes`; anything else is an error, and the whole batch abstains."""


@dataclass(frozen=True, slots=True)
class Votes:
    """An answer that may abstain: `true` bool[n], `abstain` bool[n]. Abstain beats True."""

    true: Any
    abstain: Any


def normalise(answer: object, n: int) -> tuple[Bits, Bits | None]:
    """A member's answer as (true bool[n], abstain bool[n] or None). Raises VoteError for anything else."""
    if isinstance(answer, Votes):
        return _bits("true", answer.true, n), _bits("abstain", answer.abstain, n)
    return _bits("vote", answer, n), None


def _bits(what: str, value: object, n: int) -> Bits:
    try:
        array = np.asarray(value)
    except ValueError:
        raise VoteError(f"{what} is ragged: answer one bool for each of the {n} requests") from None
    if array.dtype != np.bool_ and array.shape == (0,) == (n,):
        return np.zeros(0, dtype=np.bool_)  # [] has no dtype of its own
    if array.dtype != np.bool_:
        raise VoteError(f"{what} is of dtype {array.dtype}, not bool: compare with a threshold first")
    if array.shape != (n,):
        raise VoteError(f"{what} has shape {array.shape}, not ({n},): answer one bool for each request")
    return array


def needs_of(member: object, features: Mapping[str, FeatureType]) -> list[str]:
    """The features that a member needs. Raises LoadError where the suite file does not declare one."""
    needs: Iterable[str] = getattr(member, "needs", None) or ()
    names = list(needs)
    for name in names:
        if name not in features:
            raise LoadError(f"it needs {name!r}, which is not declared: add it under [features]")
    return names
