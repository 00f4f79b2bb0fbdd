"""Options that many commands have, and what becomes of them. Quick to import: every command is.

The suite file and the settings are read where a command is called, not where it is defined.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.suite import Suite

SuiteFile = Annotated[Path, Parameter(name="--suite", help="The suite file (TOML).")]
Servers = Annotated[
    str | None,
    Parameter(
        name="--bootstrap-servers",
        help="Where Kafka is, host:port[,host:port]; else CHORUS_BOOTSTRAP_SERVERS, else localhost:9092.",
    ),
]
RedisUrl = Annotated[
    str | None,
    Parameter(
        name="--redis-url",
        help="Where Redis is, redis://host:port/0; else CHORUS_REDIS_URL, else localhost:6379.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of a text for people.")]


def open_suite(
    suite: Path, servers: str | None = None, redis_url: str | None = None, web_port: int | None = None
) -> tuple[Suite, Settings]:
    """The suite file and the settings; what is given here wins. Logging is set up. Raises ConfigError."""
    from streams.app import set_up_logging
    from streams.settings import load_settings
    from streams.suite import load_suite

    settings = load_settings(bootstrap_servers=servers, redis_url=redis_url)
    set_up_logging(settings.log_level)
    if web_port is not None:
        web = settings.web.model_copy(update={"port": web_port})
        settings = settings.model_copy(update={"web": web})
    return load_suite(suite), settings
