"""One attempt to hand one alert to one receiver, and how long to wait before the next."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import aiohttp

from evaluator.alerting.alert import Alert
from evaluator.alerting.payload import alertmanager, slack
from evaluator.alerting.signing import SIGNATURE, TIMESTAMP, sign
from streams.settings import Webhook

EVENT_ID = "X-Chorus-Event-Id"
#: s: no answer makes Chorus wait for longer.
LONGEST_RETRY_AFTER = 3600.0

Outcome = Literal["delivered", "retried", "refused"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it, in words, and for how many seconds the receiver asked to be left alone."""

    outcome: Outcome
    said: str
    retry_after: float = 0.0


def outcome_of(status: int) -> Outcome:
    """What an HTTP status means: 4xx is the receiver's last word, but for 408 and 429."""
    if 200 <= status < 300:
        return "delivered"
    return "refused" if 400 <= status < 500 and status not in (408, 429) else "retried"


def parse_retry_after(value: str | None, now: float) -> float:
    """Seconds of a Retry-After header (seconds, or a date); 0 where it says nothing. now: s since 1970."""
    if not value:
        return 0.0
    try:
        plain = value.strip().isdigit()
        seconds = float(value) if plain else parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def backoff(failures: int, first: float, longest: float, chance: float) -> float:
    """Seconds to wait after so many failures in a row (1, 2, …): doubled each time, up to `longest`.

    chance, in [0, 1), takes off up to a half, so that evaluators do not all come back at one moment.
    """
    return min(longest, first * 2.0 ** min(failures - 1, 60)) * (1 - chance / 2)


def body_of(alert: Alert, webhook: Webhook, *, link: str, starts_at: str) -> bytes:
    """What is posted, in the receiver's format."""
    if webhook.format == "slack":
        message = slack(alert, link=link)
    else:
        message = alertmanager(alert, receiver=webhook.name, link=link, starts_at=starts_at)
    return json.dumps(message, ensure_ascii=False).encode("utf-8", errors="replace")


def headers_of(alert: Alert, webhook: Webhook, body: bytes, now: float) -> dict[str, str]:
    """now: s since 1970. Signed where the receiver has a secret."""
    headers = {"Content-Type": "application/json", "User-Agent": "Chorus", EVENT_ID: _printable(alert.id)}
    if webhook.secret is not None:
        stamp = str(int(now))
        headers |= {TIMESTAMP: stamp, SIGNATURE: sign(webhook.secret.get_secret_value(), stamp, body)}
    return headers


async def post(
    session: aiohttp.ClientSession, webhook: Webhook, body: bytes, headers: dict[str, str], now: float
) -> Answer:
    """Post it once. Never raises for what a receiver or the way to it can do; names no address."""
    url = webhook.url.get_secret_value()
    try:
        # A redirect could lead the alert and its signature to somebody else: it is not followed.
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            outcome = outcome_of(response.status)
            said = str(response.status)
            if outcome == "refused":
                text = (await response.content.read(200)).decode("utf-8", errors="replace")
                said = f"{said} {' '.join(text.split())}".strip()
            return Answer(outcome, said, parse_retry_after(response.headers.get("Retry-After"), now))
    except TimeoutError:
        return Answer("retried", "nothing in time")
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        why = os.strerror(number) if number and number > 0 else type(error.os_error).__name__
        return Answer("retried", f"no connection ({why})")
    except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
        return Answer("retried", f"no answer ({type(error).__name__})")


def _printable(text: str) -> str:
    """A header holds no control characters; ids that Chorus makes have none."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:256]
