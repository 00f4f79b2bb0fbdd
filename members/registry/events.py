"""Events of the registry, as they stand on the `members` topic for ever. docs/registry.md describes them."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from streams.errors import BadRecord
from streams.suite import MemberSpec

#: What people and evaluators decide. Each says which suite revision it expects, and which event of the member
#: was its last one; one that expected anything else is ignored by every reader.
Decided = Literal[
    "founded", "added", "described", "recommended", "approved", "queued", "reranked", "deploying", "swapped",
    "promoted", "superseded", "aborted", "rolled_back", "retired", "back_to_shadow",
]  # fmt: skip
#: What hosts report: that a member is loaded and checked, that it cannot serve, which revision they serve.
Reported = Literal["ready", "refused", "serving"]
Kind = Decided | Reported
REPORTS = frozenset(("ready", "refused", "serving"))

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


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
    expected: Annotated[int, Field(ge=0)] = 0
    after: int | None = None
    at: int
    who: Text
    why: Text
    watermark: int | None = None
    spec: MemberSpec | None = None
    members: list[MemberSpec] = []
    override: bool = False
    declared: bool = False
    token: int | None = None
    deployment: str = ""
    suite_precision: Annotated[float, Field(ge=0, le=1)] | None = None
    replaces: str | None = None
    by: str | None = None
    evidence: dict[str, Any] | None = None
    revision: int | None = None
    positions: dict[int, int] = {}
    until: dict[int, int] = {}
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
    """JSON, without what says nothing."""
    document = event.model_dump(mode="json", exclude_defaults=True)
    document |= {"version": event.version, "id": event.id, "kind": event.kind}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def decode_event(value: bytes | None) -> Event:
    """The reverse. Raises BadRecord."""
    if not value:
        raise BadRecord("empty", "the record has no value")
    try:
        return Event.model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRecord("bad_event", f"{where + ': ' if where else ''}{first['msg']}") from None
