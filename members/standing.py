"""Whether a member is still a shadow, by the registry."""

from __future__ import annotations

import logging

from members.registry.log import RegistryLog
from streams.errors import ChorusError, Unavailable

log = logging.getLogger("chorus")


class NotAShadow(ChorusError):
    """The member is in the OR by now, or retired."""


class Standing:
    """Looks after one member (an id). Where nobody has registered it, nothing speaks against it."""

    def __init__(self, registry: RegistryLog, member: str) -> None:
        self._log, self._member = registry, member

    async def start(self) -> None:
        """Raises Unavailable."""
        await self._log.start()

    async def stop(self) -> None:
        await self._log.stop()

    async def look(self) -> None:
        """Raises NotAShadow. While the broker does not answer, the member is what it was."""
        try:
            await self._log.refresh()
        except Unavailable as error:
            log.debug("what %s is by now is not known: %s", self._member, error)
        entry = self._log.registry.entries.get(self._member)
        if entry is not None and self._member not in self._log.registry.shadow:
            raise NotAShadow(
                f"{self._member} is {entry.state} by now, and only a shadow can be backfilled: what was "
                "written until then counts"
            )
