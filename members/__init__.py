"""The members: their protocol, their hosts, and the time budget they run under.

A member that abstains by itself answers with `Votes`.
"""

from members.protocol import Votes

__all__ = ["Votes"]
