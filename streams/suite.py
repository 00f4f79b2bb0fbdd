"""The suite file: what one team declares, read strictly. Unknown keys are errors, with their line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from streams.errors import ConfigError
from streams.times import format_duration, parse_duration, parse_time

FeatureType = Literal["float", "int", "bool", "category", "text"]
Stage = Literal["shadow", "live"]

DAY = 86_400_000


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("a duration is a string such as '5m', '24h' or '7d'")
    return parse_duration(value)


def _instant(value: object) -> int:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, str | int):
        return parse_time(value)
    raise ValueError("an instant is a TOML date-time such as 2013-01-31T00:00:00Z")


def _auto_or_duration(value: object) -> object:
    return value if value == "auto" else _duration(value)


def _version_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _kafka_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value):
        raise ValueError("use letters, digits, '-' and '_' only: it is a prefix of topic names")
    return value


def _member_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise ValueError("use letters, digits, '.', '-' and '_' only")
    return value


Duration = Annotated[int, BeforeValidator(_duration)]
Instant = Annotated[int, BeforeValidator(_instant)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelRules(_Strict):
    """How ground truth comes. Durations in ms."""

    horizon: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_duration)] = "auto"
    min_horizon: Duration = 6 * 3_600_000
    missing_is_negative: bool = False


class Policy(_Strict):
    """What it takes to be promoted or flagged."""

    mode: Literal["advise", "auto"] = "advise"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    evidence: Literal["blocks", "labels"] = "blocks"
    block: Duration = DAY
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    floor: Annotated[float, Field(ge=0, le=1)] | None = None
    min_span: Duration = 7 * DAY
    #: who may approve; nobody named: anybody
    approvers: list[str] = []
    #: event time for which a new live member is watched before it counts as promoted
    bake: Duration = 3_600_000
    #: event time after a fall back before the same member is recommended again, and after a roll-back before
    #: anything else is deployed
    cooldown: Duration = DAY
    #: the share of requests that a baking member may fail on; the factor by which its vote rate may differ
    #: from what it was in shadow
    max_error_rate: Annotated[float, Field(ge=0, lt=1)] = 0.05
    max_rate_change: Annotated[float, Field(gt=1)] = 4.0


class MemberSpec(_Strict):
    """One versioned binary classifier as the suite file declares it."""

    name: Annotated[str, AfterValidator(_member_name)]
    version: Annotated[str, BeforeValidator(_version_text), AfterValidator(_member_name)]
    stage: Stage = "shadow"
    replaces: str | None = None
    owner: str
    team: str | None = None
    contact: str | None = None
    description: str | None = None
    loader: str
    params: dict[str, Any] = {}
    threshold: float | None = None
    data_version: str | None = None
    tags: list[str] = []
    #: ms of wall clock that one vote() over up to 256 requests may take; more requests, more time
    budget_ms: Annotated[float, Field(gt=0)] = 50.0
    trained_through: Instant | None = None
    isolate: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        module, _, attribute = self.loader.partition(":")
        if not module or not attribute:
            raise ValueError(f"loader = {self.loader!r}: write it as 'package.module:Class'")
        try:
            json.dumps(self.params, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("params are kept as JSON: write dates, inf and nan as text") from None
        return self

    @property
    def id(self) -> str:
        """``name@version``, as votes and decisions name it."""
        return f"{self.name}@{self.version}"


class Suite(_Strict):
    """A suite file. Durations and instants in ms."""

    name: Annotated[str, AfterValidator(_kafka_name)]
    bucket: Duration = 5 * 60_000
    windows: list[str] = ["1h", "24h", "7d"]
    segments: list[str] = []
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    #: how long records are kept behind the watermark; None: twice the longest window, at least 14 days
    retention: Duration | None = None
    labels: LabelRules = LabelRules()
    policy: Policy = Policy()
    features: dict[str, FeatureType] = {}
    member: list[MemberSpec] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.segments)) != len(self.segments):
            raise ValueError("segments names a field twice")
        seen: set[str] = set()
        for spec in self.member:
            if spec.id in seen:
                raise ValueError(f"member {spec.id} is declared twice: give the second one another version")
            seen.add(spec.id)
        for text in self.windows:
            if parse_duration(text) % self.bucket:
                raise ValueError(
                    f"window {text} is not a multiple of the bucket ({format_duration(self.bucket)})"
                )
        if len({parse_duration(text) for text in self.windows}) != len(self.windows):
            raise ValueError("two windows are of one length")
        if self.retention is not None and self.retention < max(self.window_ms.values(), default=0):
            raise ValueError("retention is shorter than the longest window")
        return self

    @cached_property
    def window_ms(self) -> dict[str, int]:
        """Window name → length in ms, in the order of the file."""
        return {text: parse_duration(text) for text in self.windows}

    @cached_property
    def retention_ms(self) -> int:
        """ms behind the watermark for which records and histograms are kept."""
        if self.retention is not None:
            return self.retention
        return max(14 * DAY, 2 * max(self.window_ms.values(), default=0))

    @cached_property
    def generation_ms(self) -> int:
        """ms of event time in one generation of records: a day, or a bucket where that is longer."""
        return DAY if DAY % self.bucket == 0 else self.bucket * -(-DAY // self.bucket)

    def with_members(self, specs: Iterable[MemberSpec]) -> Suite:
        """The same suite with other members; they are taken as they are."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_construct(**{**fields, "member": list(specs)})

    @cached_property
    def members(self) -> dict[str, MemberSpec]:
        """Member id → spec, in the order of the file."""
        return {spec.id: spec for spec in self.member}

    @cached_property
    def live(self) -> list[str]:
        """Ids of the live members."""
        return [spec.id for spec in self.member if spec.stage == "live"]

    @cached_property
    def shadow(self) -> list[str]:
        """Ids of the shadow candidates."""
        return [spec.id for spec in self.member if spec.stage == "shadow"]


