"""docs/records.md: its examples are what the product reads and writes."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams import votes as votes_codec
from streams.dead_letters import dead_letter
from streams.labels import POSITIVE, WITHDRAWN, decode_labels
from streams.records import DeadLetter, Decision, Votes
from streams.requests import RequestDecoder
from streams.settings import Kafka, Limits
from streams.suite import load_suite
from streams.topics import topic_specs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
SUITE = load_suite(ROOT / "deploy" / "suite" / "suite.toml")


@dataclass(frozen=True)
class Record:
    """What aiokafka would hand out."""

    value: bytes
    topic: str = "storms.requests"
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_772_582_400_000
    key: bytes | None = None


def examples(info: str) -> list[str]:
    """The bodies of the fenced blocks with this info string."""
    return re.findall(rf"^```{re.escape(info)}\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)


def fields(section: str) -> set[str]:
    """The fields that the table of a section names."""
    body = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|(?: [\d, ]+ \|)? (`[^|]*`) \|", body, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def names(kind: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_requests_decode() -> None:
    """Both examples are usable, and their values arrive where the page says."""
    decoded = RequestDecoder(SUITE, Limits()).decode(
        [Record(text.encode(), offset=i) for i, text in enumerate(examples("json request"))]
    )
    assert not decoded.bad
    assert decoded.ids == ["r-101", "r-104"]
    assert decoded.times.tolist() == [1772366461000, 1772366604000]
    assert [decoded.segments[i] for i in decoded.segment] == [("north",), ("south",)]
    assert decoded.batch["rain"].tolist() == [3.0, 31.0]
    assert decoded.batch.missing("wind").tolist() == [False, True]
    assert decoded.batch.embeddings["text"][1].tolist() == [0.25, -1.5, 0.0]


def test_labels_decode() -> None:
    """Both examples are usable: one says true, the other withdraws it."""
    good, bad = decode_labels([Record(text.encode()) for text in examples("json label")], Limits())
    assert not bad
    first, second = (label for _, label in good)
    assert (first.label, first.requested_at) == (POSITIVE, 1772366461000)
    assert (second.label, second.source, second.revision) == (WITHDRAWN, "appeals", 1)


def test_the_decision_is_the_one_that_the_votes_record_stands_for() -> None:
    """A decision holds exactly these fields, and agrees with the votes of the same request."""
    (text,) = examples("json decision")
    assert set(json.loads(text)) == names(Decision)
    decision = msgspec.json.decode(text, type=Decision, strict=True)
    (hexadecimal,) = examples("hex votes")
    votes = votes_codec.decode(bytes.fromhex(hexadecimal))
    at = votes.ids.index(decision.request_id)
    assert votes.start + votes.hits[at] == decision.offset
    assert votes.times[at] == decision.time
    assert votes_codec.hit_members(votes)[at] == ["*", *decision.fired]


def test_the_decision_that_is_held_out_is_one() -> None:
    """It has every field; members fired, the judgement is False, and the chance is that of its suite."""
    (text,) = examples("json decision held")
    assert set(json.loads(text)) == names(Decision)
    decision = msgspec.json.decode(text, type=Decision, strict=True)
    assert decision.fired
    assert (decision.judgement, decision.held_out) == (False, True)
    assert 0 < decision.probability < 1


def test_the_two_forms_of_the_votes_record_are_one() -> None:
    """The bytes decode, pass the product's checks, and hold what the readable form says."""
    (hexadecimal,), (readable,) = examples("hex votes"), examples("json votes")
    value = bytes.fromhex(hexadecimal)
    votes = votes_codec.decode(value)
    assert votes_codec.encode(votes) == value
    plain = [
        each.hex() if isinstance(each, bytes) else each for each in msgspec.msgpack.decode(value, type=list)
    ]
    assert plain == json.loads(readable)
    assert votes_codec.hit_members(votes) == [["*", "gale@1"], ["*", "downpour@1"]]


