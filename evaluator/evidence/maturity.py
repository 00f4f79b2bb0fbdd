"""Late labels: how old a bucket must be before its labels may be used.

Where positives take two days and negatives six hours, the last day reads far too low, older days a little.
Evidence therefore waits until a bucket is **mature**: label consumption has passed its end by the horizon H,
the age by which 95 % of the labels of the slower outcome have come, estimated from the delays themselves.

Only delays that could already be seen are in the data (right truncation), so the plain share of short delays
is too large: early on only the fast labels are there. The chain-ladder estimate turns time round (Lawless,
"Adjustments for reporting delays and the prediction of occurred but not reported events", 1994): with n_ck
the labels of day c whose delay lies in bin k, over the days that are old enough to have seen all of bin k,

    r_k = Σ_c n_ck / Σ_c Σ_{j≤k} n_cj          F(end of bin k) = Π_{j>k} (1 − r_j)

Nothing can be said of delays longer than the oldest days; hence the floor under H, and `observed_ms`.

Bins are spaced by a factor of 2^¼: bin k holds delays in [2^(k/4), 2^((k+1)/4)) minutes, bin 0 all shorter
ones too. Times and delays are in ms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streams.labels import NEGATIVE, POSITIVE

Floats = NDArray[np.float64]

# (start of the event day, POSITIVE or NEGATIVE, delay bin) -> labels
Delays = Mapping[tuple[int, int, int], int]

DAY = 86_400_000
ENOUGH = 50  # labels of an outcome before its delays say anything
LEAST = 0.1  # a bucket is never inflated by more than ten

_MINUTE = 60_000
_QUARTERS: tuple[float, ...] = tuple(math.pow(2, q / 4 - 1) for q in (1, 2, 3))


def delay_bin(delay: int) -> int:
    """The bin of a delay in ms: floor(4·log2(delay / 1 min)), at least 0.

    By frexp and comparisons, not by a logarithm: whoever counts in another language gets the same bins.
    """
    mantissa, exponent = math.frexp(max(delay, 1) / _MINUTE)
    return max(4 * (exponent - 1) + sum(mantissa >= q for q in _QUARTERS), 0)


def bin_upper(k: int) -> int:
    """The shortest delay in ms that is longer than all of bin k."""
    return math.ceil(_MINUTE * math.pow(2, (k + 1) / 4))


@dataclass(frozen=True, slots=True)
class Arrival:
    """How the labels of one outcome come in.

    share: float64[K], the share that has come by the end of each bin, not falling, 1 at the end; labels: what
    it was estimated from; observed_ms: the longest age that was fully seen (0: none).
    """

    share: Floats
    labels: int
    observed_ms: int

    @property
    def enough(self) -> bool:
        """Its delays say something."""
        return self.labels >= ENOUGH

    def arrived(self, age: ArrayLike) -> Floats:
        """F: the share of labels that has come by an age in ms, of its shape; 1 while nothing is known."""
        if not len(self.share):
            return np.ones(np.shape(age))
        ends = [0, *(bin_upper(k) for k in range(len(self.share)))]
        out: Floats = np.interp(np.asarray(age, dtype=np.float64), ends, [0.0, *self.share])
        return out

    def age(self, share: float) -> int | None:
        """The age in ms by which `share` has come: the end of a bin. None while too little is known."""
        return bin_upper(int((self.share >= share - 1e-9).argmax())) if self.enough else None


@dataclass(frozen=True, slots=True)
class Horizon:
    """The age in ms at which a bucket is mature.

    source: "measured"; "floor", measured shorter than the floor; "few_labels", too few of an outcome to know,
    then it is the floor, or what is known of the other outcome if that is longer. positive_ms, negative_ms:
    what was measured, None where unknown. labels: used, of the outcome with the fewest. observed_ms: the
    longest age that was fully seen; a horizon near or above it may be too short.
    """

    ms: int
    source: Literal["measured", "floor", "few_labels"]
    positive_ms: int | None
    negative_ms: int | None
    labels: int
    observed_ms: int


def arrival(counts: Delays, through: int, outcome: int) -> Arrival:
    """Chain-ladder estimate of when an outcome's labels come, from counts as of labels_through."""
    cells = [(day, k, count) for (day, o, k), count in counts.items() if o == outcome and count > 0]
    cells = [cell for cell in cells if cell[0] + DAY <= through]
    if not cells:
        return Arrival(np.zeros(0), 0, 0)
    days, row = np.unique([day for day, _, _ in cells], return_inverse=True)
    n = np.zeros((len(days), max(k for _, k, _ in cells) + 1))
    for i, (_, k, count) in zip(row.tolist(), cells, strict=True):
        n[i, k] += count
    # the youngest request of a day decides what the day has seen
    ages = through - DAY - days
    seen = ages[:, None] >= np.array([bin_upper(k) for k in range(n.shape[1])])
    upto = n.cumsum(axis=1)
    at_risk = np.where(seen, upto, 0).sum(axis=0)
    ripe = np.flatnonzero(at_risk >= ENOUGH)
    if not len(ripe):
        return Arrival(np.zeros(0), int(at_risk.max()), 0)
    # Beyond the last bin that enough labels could reach, the same days count although they have not seen all
    # of it: a share that is too small, but a tail that is known to exist must not be taken for none.
    last = int(ripe[-1])
    seen[:, last + 1 :] = seen[:, [last]]
    came, of = np.where(seen, n, 0).sum(axis=0), np.where(seen, upto, 0).sum(axis=0)
    later = np.divide(came, of, out=np.zeros(len(of)), where=of > 0)
    share = np.ones(n.shape[1])
    share[:-1] = np.cumprod((1 - later)[:0:-1])[::-1]
    return Arrival(share, int(np.where(seen, n, 0).sum()), int(ages[seen[:, last]].max()))