def load_suite(path: str | Path) -> Suite:
    """Read a suite file. Raises ConfigError, naming the file and where possible the line."""
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such suite file: check --suite", source=source) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the suite file cannot be read ({error})", source=source) from None
    return parse_suite(text, source)


def parse_suite(text: str, source: str = "suite.toml") -> Suite:
    """The suite that `text` declares. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        raise ConfigError(
            f"this is not valid TOML: {error}", source=source, line=int(at[1]) if at else None
        ) from None
    try:
        return Suite.model_validate(document)
    except ValidationError as error:
        # An unknown key first: a misspelt one is the likelier cause than the one that it leaves missing.
        first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
        location = [part for part in first["loc"] if part != "auto" and not str(part).startswith("function-")]
        key = ".".join(str(part) for part in location)
        if first["type"] == "extra_forbidden":
            message = f"unknown key {key!r}: check its spelling, or remove it"
        elif first["type"] == "missing":
            message = f"{key!r} is missing"
        else:
            message = f"{key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}"
        raise ConfigError(message, source=source, line=_line_of(text, location)) from None


def _line_of(text: str, location: list[Any]) -> int | None:
    """1-based line of a key in TOML text, or of the table it would stand in; None when not found."""
    table: tuple[Any, ...] = ()
    arrays: dict[str, int] = {}
    best, depth = None, 0
    wanted = tuple(location)
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if header := re.fullmatch(r"\[\[\s*([\w.\"'-]+)\s*\]\]\s*(#.*)?", line):
            arrays[header[1]] = arrays.get(header[1], -1) + 1
            table = (header[1], arrays[header[1]])
        elif header := re.fullmatch(r"\[\s*([\w.\"'-]+)\s*\]\s*(#.*)?", line):
            table = tuple(part.strip("\"'") for part in header[1].split("."))
            if table[0] in arrays:
                table = (table[0], arrays[table[0]], *table[1:])
        elif key := re.match(r"([\w\"'-]+)\s*[=.]", line):
            path = (*table, key[1].strip("\"'"))
            if len(path) > depth and wanted[: len(path)] == path:
                best, depth = number, len(path)
            continue
        if table and len(table) > depth and wanted[: len(table)] == table:
            best, depth = number, len(table)
    return best
