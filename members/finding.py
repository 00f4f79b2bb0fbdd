"""Where a backfill begins in each partition of `requests`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import TopicPartition

from members.ownership import Owned
from members.replay import Place
from streams.errors import Unavailable
from streams.requests import RequestDecoder
from streams.settings import Settings
from streams.suite import Suite
from streams.watermark import Watermark

_PATIENCE = 30.0  # s


class Finding:
    """Asks the broker for the places; `consumer` is assigned the partitions `tps`, `admin` is started."""

    def __init__(
        self, consumer: Any, admin: Any, suite: Suite, settings: Settings, tps: Sequence[TopicPartition]
    ) -> None:
        self._consumer, self._admin, self._tps = consumer, admin, list(tps)
        self._suite, self._settings = suite, settings

    async def places(self, group: str, since: int | None, back: int) -> tuple[int, dict[int, Place]]:
        """(the instant that it begins with, ms; partition → its place), for requests since `since` (ms).

        None is `back` ms before the newest request. Only whole blocks are evidence: it begins with one.
        A place is what `group` has committed, or the earliest record that can be young enough.
        """
        begins = await self._consumer.beginning_offsets(self._tps)
        ends = await self._consumer.end_offsets(self._tps)
        if since is None:
            since = max(0, await self._newest(begins, ends) - back)
        since -= since % self._suite.policy.block
        # A timestamp lies at most so far ahead of the moment at which its record was produced.
        instant = max(0, since - self._settings.limits.max_future)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._tps, instant))
        progress = await self._committed(group)
        host, out = self._settings.host, {}
        for tp in self._tps:
            begin, at = begins[tp], found.get(tp)
            if at is not None and at.timestamp >= instant and at.offset > begin:  # else it is no answer
                begin = at.offset
            done = progress[tp]
            # Beyond the end: it was committed for a topic that has been made anew since.
            fresh = not 0 <= done.offset <= ends[tp] or not _as_far_back(done.metadata, since)
            if not fresh:
                begin = max(begin, done.offset)
            owned = Owned(tp.partition, Watermark(host.leap, host.agree), position=begin, done=begin)
            place = Place(tp, owned, begin, max(begin, ends[tp]), fresh=fresh, cut=0 < begin == begins[tp])
            out[tp.partition] = place
        return since, out

    async def _committed(self, group: str) -> Mapping[TopicPartition, Any]:
        """Offsets with their metadata, for every partition; a broker that is new has to find them first.

        Raises Unavailable.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return await committed(self._admin, group, self._tps)
            except KafkaError as error:
                if time.monotonic() > deadline:
                    raise not_told(group, error) from None
            await asyncio.sleep(0.2)

    async def _newest(self, begins: Mapping[Any, int], ends: Mapping[Any, int]) -> int:
        """Event time (ms) of the newest request at the ends of the partitions; 0 where there is none."""
        for tp in self._tps:
            self._consumer.seek(tp, max(begins[tp], ends[tp] - 1))
        decoder = RequestDecoder(self._suite, self._settings.limits)
        newest, deadline = 0, time.monotonic() + 5
        waiting = {tp for tp in self._tps if ends[tp] > begins[tp]}
        while waiting and time.monotonic() < deadline:
            for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                newest = max(newest, int(decoder.decode(records).times.max(initial=0)))
                waiting.discard(tp)
        return newest


async def committed(admin: Any, group: str, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, Any]:
    """What a consumer group has committed of each partition, with its metadata; offset -1: nothing.

    Raises KafkaError, also where the broker does not tell of all of them: aiokafka takes an error of the
    whole group (its coordinator is not there yet) for an empty answer.
    """
    found: Mapping[TopicPartition, Any]
    try:
        found = await admin.list_consumer_group_offsets(group, partitions=list(tps))
    except GroupAuthorizationFailedError:  # aiokafka has a sentence where others have the group's name
        raise GroupAuthorizationFailedError(group) from None
    if any(tp not in found for tp in tps):
        raise GroupCoordinatorNotAvailableError("its coordinator is not available")
    return found


def not_told(group: str, error: Exception) -> Unavailable:
    """What to raise where the broker does not tell what a group has committed, however often it is asked."""
    why = str(error) or repr(error)
    return Unavailable(f"the broker does not tell what {group} has committed ({why}): try again")


def _as_far_back(metadata: str, since: int) -> bool:
    """Whether this was committed by a backfill that began no later. The embedded broker forgets it."""
    return metadata.isdigit() and int(metadata) <= since
