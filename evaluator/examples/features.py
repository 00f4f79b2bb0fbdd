"""What is kept of one request: its features and segments as JSON, within bounds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

#: Bytes of JSON that the features of one example may take, and its segments too.
MOST = 8192
#: Characters that are left of a text which has to be cut.
_SHORT = 200

#: What stands for a request that is no longer on the topic: nobody looks for it again.
GONE = b'{"gone":true}'

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def keep(value: bytes | None, request_id: str, segments: Sequence[str], omit: Collection[str]) -> bytes:
    """JSON {features, segments, cut} of the request in a record; GONE where another request is in it.

    `segments`: the suite's segment fields, which may stand beside the features as well. `omit`: names that
    are left out. cut: names of what was shortened or left out for its size.
    """
    try:
        request = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return GONE
    if not isinstance(request, dict) or request.get("request_id") != request_id:
        return GONE
    features, cut = fit(_named(request.get("features"), omit))
    beside = {name: request[name] for name in segments if name in request}
    values, short = fit(_named({**beside, **_named(request.get("segments"), ())}, omit))
    return _encode({"features": features, "segments": values, "cut": cut + short})


def _named(values: object, omit: Collection[str]) -> dict[str, Any]:
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if name not in omit}


def fit(values: Mapping[str, Any], most: int = MOST) -> tuple[dict[str, Any], list[str]]:
    """The values within `most` bytes of JSON, and the names of those that were cut: the largest first.

    A text is shortened, anything else is left out; so is a text where that is not enough.
    """
    sizes = {name: len(_encode({name: value})) for name, value in values.items()}
    total, out, cut = sum(sizes.values()) + 2, dict(values), dict[str, None]()
    for shorten in (True, False):
        for name in sorted(out, key=sizes.__getitem__, reverse=True):
            if total <= most:
                return out, list(cut)
            value = out[name]
            short = value[:_SHORT] if shorten and isinstance(value, str) else None
            if short == value:
                continue
            cut[name] = None
            total -= sizes[name]
            del out[name]
            if short is not None:
                out[name], sizes[name] = short, len(_encode({name: short}))
                total += sizes[name]
    return out, list(cut)


def unpack(body: bytes) -> dict[str, Any]:
    """What `keep` packed: {features, segments, cut}, or {gone}."""
    found: dict[str, Any] = _decode(body)
    return found
