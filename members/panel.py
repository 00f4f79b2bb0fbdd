"""All members of one host, asked together about one batch."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from members.breaker import Breaker
from members.errors import LoadError, VoteError
from members.isolated import IsolatedMember
from members.loading import load_member
from members.protocol import Bits, needs_of, normalise
from members.runner import Job, Runner
from streams.batch import Batch
from streams.settings import Host
from streams.suite import FeatureType, MemberSpec

#: Requests that one budget is for; a larger batch has proportionally more time.
BUDGET_FOR = 256
_LOAD_AT_MOST = 60.0  # s that the panel waits for members to load before it goes on without the rest

_WARM_AT_MOST = 10.0  # s that one vote may take while a member is warmed
_WARM = 3  # votes that warm it
_PACE = 20  # votes that its pace is the median of

OnEvent = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class Ballot:
    """How k members voted on n requests: true, abstain bool[k, n], and failed bool[k].

    A member that failed (raised, was late, is suspended or not loaded) abstains on the whole batch.
    """

    true: Bits
    abstain: Bits
    failed: Bits


@dataclass(slots=True, eq=False)
class Seat:
    """One member's place: what it is, and how it has been doing. `pace`: ms for 256 requests, per vote."""

    spec: MemberSpec
    breaker: Breaker
    member: Any = None
    needs: list[str] = field(default_factory=list)
    loading: bool = False
    busy: bool = False  # an abandoned call has not come back yet
    reason: str = "it is not loaded yet"
    pace: deque[float] = field(default_factory=lambda: deque(maxlen=_PACE))
    out: bool = False  # it has given up its seat; batches that were handed out before may still ask it

    def allowed(self, n: int, grace: float) -> float:
        """Seconds of wall clock that one vote() over n requests may take."""
        return _allowed(self.spec, n, grace)

    def usual(self) -> float | None:
        """The median ms for 256 requests over the last votes; None before there are enough of them."""
        return statistics.median(self.pace) if len(self.pace) == _PACE else None


def _allowed(spec: MemberSpec, n: int, grace: float) -> float:
    return spec.budget_ms / 1000 * max(1.0, n / BUDGET_FOR) + grace


