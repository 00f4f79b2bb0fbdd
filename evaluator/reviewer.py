"""Asking for reviews: draws requests from the store, notes what was asked, puts it on `reviews`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
from redis.exceptions import RedisError

from evaluator.history import History
from evaluator.keys import reviews_key, shard_of
from evaluator.record import decode_record
from evaluator.reviewing import OPEN, Agenda, Asking, Draw, Request, due, pool_end, tally
from evaluator.store import Script, Store
from streams.connect import ping_redis, redis_client
from streams.errors import Unavailable
from streams.events import cloud_event
from streams.labels import POSITIVE
from streams.settings import Settings
from streams.suite import Suite

log = logging.getLogger("chorus.evaluator")

BUDGET, ASK = Script("budget.lua"), Script("ask.lua")
TYPE = "chorus.review.requested"
SCHEMA = 1

_PAGE = 2000  # records read at a time
_MOST = 200_000  # records looked at in one round

Send = Callable[[bytes, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was asked about. Instants in epoch ms; names: who flags it now; label: as it stands,
    None while there is none."""

    id: str
    asked_at: int
    time: int
    class_name: str
    probability: float
    names: frozenset[str]
    label: bool | None


class Reviewer:
    """Spends the hourly budget. Any number may run: what was asked, and how much, stands in Redis."""

    def __init__(
        self,
        suite: Suite,
        settings: Settings,
        store: Store,
        history: History,
        send: Send,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`send` puts (key, value) on the topic and returns when they are there; `clock` in s."""
        self.suite, self.per_hour = suite, settings.reviews.per_hour
        self.store, self.history, self.send, self.clock = store, history, send, clock
        self._round = -1
        self._cursors: dict[str, int] = {}

    async def ask(self, status: Mapping[str, Any]) -> int:
        """Ask for what is due by now, at most once a minute; returns for how many.

        `status` is the status document of `history` as it stands. Raises Unavailable, and KafkaError: then
        some were noted and not sent, and are never asked about.
        """
        now = int(self.clock() * 1000)
        minute = now // 60_000
        if not self.per_hour or status["watermark"] is None or minute == self._round:
            return 0
        self._round = minute
        key = reviews_key(self.suite.name, minute // 60)
        budget = int(
            await BUDGET(self.store.client, key, minute % 60, due(self.per_hour, minute % 60)),
        )
        if not budget:
            return 0
        fresh = await self._note(await self._choose(status, budget, minute), now)
        if len(fresh) < budget:
            await _redis(self.store.client.hincrby(key, "spent", len(fresh) - budget))
        for asking in fresh:
            event = review_event(self.suite.name, asking, now)
            await self.send(asking.request.id.encode(), json.dumps(event).encode())
        if fresh:
            log.info("asked for %d reviews", len(fresh))
        return len(fresh)

    async def _choose(self, status: Mapping[str, Any], budget: int, seed: int) -> list[Asking]:
        views = status["windows"]
        states = {
            member["id"]: (member["verdict"] or {}).get("state")
            for member in (views[0]["members"] if views else [])
        }
        suite = self.history.current(self.suite)
        agenda = Agenda(suite, [name for name in suite.shadow if states.get(name) in OPEN])
        block = suite.policy.block
        marks = [self.history.watermark(name) for name in agenda.pending]
        end = pool_end(status["watermark"], marks, block)
        start = end - block
        length = self.store.layout.generation
        generations = range(start // length, end // length + 1)
        asked = await read_asked(self.store, self.history, generations)
        known = {one.id for one in asked}
        draw = Draw(agenda, budget, seed)
        async for request in self._unlabelled(generations, start, end):
            if request.id not in known:
                draw.add(request)
        waiting = [one.names for one in asked if one.label is None and start <= one.time < end]
        cells = self.history.cells(list(suite.members))
        return draw.choose(tally(cells, agenda, start, end, block, waiting))

    async def _unlabelled(self, generations: Iterable[int], start: int, end: int) -> AsyncIterator[Request]:
        """Requests of [start, end) that have votes and no label, as many as one round looks at.

        Redis keeps a hash in an order that has nothing to do with what is in it, so a part of it is a fair
        sample; the next round goes on behind it.
        """
        length = self.store.layout.generation
        keys = [(g, shard) for g in generations for shard in self.store.shards]
        for generation, shard in keys:
            names = {slot: name for name, slot in self.history.shards[shard].slots.items()}
            who: dict[int, tuple[str, ...]] = {}
            key = f"{self.store.prefix(shard)}r:{generation}"
            cursor, left, seen = self._cursors.get(key, 0), _MOST // len(keys), set[bytes]()
            while left > 0:
                cursor, page = await _redis(self.store.client.hscan(key, cursor, count=_PAGE))
                left -= max(1, len(page))
                for id_, packed in page.items():
                    record = decode_record(packed, generation * length)
                    if id_ in seen or not record.timed or record.labelled or not start <= record.time < end:
                        continue
                    seen.add(id_)
                    if record.yes not in who:
                        who[record.yes] = _names(record.yes, names)
                    yield Request(id_.decode(), record.time, who[record.yes])
                if not cursor:
                    break
            self._cursors.pop(key, None)
            if cursor:
                self._cursors[key] = cursor

    async def _note(self, chosen: list[Asking], now: int) -> list[Asking]:
        """Write down what is asked, and return what nobody had asked before."""
        fresh: list[Asking] = []
        length = self.store.layout.generation
        for shard in self.store.shards:
            mine = [a for a in chosen if shard_of(a.request.id, self.store.layout.shards) == shard]
            if not mine:
                continue
            args: list[Any] = []
            for asking in mine:
                noted = [now, asking.request.time, asking.class_name, asking.probability]
                args += [asking.request.time // length, asking.request.id, msgpack.packb(noted)]
            prefix = self.store.prefix(shard)
            free = await ASK(self.store.client, prefix + "asked", prefix, *args)
            fresh += [asking for asking, ok in zip(mine, free, strict=True) if ok]
        return fresh


def review_event(suite: str, asking: Asking, now: int) -> dict[str, Any]:
    """The CloudEvent that asks about one request; `now` in ms. Its id is that of the request's one asking."""
    request = asking.request
    name = f"{suite}|{TYPE}|{request.id}|{request.time}"
    data: dict[str, Any] = {
        "request_id": request.id,
        "event_time": request.time,
        "members": list(request.members),
        "class": asking.class_name,
        "probability": asking.probability,
        "reason": asking.reason,
        "suite": suite,
    }
    return cloud_event(suite, TYPE, request.id, name=name, time=now, data=data)


async def read_asked(store: Store, history: History, generations: Iterable[int] | None = None) -> list[Asked]:
    """What was asked about requests of these generations (all by default), with the labels that stand now."""
    out: list[Asked] = []
    wanted = None if generations is None else set(generations)
    for shard in store.shards:
        prefix = store.prefix(shard)
        slots = {slot: name for name, slot in history.shards[shard].slots.items()}
        there = {int(g) for g in await _redis(store.client.smembers(prefix + "asked"))}
        for generation in sorted(there if wanted is None else there & wanted):
            noted = await _redis(store.client.hgetall(f"{prefix}q:{generation}"))
            ids = list(noted)
            records = await _records(store, prefix, generation, ids)
            for id_ in ids:
                at, moment, name, probability = msgpack.unpackb(noted[id_])
                label, who = None, frozenset[str]()
                if (found := records.get(id_)) is not None:
                    record = decode_record(found, generation * store.layout.generation)
                    label = record.label == POSITIVE if record.labelled else None
                    who = frozenset(_names(record.yes, slots))
                out.append(Asked(id_.decode(), at, moment, name, probability, who, label))
    return out


async def _records(store: Store, prefix: str, generation: int, ids: list[bytes]) -> dict[bytes, bytes]:
    """Packed records by id; one whose time has moved since lies in a generation beside."""
    out: dict[bytes, bytes] = {}
    for beside in (generation, generation - 1, generation + 1):
        left = [id_ for id_ in ids if id_ not in out]
        for at in range(0, len(left), _PAGE):
            some = left[at : at + _PAGE]
            values = await _redis(store.client.hmget(f"{prefix}r:{beside}", some))
            out |= {id_: value for id_, value in zip(some, values, strict=True) if value is not None}
    return out


async def read_reviews(suite: Suite, settings: Settings, now: int) -> dict[str, Any]:
    """What was asked and answered, from Redis alone; `now` in ms. docs/reviews.md describes it."""
    client = redis_client(settings.redis)
    try:
        await ping_redis(client, settings.redis)
        history = History(client, suite.name)
        asked: list[Asked] = []
        if await history.refresh(buckets=False) and history.layout is not None:
            asked = await read_asked(Store(client, suite.name, history.layout), history)
    finally:
        await client.aclose()
    names = sorted({one.class_name for one in asked})
    return {
        "schema": SCHEMA,
        "suite": suite.name,
        "total": _sum(asked, now),
        "classes": [
            {"class": name, **_sum([one for one in asked if one.class_name == name], now)} for name in names
        ],
    }


def _sum(asked: list[Asked], now: int) -> dict[str, Any]:
    waiting = [one.asked_at for one in asked if one.label is None]
    return {
        "asked": len(asked),
        "answered": len(asked) - len(waiting),
        "positive": sum(one.label is True for one in asked),
        "pending": len(waiting),
        "last_asked": max((one.asked_at for one in asked), default=None),
        "oldest_pending": min(waiting, default=None),
        "oldest_pending_age": max(0, now - min(waiting)) if waiting else None,
    }


def _names(mask: int, slots: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(sorted(name for slot, name in slots.items() if mask >> slot & 1))


async def _redis(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
