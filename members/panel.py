"""All members of one host, asked together about one batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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

OnEvent = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class Ballot:
    """How k members voted on n requests: true, abstain bool[k, n], and failed bool[k].

    A member that failed (raised, was late, is suspended or not loaded) abstains on the whole batch.
    """

    true: Bits
    abstain: Bits
    failed: Bits


@dataclass(slots=True)
class _Seat:
    spec: MemberSpec
    breaker: Breaker
    member: Any = None
    needs: list[str] = field(default_factory=list)
    loading: bool = False
    busy: bool = False  # an abandoned call has not come back yet
    reason: str = "it is not loaded yet"

    def allowed(self, n: int, grace: float) -> float:
        """Seconds of wall clock that one vote() over n requests may take."""
        return self.spec.budget_ms / 1000 * max(1.0, n / BUDGET_FOR) + grace


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
    ) -> None:
        self._features, self._clock, self._on_event = features, clock, on_event
        self._grace = settings.budget_grace / 1000
        self._seats = [
            _Seat(spec, Breaker(settings.breaker_failures, settings.breaker_cooldown / 1000))
            for spec in specs
        ]
        self.ids = [spec.id for spec in specs]
        self._runner: Runner | None = None

    async def load(self) -> None:
        """Load all members, each in a thread. One that cannot be loaded is suspended and tried later."""
        loop = asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(self._load(seat, loop)) for seat in self._seats]
        if tasks:
            await asyncio.wait(tasks, timeout=_LOAD_AT_MOST)
        for seat in self._seats:
            if seat.loading:
                seat.reason = f"{seat.spec.id}: it has not loaded within {_LOAD_AT_MOST:g} s"
                self._failed(seat, "late", seat.reason, at_once=True)

    async def _load(self, seat: _Seat, loop: asyncio.AbstractEventLoop) -> None:
        seat.loading = True
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def settle(value: tuple[Any, BaseException | None]) -> None:
            if not outcome.done():
                outcome.set_result(value)

        def work() -> None:
            try:
                value: tuple[Any, BaseException | None] = (self._construct(seat.spec), None)
            except BaseException as error:
                value = (None, error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value)

        threading.Thread(target=work, name=f"load {seat.spec.id}", daemon=True).start()
        made, error = await outcome
        seat.loading = False
        if error is None:
            seat.member, seat.needs = made
            return
        seat.reason = str(error)
        self._failed(seat, "error", seat.reason, at_once=True)

    def _construct(self, spec: MemberSpec) -> tuple[Any, list[str]]:
        if spec.isolate:
            allowed = _Seat(spec, Breaker(1, 1)).allowed
            member: Any = IsolatedMember(spec, lambda n: allowed(n, self._grace))
        else:
            member = load_member(spec)
        try:
            return member, needs_of(member, self._features)
        except LoadError as error:
            raise LoadError(f"{spec.id}: {error}") from None

    async def vote(self, batch: Batch) -> Ballot:
        """All members' votes on a batch; never raises for what a member does."""
        k, n = len(self._seats), len(batch)
        true, abstain = np.zeros((k, n), dtype=np.bool_), np.zeros((k, n), dtype=np.bool_)
        failed = np.zeros(k, dtype=np.bool_)
        asked = [i for i, seat in enumerate(self._seats) if self._may_vote(seat)]
        outcomes = await self._ask(asked, batch) if asked else {}
        for i, seat in enumerate(self._seats):
            answer, error = outcomes.get(i, (None, None))
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
            if seat.breaker.succeeded():
                self._on_event("resumed", seat.spec.id, "it answers again")
        return Ballot(true, abstain, failed)

    def _may_vote(self, seat: _Seat) -> bool:
        if seat.loading or not seat.breaker.allows(self._clock()):
            return False
        if seat.busy:  # one that hangs for ever is suspended in the end, and told
            self._failed(seat, "late", "it is still busy with an earlier batch")
            return False
        if seat.member is not None and not getattr(seat.member, "dead", False):
            return True
        seat.loading = True  # it never loaded, or its process is gone: have it ready for a later batch
        self._reload = asyncio.ensure_future(self._load(seat, asyncio.get_running_loop()))
        return False

    async def _ask(
        self, asked: Sequence[int], batch: Batch
    ) -> dict[int, tuple[tuple[Bits, NDArray[np.bool_] | None] | None, BaseException | None]]:
        n = len(batch)
        out: dict[int, Any] = {}
        rest = list(asked)
        while rest:
            seats = [self._seats[i] for i in rest]
            calls = [partial(_call, seat.member, batch, n) for seat in seats]
            job = Job(calls, asyncio.get_running_loop())
            if self._runner is None:
                self._runner = Runner()
            self._runner.submit(job)
            behind = await self._watch(job, seats, n)
            out.update(zip(rest, job.outcomes, strict=False))
            if behind is None:
                break
            self._runner = None
            out[rest[behind]] = (
                None,
                _Late(f"no answer within {seats[behind].allowed(n, self._grace):.3f} s"),
            )
            rest = rest[behind + 1 :]
        return out

    async def _watch(self, job: Job, seats: Sequence[_Seat], n: int) -> int | None:
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

            def returned(seat: _Seat = seat) -> None:
                seat.busy = False

            seat.busy = True
            if job.abandon(at, returned):
                return at
            seat.busy = False

    def _failed(self, seat: _Seat, kind: str, detail: str, *, at_once: bool = False) -> None:
        self._on_event(kind, seat.spec.id, detail)
        now = self._clock()
        began = seat.breaker.failed(now)
        while at_once and not seat.breaker.suspended:
            began = seat.breaker.failed(now)
        if began:
            self._on_event("suspended", seat.spec.id, detail)

    async def close(self) -> None:
        """Let the members close what they opened; one that does not return is left behind."""
        members = [seat.member for seat in self._seats if seat.member is not None and not seat.busy]
        closing = [member.close for member in members if callable(getattr(member, "close", None))]
        if closing:
            job = Job(closing, asyncio.get_running_loop())
            Runner().submit(job)
            await asyncio.wait({job.done}, timeout=1.0)
        if self._runner is not None:
            self._runner.close()


class _Late(VoteError):
    """It did not answer within its budget."""


def _call(member: Any, batch: Batch, n: int) -> tuple[Bits, NDArray[np.bool_] | None]:
    with np.errstate(all="ignore"):
        return normalise(member.vote(batch), n)


def _say(error: BaseException) -> str:
    return str(error) if isinstance(error, VoteError) else f"{type(error).__name__}: {error}"
