"""Hold-out: which flagged requests a suite lets through on purpose, so that what acting destroys can be seen.

Acting on a request may destroy or distort its label (a blocked payment is never charged back). A suite with
`holdout = q` therefore answers False to a share q of what it would have flagged. Whether a request is among
them follows from its id alone: it is the same on every host, after every crash and for anybody who asks
later, and one that is held out at q is held out at every larger share too.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

#: Keeps these draws apart from all others that are made of ids (shards, reviews). Never change it.
_PURPOSE = b"chorus hold-out"


def chance(request_id: str) -> float:
    """A number in [0, 1) that belongs to this id, uniform over ids."""
    digest = blake2b(request_id.encode(), digest_size=8, person=_PURPOSE).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def held_out(ids: Sequence[str], flagged: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """bool[n]: the requests that are flagged (bool[n]) and let through nevertheless; share in [0, 1)."""
    out = np.zeros(len(ids), dtype=np.bool_)
    if share > 0:
        for i in np.flatnonzero(flagged).tolist():
            out[i] = chance(ids[i]) < share
    return out
