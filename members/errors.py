"""Exceptions of members.

::

    ChorusError
    └── MemberError          a member cannot be used, or did not answer as it should
        ├── LoadError        it cannot be imported, constructed or loaded
        └── VoteError        its answer is late, of a wrong shape or dtype, or it raised
"""

from __future__ import annotations

from streams.errors import ChorusError


class MemberError(ChorusError):
    """A member cannot be used, or did not answer as it should."""


class LoadError(MemberError):
    """A member cannot be imported, constructed or loaded."""


class VoteError(MemberError):
    """A member's answer cannot be used; the whole batch counts as abstained for it."""
