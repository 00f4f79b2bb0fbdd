"""The exceptions of Chorus.

::

    ChorusError
    ├── ConfigError          a suite file or a setting that cannot be used
    ├── BadRecord            one record that goes to dead letters (reason, detail)
    ├── Unavailable          a broker or a Redis that does not answer
    ├── MissingDependency    an optional part that is not installed
    └── StoreError           the store cannot be used as it is
"""

from __future__ import annotations


class ChorusError(Exception):
    """Base of all. ``str()`` is one sentence for a person, with the fix."""


class ConfigError(ChorusError):
    """A suite file or a setting cannot be used. `line` is 1-based, or None where unknown."""

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.source, self.line = source, line
        where = f"{source}:{line}: " if source and line else f"{source}: " if source else ""
        super().__init__(where + message)


class BadRecord(ChorusError):
    """A record that cannot be used: it goes to dead letters with `reason` (a code) and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class Unavailable(ChorusError):
    """A server does not answer (yet). Trying again may help."""


class Refused(Unavailable):
    """A server answers, and says no. Trying again helps once somebody has allowed it."""


class MissingDependency(ChorusError):
    """An optional part is not installed; the message names the extra that brings it."""


class StoreError(ChorusError):
    """The store cannot be used as it is (another bucket size, another number of shards)."""