def test_the_tables_name_every_field_of_votes_in_order() -> None:
    """Votes is an array: its fields stand in the table in the order of the struct."""
    body = PAGE.split("## Votes\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d[\d, ]*) \| (`[^|]*`) \|", body, re.MULTILINE)
    numbers = [int(n) for row, _ in rows for n in row.split(",")]
    order = [name for _, row in rows for name in re.findall(r"`(\w+)`", row)]
    assert order == [field.name for field in msgspec.structs.fields(Votes)]
    assert numbers == list(range(len(order)))


def test_the_tables_name_every_field_of_requests_and_labels() -> None:
    """No field of a record that others produce is left out."""
    assert fields("Request") == {"request_id", "timestamp", "features", "segments", "embeddings"}
    assert fields("Label") == {
        "request_id", "label", "labelled_at", "source", "revision", "requested_at",
    }  # fmt: skip


def test_the_dead_letter_is_what_a_host_would_write() -> None:
    """The example is the letter that its own raw record leads to, byte for byte of its content."""
    (text,) = examples("json dead-letter")
    assert set(json.loads(text)) == names(DeadLetter)
    letter = msgspec.json.decode(text, type=DeadLetter, strict=True)
    assert letter.value is not None
    assert letter.key is not None
    origin = letter.origin
    record = Record(
        b64decode(letter.value), origin.topic, origin.partition, origin.offset,
        origin.timestamp or 0, b64decode(letter.key),
    )  # fmt: skip
    ((_, error),) = RequestDecoder(SUITE, Limits()).decode([record]).bad
    key, value = dead_letter(record, error, letter.by)
    assert key == b"storms.requests/0/102"
    assert json.loads(value) == json.loads(text)


@pytest.mark.parametrize("reason", ["malformed", "missing_field", "wrong_type", "bad_time", "future_dated"])
def test_bad_requests_are_bad_for_the_reason_given(reason: str) -> None:
    """Each bad example of a request goes to dead letters, with the reason in its heading."""
    (text,) = examples(f"json request bad={reason}")
    ((_, error),) = RequestDecoder(SUITE, Limits()).decode([Record(text.encode())]).bad
    assert error.reason == reason


def test_bad_labels_are_bad_for_the_reason_given() -> None:
    """The bad example of a label goes to dead letters, with the reason in its heading."""
    (text,) = examples("json label bad=wrong_type")
    _, ((_, error),) = decode_labels([Record(text.encode())], Limits())
    assert error.reason == "wrong_type"


def test_every_reason_is_explained() -> None:
    """The table of reasons has those that the code gives, and no others."""
    given: set[str] = set()
    for package in ("streams", "members", "evaluator"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for call in re.findall(r"BadRecord\(\s*([^,]*),", text):
                given |= set(re.findall(r'"(\w+)"', call))
            given |= set(re.findall(r'reason = "(\w+)" if', text))
            given |= set(re.findall(r'reason = "\w+" if .* else "(\w+)"', text))
    body = PAGE.split("## DeadLetter\n")[1]
    assert set(re.findall(r"^\| `(\w+)` \| ", body, re.MULTILINE)) == given


def test_every_topic_is_in_the_table() -> None:
    """Name, partitions and retention of each topic are those with which it is made."""
    body = PAGE.split("## Topics\n")[1].split("\n## ")[0]
    table: dict[str, list[str]] = {}
    for row in re.findall(r"^\| (`.*) \|$", body, re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        for name in re.findall(r"`([\w-]+)`", cells[0]):
            table[name] = cells
    kafka, day = Kafka(partitions=3), 86_400_000
    kept: dict[str, Any] = {
        "retention + 7 days": str(SUITE.retention_ms + 7 * day),
        "retention, 30 days at least": str(max(SUITE.retention_ms, 30 * day)),
        "for ever": "-1",
    }
    specs = {spec.name.removeprefix("storms."): spec for spec in topic_specs(SUITE, kafka)}
    assert set(table) == set(specs)
    for name, spec in specs.items():
        assert kept[table[name][5]] == spec.config["retention.ms"], name
        assert (table[name][4] == "1") == (spec.partitions == 1), name
