"""Events of the registry, as they stand on the `members` topic for ever. docs/registry.md describes them."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from streams.errors import BadRecord
from streams.suite import MemberSpec
from streams.times import MAX_TIME

#: What people and evaluators decide. Each says which suite revision it expects, and which event of the member
#: was its last one; one that expected anything else is ignored by every reader.
Decided = Literal[
    "founded", "added", "described", "recommended", "approved", "queued", "reranked", "deploying", "swapped",
    "promoted", "superseded", "aborted", "rolled_back", "retired", "back_to_shadow", "noticed",
]  # fmt: skip
#: What only the evaluator that holds the deployment slot writes: it shows its token.
EVALUATORS = frozenset(
    ("recommended", "queued", "reranked", "deploying", "swapped", "promoted", "superseded", "noticed")
)
#: What hosts report: that a member is loaded and checked, that it cannot serve, which revision they serve.
Reported = Literal["ready", "refused", "serving"]
Kind = Decided | Reported
REPORTS = frozenset(("ready", "refused", "serving"))

#: What JSON, MessagePack and Lua all keep exactly: 53 bits.
_MOST = 2**53 - 1
#: Characters of a reason.
LONGEST = 4000
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST)]
Instant = Annotated[int, Field(ge=0, le=MAX_TIME)]
Number = Annotated[int, Field(ge=0, le=_MOST)]
Partition = Annotated[int, Field(ge=0, lt=2**31)]

#: What a spec means that does not say it: events are kept for ever, and those of before a spec was written in
#: full mean what was the default then, whatever it is by now. Never change these.
_UNSAID: Mapping[str, Any] = {
    "stage": "shadow", "replaces": None, "team": None, "contact": None, "description": None, "params": {},
    "threshold": None, "data_version": None, "tags": [], "budget_ms": 50.0, "trained_through": None,
    "isolate": False,
}  # fmt: skip


def _as_known(spec: object) -> object:
    """What this version knows of a spec: a newer one that says more is still a member's spec."""
    if not isinstance(spec, Mapping):
        return spec
    return {**_UNSAID, **{name: value for name, value in spec.items() if name in MemberSpec.model_fields}}


#: A member's spec as the registry keeps it: read leniently, written in full.
Spec = Annotated[MemberSpec, BeforeValidator(_as_known)]


def _countable(evidence: dict[str, Any]) -> dict[str, Any]:
    """The registry goes by these of the evidence; the rest is for people to read."""
    for name, most in (("place", _MOST), ("revision", _MOST), ("labels_through", MAX_TIME)):
        value = evidence.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= most):
            raise ValueError(f"{name} is no whole number in its bounds")
    gain = evidence.get("gain")
    if gain is not None and not (isinstance(gain, int | float) and math.isfinite(gain)):
        raise ValueError("gain is no number")
    return evidence


class Event(BaseModel):
    """One event. Instants in epoch ms.

    expected: the suite revision that it was written for; after: the offset of the member's last accepted
    event, None where it has none. at: the writer's clock; watermark: how far event time had come for it.
    token: of the slot's holder, for what only that may do; deployment: the deployment that it is about.
    declared: it was written because the suite file says so.
    suite_precision, in a `deploying`: that of the OR as it was then, as the candidate's verdict has it; None
    where too little was known.
    replaces, in a `swapped`: the live member that goes out in the same step. positions, in a `serving`:
    requests partition → the first offset that is answered by `revision`, which every later one is as well, or
    those below `until`. revision, in a `ready`: the one that the host had the baking member in when it was
    started anew; process: which one of that name it is.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    kind: Kind
    member: str = ""
    expected: Number = 0
    after: Number | None = None
    at: Instant
    who: Text
    why: Text
    watermark: Instant | None = None
    spec: Spec | None = None
    members: list[Spec] = []
    override: bool = False
    declared: bool = False
    token: Number | None = None
    deployment: str = ""
    suite_precision: Annotated[float, Field(ge=0, le=1)] | None = None
    replaces: str | None = None
    by: str | None = None
    evidence: Annotated[dict[str, Any], AfterValidator(_countable)] | None = None
    revision: Number | None = None
    positions: dict[Partition, Number] = {}
    until: dict[Partition, Number] = {}
    process: str = ""


class Serving(NamedTuple):
    """A report of a host: from `at` of a partition of requests on `revision` answers.

    position: its offset in the log; until: the offset before which that ends, None where it does not.
    """

    position: int
    at: int
    revision: int
    until: int | None = None


def encode_event(event: Event) -> bytes:
    """JSON, without what says nothing; specs in full, so that no later default changes what they mean."""
    document = event.model_dump(mode="json", exclude_defaults=True)
    document |= {"version": event.version, "id": event.id, "kind": event.kind}
    if event.spec is not None:
        document["spec"] = event.spec.model_dump(mode="json")
    if event.members:
        document["members"] = [spec.model_dump(mode="json") for spec in event.members]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def decode_event(value: bytes | None) -> Event:
    """The reverse. Raises BadRecord, with one short sentence."""
    if not value:
        raise BadRecord("empty", "the record has no value")
    try:
        return Event.model_validate_json(value)
    except ValidationError as error:
        if _newer(value):
            raise BadRecord("newer_event", "written by a newer Chorus: upgrade this one") from None
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][:3])[:100]
        if not where:
            raise BadRecord("bad_event", "it is no JSON object") from None
        what = "is missing" if first["type"] == "missing" else "is not what it should be"
        raise BadRecord("bad_event", f"{where} {what}") from None


def _newer(value: bytes) -> bool:
    """Whether it says that it is of a version, or of a kind, that is not known here."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict):
        return False
    version, kind = document.get("version"), document.get("kind")
    known = {*get_args(Decided), *get_args(Reported)}
    return (type(version) is int and version > 1) or (isinstance(kind, str) and kind not in known)