def horizon(
    counts: Delays,
    through: int,
    *,
    floor_ms: int,
    share: float = 0.95,
    outcomes: Sequence[int] = (POSITIVE, NEGATIVE),
) -> Horizon:
    """The age by which `share` of the slower outcome has come, never below the floor.

    outcomes: those that are ever sent; only POSITIVE where no label means negative.
    """
    found = {outcome: arrival(counts, through, outcome) for outcome in outcomes}
    ages = {outcome: one.age(share) for outcome, one in found.items()}
    known = [age for age in ages.values() if age is not None]
    ms = max([floor_ms, *known])
    source: Literal["measured", "floor", "few_labels"] = "floor" if ms == floor_ms else "measured"
    if len(known) < len(outcomes):
        source = "few_labels"
    return Horizon(
        ms=ms,
        source=source,
        positive_ms=ages.get(POSITIVE),
        negative_ms=ages.get(NEGATIVE),
        labels=min((one.labels for one in found.values()), default=0),
        observed_ms=min((one.observed_ms for one in found.values()), default=0),
    )


def mature(ends: ArrayLike, through: int | None, horizon_ms: int) -> NDArray[np.bool_]:
    """bool, of the shape of `ends` (bucket ends in ms): label consumption has passed the end by the horizon.

    `through` (labels_through) is None before the first label: nothing is mature.
    """
    ends = np.asarray(ends, dtype=np.int64)
    return np.zeros(ends.shape, dtype=np.bool_) if through is None else ends <= through - horizon_ms


def inflate(count: ArrayLike, f: ArrayLike) -> Floats:
    """A count of labels as it will be when all have come, f being the share that has; for display only."""
    out: Floats = np.asarray(count, dtype=np.float64) / np.maximum(np.asarray(f, dtype=np.float64), LEAST)
    return out


def missing_is_negative(
    negatives: ArrayLike, unlabelled: ArrayLike, matured: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(negatives, unlabelled) as they count where no label means negative: in mature buckets none is open.

    Counts of any common shape; `matured`: bool that broadcasts to it. The stored counts stay as they are, so
    a label that comes later still, or a longer horizon, changes the answer.
    """
    negatives, unlabelled = np.asarray(negatives, dtype=np.int64), np.asarray(unlabelled, dtype=np.int64)
    silent = np.where(np.asarray(matured, dtype=np.bool_), unlabelled, 0)
    return negatives + silent, unlabelled - silent
