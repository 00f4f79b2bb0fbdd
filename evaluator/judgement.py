"""The evidence on every member of a suite, and the verdicts on top of it. Pure: counts and settings in.

Evidence is anchored: it starts with the first mature block that a member and all live members have scored in
full, later than what the member was trained on, and it is computed anew from the present histograms each
time, so that a rebuild gives the same verdicts and a revised label changes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

import numpy as np
from numpy.typing import NDArray

from evaluator.cells import Cells
from evaluator.evidence.bets import Blocks, Evidence, flag, promote
from evaluator.evidence.confidence import dispersion, interval
from evaluator.evidence.dependence import dependence
from evaluator.evidence.labelwise import flag as flag_labels
from evaluator.evidence.labelwise import promote as promote_labels
from evaluator.evidence.many import bonferroni, e_bh
from evaluator.evidence.needed import Needed, needed
from evaluator.replacing import Swap, judge_swap, with_own
from evaluator.tables import BlockTables, Sets, block_tables, compare, flagged_by, sets
from evaluator.verdict import Claim, Facts, Verdict, judge
from streams.suite import Suite

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_Triple = tuple[float | None, float | None, float | None]

FDR = 0.10  # expected share of wrong ones among recommended candidates


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of time, in ms: where mature buckets end, how far event time and labels have come."""

    matured: int
    watermark: int
    labels_through: int
    horizon: int
    revision: int = 1


def judge_suite(cells: Cells, suite: Suite, moment: Moment) -> dict[str, Verdict]:
    """The verdict on every member of the suite. `cells` are over the members of the suite file, at least."""
    policy = suite.policy
    by_label = policy.evidence == "labels"
    tables = block_tables(
        cells,
        suite.live,
        moment.matured,
        suite.bucket if by_label else policy.block,
        missing_is_negative=suite.labels.missing_is_negative,
        holds_out=suite.holdout > 0,
    )
    court = _Court(tables, suite, moment, by_label=by_label)
    return court.shadows() | court.members()


@dataclass(frozen=True, slots=True)
class _Cases:
    """Evidence for K promotions. made: bool[K], False where the suite is empty and has no floor;
    log_e: float64[K, D]; veto: bool[K, D]; under: bool[K], the floor vetoes now; labels,
    blocks: float64[3, K], see `Needed`.
    """

    made: Mask
    log_e: Floats
    veto: Mask
    under: Mask
    labels: Floats
    blocks: Floats


