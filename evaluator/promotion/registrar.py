"""The registry within an evaluator: followed, shown in Redis, acted on and told about."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from mode import Service

from evaluator.history import History
from evaluator.promotion.deployer import Deployer, Ends
from evaluator.promotion.notices import Notices
from evaluator.registry_view import write_view
from members.registry.lifecycle import Registry
from members.registry.log import RegistryLog
from streams.connect import RedisClient, until_available
from streams.errors import BadRecord, Unavailable
from streams.suite import Suite

log = logging.getLogger("chorus.registry")

_SHOW = 5.0  # s after which the view is written again, should Redis have lost it


def registry_log(suite: Suite, settings: Any) -> RegistryLog:
    """The log as an evaluator reads it: with its events, and a place up to which it has told of them."""
    return RegistryLog(settings.kafka, suite.name, keep=True, group=f"{suite.name}.registrar")


class Registrar(Service):
    """Follows the registry. `changed` is set whenever it has; `look` does what is due.

    send_alert(key, value) and send_letter(record, error) write to Kafka, and raise Unavailable; ends() says
    where the logs of votes and labels end, and raises KafkaError.
    """

    mundane_level = "debug"

    def __init__(
        self,
        declared: Suite,
        registry: RegistryLog,
        client: RedisClient,
        name: str,
        *,
        send_alert: Callable[[bytes, bytes], Awaitable[None]],
        send_letter: Callable[[Any, BadRecord], Awaitable[None]],
        ends: Ends,
    ) -> None:
        super().__init__()
        self.changed = asyncio.Event()
        self._declared, self._log, self._client, self._name = declared, registry, client, name
        self._deployer = Deployer(declared, registry, client, name, ends)
        self._notices = Notices(declared.name, registry, send_alert, send_letter)
        self._shown, self._shown_at = Registry(), 0.0

    async def on_start(self) -> None:
        """The registry is read, or founded from the suite file, before anything is judged."""
        await until_available(self._log.start)
        await until_available(lambda: self._log.found(self._declared, self._name))
        await until_available(self._show)

    async def on_stop(self) -> None:
        with suppress(Unavailable):
            await self._deployer.stop()
        await self._log.stop()

    @property
    def leads(self) -> bool:
        """Whether this evaluator holds the slot: it acts and announces for all."""
        return self._deployer.leads

    @property
    def known(self) -> set[str]:
        """Every member that was ever registered, and those of the suite file."""
        return {*self._declared.members, *self._log.registry.entries}

    async def refresh(self) -> None:
        """Read what the log holds now, and show it. Raises Unavailable."""
        await self._log.refresh()
        await self._show()

    async def look(self, status: Mapping[str, Any], history: History) -> None:
        """Act on a status that was judged from `history`, and tell what happened. Raises Unavailable."""
        await self._deployer.act(status, history)
        await self._show()
        if self._deployer.leads:
            await self._notices.tell()

    async def _show(self) -> None:
        registry, now = self._log.registry, time.monotonic()
        if registry.applied != self._shown.applied or now - self._shown_at > _SHOW:
            await write_view(self._client, self._declared.name, registry)
            self._shown, self._shown_at = registry, now

    @Service.task
    async def _follow(self) -> None:
        said = ""
        while not self.should_stop:
            try:
                before = self._log.registry
                await self._log.poll(500)
                if self._log.registry is not before:
                    self.changed.set()
                await self._show()
                await self._deployer.tend()
                said = ""
            except Unavailable as error:
                if str(error) != said and not self.should_stop:
                    log.warning("%s; trying again", said := str(error))
                await self.sleep(1.0)
