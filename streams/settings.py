"""Settings of one process: ``CHORUS_…`` variables with ``__`` for nesting, or a TOML file.

What belongs to a suite (its members, windows, policy) stands in the suite file; what belongs to the place
where it runs stands here. Nothing is read at import time.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from streams.errors import ConfigError
from streams.times import format_duration, parse_duration


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) and not value.isdigit() else value


def _joined(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _web_address(value: SecretStr) -> SecretStr:
    """Says nothing of the address itself: it may hold a token."""
    try:
        parts = urlsplit(value.get_secret_value())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("not an address of the web: write it like https://host/path")
    return value


def _link(value: str) -> str:
    if value:
        _web_address(SecretStr(value))
        rest = value.replace("{suite}", "").replace("{subject}", "").replace("{type}", "")
        if "{" in rest or "}" in rest:
            raise ValueError("only {suite}, {subject} and {type} are filled in: check the braces")
    return value


def _between(least: int, most: int | None = None) -> AfterValidator:
    """Bounds of a duration (ms), told with their units."""

    def check(value: int) -> int:
        limit = "at least " + format_duration(least) if value < least else ""
        if most is not None and value > most:
            limit = "at most " + format_duration(most)
        if limit:
            given = format_duration(value) if value > 0 else value
            raise ValueError(f"it is {given}, and has to be {limit}: write it with its unit, like 5s or 10m")
        return value

    return AfterValidator(check)


Duration = Annotated[int, BeforeValidator(_duration)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kafka(_Part):
    """How to reach the broker. Durations in ms."""

    bootstrap_servers: str = "localhost:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: str | None = None
    session_timeout: Duration = 10_000
    fetch_max_wait: Duration = 50
    #: how long a hole between two offsets is read again before it is believed; for the embedded broker only
    patience: Annotated[Duration, _between(0)] = 0
    #: whether votes, decisions and offset of a batch go out in one transaction; auto: where the broker can
    transactions: Literal["auto", "on", "off"] = "auto"
    #: after which the broker ends the transaction of a live host that died; readers wait for it until then
    transaction_timeout: Annotated[Duration, _between(1000)] = 10_000
    partitions: Annotated[int, Field(ge=1, le=1000)] = 4
    replication_factor: Annotated[int, Field(ge=1, le=9)] = 1


class Redis(_Part):
    """How to reach the store. `shards` is fixed when a suite's store is first written."""

    url: SecretStr = SecretStr("redis://localhost:6379/0")
    cluster: bool = False
    shards: Annotated[int, Field(ge=1, le=1024)] = 1


class Host(_Part):
    """A member host. Durations in ms."""

    batch: Annotated[int, Field(ge=1, le=10_000)] = 4000
    #: a partition with nothing new for this long no longer holds a watermark back
    idle_after: Duration = 2_000
    #: a timestamp further ahead than this waits until `agree` others are there too
    leap: Duration = 6 * 3_600_000
    agree: Annotated[int, Field(ge=1, le=100)] = 3
    #: consecutive failures after which a member is suspended, and for how long
    breaker_failures: Annotated[int, Field(ge=1)] = 3
    breaker_cooldown: Duration = 30_000
    #: what the scheduler and the interpreter may add to a member's budget before it counts as late
    budget_grace: Duration = 250
    commit_every: Duration = 500
    #: age of the requests that a host reads from which on it is said to lag
    lag_after: Duration = 60_000


class Limits(_Part):
    """What makes a record bad. Sizes in bytes, durations in ms."""

    max_record: Annotated[int, Field(ge=1024)] = 1_000_000
    #: how far a timestamp may lie ahead of the moment at which its record was produced
    max_future: Duration = 3_600_000


class Reviews(_Part):
    """Labels that are asked for. `per_hour` is of the wall clock, for the whole suite; 0 asks for none."""

    per_hour: Annotated[int, Field(ge=0, le=100_000)] = 0


class Examples(_Part):
    """Requests that are kept with their features, for people to look at (docs/examples.md).

    `per_day` is of event time, for each member; 0 keeps none. `omit` names features that are not kept, with
    commas between them; in a file it may be a list.
    """

    per_day: Annotated[int, Field(ge=0, le=10_000)] = 128
    omit: Annotated[str, BeforeValidator(_joined)] = ""

    @property
    def omitted(self) -> frozenset[str]:
        """The names in `omit`."""
        return frozenset(name.strip() for name in self.omit.split(",") if name.strip())