class _Court:
    def __init__(self, tables: BlockTables, suite: Suite, moment: Moment, *, by_label: bool) -> None:
        self.t, self.suite, self.moment, self.by_label = tables, suite, moment, by_label
        self.column = {name: i for i, name in enumerate(tables.ids)}
        self.live = [self.column[name] for name in suite.live]
        firing = tables.yes[:, self.live].sum(axis=1)
        self.fired: Mask = firing > 0
        self.yes: Floats = tables.yes.astype(np.float64)
        self.free, self.alone = flagged_by(tables, self.yes, [firing == 0, firing == 1])
        self.whole = sets(tables, self.fired[:, None])
        self.flagged: Floats = self.yes.T @ tables.n  # [M, D]
        self._shared: dict[bytes, Floats] = {}
        self.together: Mask = np.all(tables.whole[:, self.live], axis=1)
        late = moment.watermark - moment.horizon - moment.matured
        self.starved = late > 2 * suite.policy.block

    def penalty(self) -> float:
        """ln r(r + 1) for the r-th revision of the suite that is judged against."""
        r = max(1, self.moment.revision)
        return math.log(r * (r + 1))

    def usable(self, names: Sequence[str]) -> Mask:
        """bool[D, K]: blocks that the member and all live ones have scored, after what it was trained on."""
        out = self.t.whole[:, [self.column[name] for name in names]] & self.together[:, None]
        for k, name in enumerate(names):
            trained = self.suite.members[name].trained_through
            if trained is not None:
                out[:, k] &= self.t.starts > trained
        return out

    def shadows(self) -> dict[str, Verdict]:
        """Candidates: promotion together, by e-BH or Bonferroni; rejection each by itself."""
        names = self.suite.shadow
        if not names or not len(self.t.starts):
            return {name: self._nothing(name) for name in names}
        policy = self.suite.policy
        columns = [self.column[name] for name in names]
        usable = self.usable(names)
        free, swaps = self.free.take(columns), self._swaps(names, usable)
        mine = free
        for k, swap in swaps.items():  # what it shares with the member that goes out is its own
            mine = with_own(mine, k, swap.own)
        gain = compare(free, self.whole, usable, "promote", by_label=self.by_label)
        rest = compare(mine, self.whole, usable, "flag", by_label=self.by_label)
        called = [self.suite.members[name].name for name in names]
        versions = [called.count(each) for each in called]
        handicap = np.array([self.penalty() + math.log(v) for v in versions])
        automatic = policy.mode == "auto"
        level = (policy.alpha if automatic else FDR) / len(names)
        cases = self._cases(names, gain, free, usable, level / np.exp(handicap), swaps)
        adjusted = cases.log_e.T - handicap
        believed = bonferroni(adjusted, policy.alpha) if automatic else e_bh(adjusted, FDR)
        worse = self._flag(rest)
        for k, swap in swaps.items():
            worse.log_e[k], worse.veto[k] = swap.against.log_e, swap.against.veto
        worse_alpha = policy.alpha / len(names)
        bounds, twins = _bounds(mine, usable), self._twins(names, usable)
        missing, whole = mine.missing.tolist(), self.whole.labels[0]
        out = {}
        for k, name in enumerate(names):
            alpha = level / math.exp(handicap[k])
            span = self._spans(usable[:, k])
            claim = None
            if cases.made[k]:
                there = believed[:, k] & ~cases.veto[k] & (span >= policy.min_span)
                wants = Needed(cases.labels[:, k], cases.blocks[:, k])
                claim = self._claim(cases.log_e[k], alpha, there, bool(cases.veto[k, -1]), wants)
                claim = changed(claim, under=bool(cases.under[k]))
            threshold = math.log(1 / worse_alpha) + handicap[k]
            against = worse.log_e[k]
            there = (against >= threshold) & ~worse.veto[k] & (span >= policy.min_span)
            no_floor = not cases.made[k]
            facts = self._facts(
                name, k, usable, rest, mine, claim, bounds[k], twins[k], missing[k], no_floor=no_floor
            )
            facts = _with(facts, reference_labels=float(whole[usable[:, k]].sum()))
            reject = self._claim(against, math.exp(-threshold), there, bool(worse.veto[k, -1]), None)
            out[name] = judge(_with(facts, against=reject))
        return out

    def members(self) -> dict[str, Verdict]:
        """Live members: each unique set against the rest of the OR; only the lowest is flagged."""
        names = self.suite.live
        if not names or not len(self.t.starts):
            return {name: self._nothing(name) for name in names}
        policy = self.suite.policy
        usable = self.usable(names)
        mine = self.alone.take(self.live)
        sides = compare(mine, self.whole.without(mine), usable, "flag", by_label=self.by_label)
        evidence = self._flag(sides)
        alpha = policy.alpha / len(names) / math.exp(self.penalty())
        bounds, twins = _bounds(mine, usable), self._twins(names, usable)
        missing, others = mine.missing.tolist(), self.whole.without(mine).labels
        facts: list[Facts] = []
        for k, name in enumerate(names):
            span = self._spans(usable[:, k])
            there = (evidence.log_e[k] >= math.log(1 / alpha)) & ~evidence.veto[k] & (span >= policy.min_span)
            veto = bool(evidence.veto[k, -1])
            claim = self._claim(evidence.log_e[k], alpha, there, veto, None)
            known = self._facts(name, k, usable, sides, mine, None, bounds[k], twins[k], missing[k])
            facts.append(_with(known, against=claim, reference_labels=float(others[k, usable[:, k]].sum())))
        flagged = [f for f in facts if f.against and f.against.reached is not None and not f.against.veto]
        lowest = min((f.pooled for f in flagged if f.pooled is not None), default=None)
        return {
            name: judge(_with(f, lowest=f.pooled == lowest)) for name, f in zip(names, facts, strict=True)
        }

    def _swaps(self, names: Sequence[str], usable: Mask) -> dict[int, Swap]:
        """For each of `names`, by number, that replaces a live member."""
        out = {}
        for k, name in enumerate(names):
            replaced = self.suite.members[name].replaces
            if replaced in self.suite.live:
                column = self.column[replaced]
                others = np.any(self.t.yes[:, [c for c in self.live if c != column]], axis=1)
                sides = self.t.yes[:, self.column[name]], self.t.yes[:, column], others
                out[k] = judge_swap(self.t, *sides, usable[:, k], self.suite.policy)
        return out

    def _cases(
        self,
        names: Sequence[str],
        gain: Blocks,
        mine: Sets,
        usable: Mask,
        alpha: Floats,
        swaps: Mapping[int, Swap],
    ) -> _Cases:
        """What there is for each candidate's promotion; all at once, but for those that replace a member."""
        policy, shape = self.suite.policy, usable.T.shape
        labels, since = np.where(usable.T, mine.labels, 0.0), usable.argmax(axis=0)
        if not self.live and not policy.floor:
            nothing = np.full((3, len(names)), np.nan)
            return _Cases(
                np.zeros(len(names), dtype=np.bool_), np.full(shape, -np.inf), np.ones(shape, dtype=np.bool_),
                np.zeros(len(names), dtype=np.bool_), nothing, nothing,
            )  # fmt: skip
        out = promote(gain, margin=policy.margin, floor=policy.floor, empty_suite=not self.live)
        log_e, veto, under = out.log_e.copy(), out.veto.copy(), out.under[:, -1].copy()
        wants = needed(out, labels, alpha=alpha, since=since)
        for k in range(len(names)):
            if swap := swaps.get(k):
                one, counts = swap.evidence, np.where(usable[:, k], swap.labels, 0.0)
                log_e[k], veto[k], under[k] = one.log_e, one.veto, one.under[-1]
                told = needed(one, counts, alpha=alpha[k], since=since[k])
                wants.labels[:, k], wants.blocks[:, k] = told.labels, told.blocks
            elif self.by_label and self.live:
                delta = min(policy.margin, 0.2 * _last(out.pooled_o[k], 0.5))
                log_e[k] = promote_labels(gain.s_c[k], gain.n_c[k], gain.s_o[k], gain.n_o[k], delta=delta)
        made = np.ones(len(names), dtype=np.bool_)
        return _Cases(made, log_e, veto, under, wants.labels, wants.blocks)

    def _flag(self, blocks: Blocks) -> Evidence:
        out = flag(blocks, margin=self.suite.policy.margin)
        if self.by_label:
            log_e = np.empty_like(out.log_e)
            for k, (s_c, n_c, s_o, n_o) in enumerate(
                zip(blocks.s_c, blocks.n_c, blocks.s_o, blocks.n_o, strict=True)
            ):
                # Each against its own rest: one of which nothing is known must not narrow the margin.
                delta = min(self.suite.policy.margin, 0.2 * _last(out.pooled_o[k], 1.0))
                log_e[k] = flag_labels(s_c, n_c, s_o, n_o, delta=delta)
            return _relabel(out, log_e)
        return out

    def _spans(self, usable: Mask) -> NDArray[np.int64]:
        """int64[D]: ms from the start of the first usable block to the end of each."""
        if not usable.any():
            return np.zeros(len(usable), dtype=np.int64)
        first = self.t.starts[int(usable.argmax())]
        return np.asarray(np.maximum(self.t.starts + self.t.block - first, 0), dtype=np.int64)

    def _claim(self, log_e: Floats, alpha: float, there: Mask, veto: bool, wants: Needed | None) -> Claim:
        reached = int(self.t.starts[int(there.argmax())] + self.t.block) if there.any() else None
        labels: _Triple = (None, None, None)
        blocks: _Triple = (None, None, None)
        if wants is not None:
            labels, blocks = _triple(wants.labels), _triple(wants.blocks)
        return Claim(float(log_e[-1]), math.log(1 / alpha), reached, veto, labels, blocks)

    def _facts(
        self,
        name: str,
        k: int,
        usable: Mask,
        blocks: Blocks,
        mine: Sets,
        claim: Claim | None,
        bounds: tuple[float, float],
        twin: str | None,
        missing: float,
        *,
        no_floor: bool = False,
    ) -> Facts:
        use = usable[:, k]
        column = self.column[name]
        flagged = float(self.flagged[column, use].sum())
        labels, requests = float(mine.marked[k][:, use].sum()), float(mine.n[k][:, use].sum())
        # Without a live member there is no other side: the floor alone decides.
        counted = np.isfinite(blocks.c[k]) & (np.isfinite(blocks.o[k]) | (not self.live))
        dependent = False
        if self.by_label:
            days = _by_day(self.t, self.suite.policy.block)
            c = _group(blocks.s_c[k], days), _group(blocks.n_c[k], days)
            o = _group(blocks.s_o[k], days), _group(blocks.n_o[k], days)
            dependent = bool(dependence(c, o).dependent)
        return Facts(
            stage=self.suite.members[name].stage,
            block=self.t.block,
            blocks=int(counted.sum()),
            span=int(self._spans(use)[-1]) if len(use) else 0,
            offered=len(use) * self.t.block,
            min_span=self.suite.policy.min_span,
            flagged=flagged,
            own=requests,
            pooled=_ratio(blocks.s_c[k].sum(), blocks.n_c[k].sum()),
            averaged=_mean(blocks.c[k][counted]),
            reference=_ratio(blocks.s_o[k].sum(), blocks.n_o[k].sum()),
            averaged_reference=_mean(blocks.o[k][counted & np.isfinite(blocks.o[k])]),
            interval=bounds if labels else None,
            coverage=_ratio(labels, requests),
            missing=missing,
            twin=twin,
            starved=self.starved,
            dependent=dependent,
            promote=claim,
            against=None,
            no_floor=no_floor,
        )

    def _twins(self, names: Sequence[str], usable: Mask) -> list[str | None]:
        """For each member the live one that flags most of what it flags."""
        live = [self.t.ids[column] for column in self.live]
        out: list[str | None] = []
        for k, name in enumerate(names):
            shared = self._overlap(usable[:, k])[self.column[name]]
            apart = (name, self.suite.members[name].replaces)
            row = [(shared[i], other) for i, other in enumerate(live) if other not in apart]
            most, twin = max(row, default=(0.0, ""))
            out.append(twin if most > 0 else None)
        return out

    def _overlap(self, use: Mask) -> Floats:
        """float64[M, L]: requests of the blocks use bool[D] that both a member and each live one flag."""
        key = use.tobytes()
        if key not in self._shared:
            weight = self.t.n[:, use].sum(axis=1)
            self._shared[key] = self.yes.T @ (self.yes[:, self.live] * weight[:, None])
        return self._shared[key]

    def _nothing(self, name: str) -> Verdict:
        """Before the first mature block."""
        stage = self.suite.members[name].stage
        nothing = Facts(
            stage, self.t.block, 0, 0, self.suite.policy.min_span, 0.0, 0.0, None, None, None, None, None,
            None, 0.0, None, False, False, None, None,
        )  # fmt: skip
        return judge(nothing)


def _bounds(side: Sets, usable: Mask) -> list[tuple[float, float]]:
    """Confidence sequences for the unique precisions, wider by what the labels of a block have in common."""
    s, n = np.where(usable.T, side.positives, 0.0), np.where(usable.T, side.labels, 0.0)
    low, high = interval(s.sum(axis=1), n.sum(axis=1), 0.05, dispersion(s, n))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _with(facts: Facts, **changes: object) -> Facts:
    return changed(facts, **changes)  # type: ignore[arg-type]


def _relabel(evidence: Evidence, log_e: Floats) -> Evidence:
    return changed(evidence, log_e=log_e)


def _triple(values: Floats) -> _Triple:
    one, low, high = (float(v) for v in values)
    return tuple(v if math.isfinite(v) else None for v in (one, low, high))  # type: ignore[return-value]


def _last(values: Floats, otherwise: float) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else otherwise


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _by_day(tables: BlockTables, block: int) -> NDArray[np.int64]:
    days = tables.starts // block
    return np.asarray(days - days[0], dtype=np.int64)


def _group(values: Floats, days: NDArray[np.int64]) -> Floats:
    return np.bincount(days, np.nan_to_num(values)).astype(np.float64)