class Panel:
    """Asks every member for its votes, each within its budget, whatever the others do.

    The members vote one after the other in one thread. One that does not return in time is left behind with
    that thread: it counts as failed, and as failed it stays until the call comes back; the others go on in a
    new thread. `on_event(kind, member id, detail)` hears of error, late, suspended and resumed.
    """

    def __init__(
        self,
        specs: Sequence[MemberSpec],
        settings: Host,
        features: Mapping[str, FeatureType],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_event: OnEvent = lambda kind, member, detail: None,
        isolate: bool = False,
    ) -> None:
        """`isolate` gives each member a process of its own, whatever its spec says."""
        self._isolate = isolate
        self._features, self._clock, self._on_event = features, clock, on_event
        self._grace = settings.budget_grace / 1000
        self._breaker = partial(Breaker, settings.breaker_failures, settings.breaker_cooldown / 1000)
        self._seats: dict[str, Seat] = {}
        self._runner: Runner | None = None
        self.enlist(specs)

    @property
    def ids(self) -> list[str]:
        """The members that have a seat."""
        return list(self._seats)

    def enlist(self, specs: Iterable[MemberSpec]) -> None:
        """Give members a seat, to be loaded by `load`."""
        for spec in specs:
            self._seats.setdefault(spec.id, Seat(spec, self._breaker()))

    def view(self, ids: Iterable[str]) -> View:
        """These members, as they sit now: whoever is replaced later goes on answering here."""
        return View(self, tuple(self._seats[name] for name in ids))

    async def load(self) -> None:
        """Load all members, each in a thread. One that cannot be loaded is suspended and tried later."""
        seats = [seat for seat in self._seats.values() if seat.member is None and not seat.loading]
        tasks = [asyncio.ensure_future(self._load(seat)) for seat in seats]
        if tasks:
            await asyncio.wait(tasks, timeout=_LOAD_AT_MOST)
        for seat in seats:
            if seat.loading:
                seat.reason = f"{seat.spec.id}: it has not loaded within {_LOAD_AT_MOST:g} s"
                self._failed(seat, "late", seat.reason, at_once=True)

    async def prepare(self, spec: MemberSpec) -> Seat:
        """Load a member beside those that sit, in a thread. Raises LoadError."""
        seat = Seat(spec, self._breaker())
        try:
            seat.member, seat.needs = await asyncio.wait_for(self._made(spec), _LOAD_AT_MOST)
        except TimeoutError:
            raise LoadError(f"{spec.id}: it has not loaded within {_LOAD_AT_MOST:g} s") from None
        except Exception as error:
            raise error if isinstance(error, LoadError) else LoadError(f"{spec.id}: {_say(error)}") from error
        return seat

    async def warm(self, seat: Seat, batch: Batch) -> str | None:
        """Let a member that does not sit yet vote on real requests; returns what is wrong, or None."""
        n, best = len(batch), float("inf")
        runner = Runner()
        try:
            for _ in range(_WARM):
                job = Job([partial(_call, seat.member, batch, n)], asyncio.get_running_loop())
                runner.submit(job)
                await asyncio.wait({job.done}, timeout=_WARM_AT_MOST)
                if not job.done.done() and job.abandon(0, lambda: None):
                    return f"it did not answer {n} recent requests within {_WARM_AT_MOST:g} s"
                answer, error = job.outcomes[0]
                if answer is None:
                    return f"on {n} recent requests: {_say(error or VoteError('no answer'))}"
                best = min(best, job.took[0])
        finally:
            runner.close()
        if best > seat.allowed(n, self._grace):
            return (
                f"{best * 1000:.1f} ms for {n} recent requests, where {seat.spec.budget_ms:g} ms are allowed"
            )
        return None

    def seat(self, seat: Seat) -> None:
        """Give a prepared member its seat; one that sat before begins as one that never failed."""
        if seat.out:
            seat.out, seat.breaker = False, self._breaker()
        self._seats[seat.spec.id] = seat

    def suspended(self, spec: MemberSpec, reason: str) -> Seat:
        """A seat for a member that cannot be loaded now: it abstains, and is loaded again later."""
        seat = Seat(spec, self._breaker(), reason=reason)
        self._failed(seat, "error", reason, at_once=True)
        return seat

    def unseat(self, name: str) -> Seat | None:
        """Take a member's seat away; views that have it keep it."""
        seat = self._seats.pop(name, None)
        if seat is not None:
            if seat.breaker.suspended:
                self._on_event("resumed", name, "it is not asked any more")
            seat.out = True
        return seat

    async def _load(self, seat: Seat) -> None:
        seat.loading = True
        try:
            seat.member, seat.needs = await self._made(seat.spec)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            seat.reason = str(error)
            self._failed(seat, "error", seat.reason, at_once=True)
        finally:
            seat.loading = False

    async def _made(self, spec: MemberSpec) -> tuple[Any, list[str]]:
        """Construct a member in a thread of its own."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def settle(value: tuple[Any, BaseException | None]) -> None:
            if not outcome.done():
                outcome.set_result(value)
            elif value[0] is not None:  # nobody waits for it any more
                late = Seat(spec, self._breaker(), member=value[0][0])
                self._closing = asyncio.ensure_future(self.dismiss([late]))

        def work() -> None:
            try:
                value: tuple[Any, BaseException | None] = (self._construct(spec), None)
            except BaseException as error:
                value = (None, error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value)

        threading.Thread(target=work, name=f"load {spec.id}", daemon=True).start()
        made, error = await outcome
        if error is not None:
            raise error
        return made  # type: ignore[no-any-return]

    def _construct(self, spec: MemberSpec) -> tuple[Any, list[str]]:
        if spec.isolate or self._isolate:
            member: Any = IsolatedMember(spec, lambda n: _allowed(spec, n, self._grace))
        else:
            member = load_member(spec)
        try:
            return member, needs_of(member, self._features)
        except LoadError as error:
            raise LoadError(f"{spec.id}: {error}") from None

    async def vote(self, batch: Batch) -> Ballot:
        """All members' votes on a batch; never raises for what a member does."""
        return await self.view(self._seats).vote(batch)

    async def ask(self, seats: Sequence[Seat], batch: Batch) -> Ballot:
        """The votes of those who sit (or sat) there."""
        k, n = len(seats), len(batch)
        true, abstain = np.zeros((k, n), dtype=np.bool_), np.zeros((k, n), dtype=np.bool_)
        failed = np.zeros(k, dtype=np.bool_)
        asked = [i for i, seat in enumerate(seats) if self._may_vote(seat)]
        outcomes = await self._ask([seats[i] for i in asked], batch) if asked else {}
        for i, seat in enumerate(seats):
            answer, error = outcomes.get(seat, (None, None))
            if answer is None:
                abstain[i], failed[i] = True, True
                if error is not None:
                    self._failed(seat, "late" if isinstance(error, _Late) else "error", _say(error))
                continue
            yes, no = answer
            for name in seat.needs:
                abstain[i] |= batch.missing(name)
            if no is not None:
                abstain[i] |= no
            np.logical_and(yes, ~abstain[i], out=true[i])
            if seat.breaker.succeeded() and not seat.out:
                self._on_event("resumed", seat.spec.id, "it answers again")
        return Ballot(true, abstain, failed)

    def _may_vote(self, seat: Seat) -> bool:
        if seat.loading or not seat.breaker.allows(self._clock()):
            return False
        if seat.busy:  # one that hangs for ever is suspended in the end, and told
            self._failed(seat, "late", "it is still busy with an earlier batch")
            return False
        if seat.member is not None and not getattr(seat.member, "dead", False):
            return True
        seat.loading = True  # it never loaded, or its process is gone: have it ready for a later batch
        self._reload = asyncio.ensure_future(self._load(seat))
        return False

    async def _ask(
        self, asked: Sequence[Seat], batch: Batch
    ) -> dict[Seat, tuple[tuple[Bits, NDArray[np.bool_] | None] | None, BaseException | None]]:
        n = len(batch)
        out: dict[Seat, Any] = {}
        rest = list(asked)
        while rest:
            calls = [partial(_call, seat.member, batch, n) for seat in rest]
            job = Job(calls, asyncio.get_running_loop())
            if self._runner is None:
                self._runner = Runner()
            self._runner.submit(job)
            behind = await self._watch(job, rest, n)
            out.update(zip(rest, job.outcomes, strict=False))
            for seat, took in zip(rest, job.took, strict=False):
                seat.pace.append(took * 1000 / max(1.0, n / BUDGET_FOR))
            if behind is None:
                break
            self._runner = None
            late = rest[behind]
            out[late] = (None, _Late(f"no answer within {late.allowed(n, self._grace):.3f} s"))
            rest = rest[behind + 1 :]
        return out

    async def _watch(self, job: Job, seats: Sequence[Seat], n: int) -> int | None:
        """None when all calls are over; else the number of the call that was left behind."""
        while True:
            at = len(job.outcomes)
            allowed = seats[min(at, len(seats) - 1)].allowed(n, self._grace)
            left = job.began + allowed - time.monotonic()
            await asyncio.wait({job.done}, timeout=max(0.001, left))
            if job.done.done():
                return None
            at = len(job.outcomes)
            if at == len(seats) or time.monotonic() - job.began <= seats[at].allowed(n, self._grace):
                continue
            seat = seats[at]

            def returned(seat: Seat = seat) -> None:
                seat.busy = False

            seat.busy = True
            if job.abandon(at, returned):
                return at
            seat.busy = False

    def _failed(self, seat: Seat, kind: str, detail: str, *, at_once: bool = False) -> None:
        self._on_event(kind, seat.spec.id, detail)
        now = self._clock()
        began = seat.breaker.failed(now)
        while at_once and not seat.breaker.suspended:
            began = seat.breaker.failed(now)
        if began and not seat.out:  # nobody would ever take it back
            self._on_event("suspended", seat.spec.id, detail)

    async def close(self) -> None:
        """Let the members close what they opened; one that does not return is left behind."""
        await self.dismiss(list(self._seats.values()))
        if self._runner is not None:
            self._runner.close()

    async def dismiss(self, seats: Iterable[Seat]) -> None:
        """Close members that nobody asks any more."""
        members = [seat.member for seat in seats if seat.member is not None and not seat.busy]
        closing = [member.close for member in members if callable(getattr(member, "close", None))]
        if closing:
            job, runner = Job(closing, asyncio.get_running_loop()), Runner()
            runner.submit(job)
            await asyncio.wait({job.done}, timeout=1.0)
            runner.close()


@dataclass(frozen=True, slots=True)
class View:
    """Some members of a panel, fixed."""

    panel: Panel
    seats: tuple[Seat, ...]

    async def vote(self, batch: Batch) -> Ballot:
        """Their votes, rows in their order."""
        return await self.panel.ask(self.seats, batch)


class _Late(VoteError):
    """It did not answer within its budget."""


def _call(member: Any, batch: Batch, n: int) -> tuple[Bits, NDArray[np.bool_] | None]:
    with np.errstate(all="ignore"):
        return normalise(member.vote(batch), n)


def _say(error: BaseException) -> str:
    return str(error) if isinstance(error, VoteError) else f"{type(error).__name__}: {error}"