class Backfill(_Part):
    """A backfill makes way for the live hosts."""

    #: records that the live hosts may be behind before it pauses; it goes on when that has halved
    max_lag: Annotated[int, Field(ge=1)] = 20_000
    check_every: Annotated[Duration, _between(10)] = 1_000


class Webhook(_Part):
    """A receiver of alerts (docs/alerts.md). `types` are globs of event types."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    url: Annotated[SecretStr, AfterValidator(_web_address)]
    secret: Annotated[SecretStr, Field(min_length=1)] | None = None
    types: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] = ["*"]
    format: Literal["alertmanager", "slack"] = "alertmanager"


def _different(webhooks: list[Webhook]) -> list[Webhook]:
    for name, count in Counter(webhook.name for webhook in webhooks).items():
        if count > 1:
            raise ValueError(f"{count} of them have the name {name}: give each its own")
    return webhooks


class Alerts(_Part):
    """Who is told of alerts, and how hard it is tried. Durations in ms."""

    webhooks: Annotated[list[Webhook], AfterValidator(_different)] = []
    #: where people look at it; {suite}, {subject} and {type} are filled in
    link: Annotated[str, AfterValidator(_link)] = ""
    timeout: Annotated[Duration, _between(100, 60_000)] = 10_000
    #: the first wait after a failure, and the longest; each is twice the one before
    retry_first: Annotated[Duration, _between(10)] = 1_000
    retry_longest: Annotated[Duration, _between(10)] = 300_000


class Web(_Part):
    """Where a process serves /metrics, /healthz and /readyz; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0


class Settings(BaseSettings):
    """All settings of one process. Secrets are masked when printed."""

    model_config = SettingsConfigDict(
        env_prefix="CHORUS_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    host: Host = Host()
    limits: Limits = Limits()
    reviews: Reviews = Reviews()
    examples: Examples = Examples()
    backfill: Backfill = Backfill()
    alerts: Alerts = Alerts()
    web: Web = Web()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over variables, variables over the TOML file that CHORUS_CONFIG names."""
        path = os.environ.get("CHORUS_CONFIG")
        toml = [TomlConfigSettingsSource(settings_cls, path)] if path else []
        return (init_settings, env_settings, *toml)


#: Short forms of the two addresses that every process needs.
_SHORT = {
    "CHORUS_BOOTSTRAP_SERVERS": "CHORUS_KAFKA__BOOTSTRAP_SERVERS",
    "CHORUS_REDIS_URL": "CHORUS_REDIS__URL",
}


def load_settings(*, bootstrap_servers: str | None = None, redis_url: str | None = None) -> Settings:
    """Settings from the environment and CHORUS_CONFIG; arguments that are not None win.

    Raises ConfigError for an unknown or unusable setting.
    """
    known = {"CHORUS_CONFIG", *_SHORT}
    groups = {f"CHORUS_{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith("CHORUS_") and name not in known and name.split("__")[0] not in groups:
            raise ConfigError(f"unknown setting {name}: check its spelling, or unset it")
    config = os.environ.get("CHORUS_CONFIG")
    if config and not os.path.exists(config):
        raise ConfigError(f"CHORUS_CONFIG names {config}, which does not exist: unset it, or create the file")
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "CHORUS_" + "__".join(str(part).upper() for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"unknown setting {name}: check its spelling, or remove it") from None
        raise ConfigError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    except SettingsError as error:
        found = re.search(r'field "(\w+)"', str(error))  # what came is not quoted: it may hold secrets
        name = f"CHORUS_{found[1].upper()}__…" if found else "CHORUS_…"
        raise ConfigError(f"a variable {name} does not hold the JSON that it should: check it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"the file that CHORUS_CONFIG names cannot be read: {error}", source=config
        ) from None
    servers = bootstrap_servers or os.environ.get("CHORUS_BOOTSTRAP_SERVERS")
    url = redis_url or os.environ.get("CHORUS_REDIS_URL")
    if servers:
        kafka = settings.kafka.model_copy(update={"bootstrap_servers": servers})
        settings = settings.model_copy(update={"kafka": kafka})
    if url:
        redis = settings.redis.model_copy(update={"url": SecretStr(url)})
        settings = settings.model_copy(update={"redis": redis})
    return settings
