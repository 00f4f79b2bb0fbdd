"""Reading examples: what only one member flagged, under today's live set and with the labels of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluator.examples.features import unpack
from evaluator.examples.keeper import redis
from evaluator.examples.sampler import per_sample
from evaluator.examples.sampling import Hit
from evaluator.history import History
from evaluator.record import Record, decode_record
from evaluator.status import horizon_of
from evaluator.store import Store
from streams.labels import NEGATIVE, POSITIVE
from streams.settings import Settings
from streams.suite import Suite

SCHEMA = 1
Which = Literal["true", "false", "unlabelled"]


@dataclass(frozen=True, slots=True)
class Example:
    """One sampled request that only the member flagged. label None: unlabelled. fired: who voted True.

    features: of the request, None where they have not been read yet, or no longer can be (`gone`).
    """

    hit: Hit
    time: int
    label: bool | None
    labelled_at: int | None
    revision: int
    fired: tuple[str, ...]
    features: dict[str, Any] | None
    segments: dict[str, Any] | None
    cut: tuple[str, ...]
    gone: bool

    def row(self, member: str) -> dict[str, Any]:
        """As one line of JSONL; docs/examples.md describes it."""
        return {
            "request_id": self.hit.id,
            "time": self.time,
            "label": self.label,
            "labelled_at": self.labelled_at,
            "member": member,
            "suite_revision": self.revision,
            "fired": list(self.fired),
            "features": self.features,
            "segments": self.segments,
            "cut": list(self.cut),
            "gone": self.gone,
            "partition": self.hit.partition,
            "offset": self.hit.offset,
        }


async def read_examples(suite: Suite, settings: Settings, history: History, member: str) -> list[Example]:
    """All examples of one member, the latest first, from a history that has been refreshed.

    `member`: an id; the live members that count are those of `suite`. Raises Unavailable.
    """
    if history.layout is None:
        return []
    store = Store(history.client, suite.name, history.layout)
    return await _Reader(suite, settings, history, store, member).read()


class _Reader:
    def __init__(self, suite: Suite, settings: Settings, history: History, store: Store, member: str) -> None:
        self._history, self._store, self._member = history, store, member
        self._k = per_sample(max(1, settings.examples.per_day), store.layout.shards)
        self._omit = settings.examples.omitted
        self._others = [name for name in suite.live if name != member]
        self._silent: int | None = None
        if suite.labels.missing_is_negative:
            through = history.labels_through(settings.host.leap)
            if through is not None:
                self._silent = through - horizon_of(suite, history, through).ms

    async def read(self) -> list[Example]:
        out: dict[tuple[str, int], Example] = {}
        for shard in self._store.shards:
            for generation in await redis(self._store.client.hkeys(self._store.prefix(shard) + "sampled")):
                for example in await self._generation(shard, int(generation)):
                    out.setdefault((example.hit.id, example.time), example)
        return sorted(out.values(), key=lambda example: (-example.time, example.hit.id))

    async def _generation(self, shard: int, generation: int) -> list[Example]:
        client, prefix = self._store.client, self._store.prefix(shard)
        slots = self._history.shards[shard].slots
        if self._member not in slots:
            return []
        own = 1 << slots[self._member]
        others = sum(1 << slots[name] for name in self._others if name in slots)
        packed = await redis(client.zrange(f"{prefix}s:{generation}:{self._member}", 0, self._k - 1))
        hits = [Hit.unpack(each) for each in packed]
        records = await self._records(prefix, generation, [hit.id for hit in hits])
        chosen: dict[bytes, tuple[Hit, Record]] = {}
        for key, hit in zip(packed, hits, strict=True):
            record = records.get(hit.id)
            if record is not None and record.yes & own and not record.yes & others:
                chosen[key] = (hit, record)
        if not chosen:
            return []
        bodies = await redis(client.hmget(f"{prefix}f:{generation}", list(chosen)))
        names = sorted(slots, key=slots.__getitem__)
        return [
            self._example(hit, record, names, body)
            for (hit, record), body in zip(chosen.values(), bodies, strict=True)
        ]

    async def _records(self, prefix: str, generation: int, ids: Sequence[str]) -> dict[str, Record]:
        """Records by id; one whose time has moved since lies in a generation beside."""
        out: dict[str, Record] = {}
        for beside in (generation, generation - 1, generation + 1):
            left = [id_ for id_ in ids if id_ not in out]
            if left:
                values = await redis(self._store.client.hmget(f"{prefix}r:{beside}", left))
                start = beside * self._store.layout.generation
                for id_, value in zip(left, values, strict=True):
                    if value is not None:
                        out[id_] = decode_record(value, start)
        return out

    def _example(self, hit: Hit, record: Record, names: list[str], body: bytes | None) -> Example:
        label: bool | None = {POSITIVE: True, NEGATIVE: False}.get(record.label)
        if label is None and self._silent is not None and record.time < self._silent:
            label = False
        kept = unpack(body) if body is not None else {}
        shown = {
            part: {name: value for name, value in kept[part].items() if name not in self._omit}
            for part in ("features", "segments")
            if part in kept
        }
        return Example(
            hit,
            record.time,
            label,
            record.labelled_at if record.labelled else None,
            record.revision,
            tuple(name for i, name in enumerate(names) if record.yes >> i & 1),
            shown.get("features"),
            shown.get("segments"),
            tuple(kept.get("cut", ())),
            bool(kept.get("gone")),
        )


def which(examples: Sequence[Example], wanted: Which | None) -> list[Example]:
    """Those with this label; all of them for None."""
    if wanted is None:
        return list(examples)
    label = {"true": True, "false": False, "unlabelled": None}[wanted]
    return [example for example in examples if example.label is label]
