"""Signed webhooks: a receiver that knows the secret can tell who sent a message, and when.

This module uses the standard library only: receivers may copy `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import math

TIMESTAMP, SIGNATURE = "X-Chorus-Timestamp", "X-Chorus-Signature"


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """``sha256=`` and the hexadecimal HMAC-SHA256 of the timestamp, a dot and the body."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def verify(
    secret: str, timestamp: str, signature: str, body: bytes, *, now: float, tolerance: float = 300.0
) -> bool:
    """Whether the sender of `body` (as it came, byte for byte) knows the secret.

    timestamp, signature: the two headers; now: seconds since 1970; tolerance: seconds by which the clocks may
    differ, and within which a message that somebody recorded can be sent again.
    """
    try:
        age = abs(now - float(timestamp))
    except ValueError:
        return False
    if not math.isfinite(age) or age > tolerance:
        return False
    return hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode())
