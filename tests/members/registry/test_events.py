"""Events as records: what is one, what is not, and what a reader makes of those of another version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from members.registry.events import Event, decode_event, encode_event
from members.registry.lifecycle import Registry, fold
from streams.errors import BadRecord
from streams.suite import MemberSpec
from tests.members.registry.test_lifecycle import Story, spec

YEAR_10000 = 253_402_300_800_000
LEAST = {"name": "b", "version": "1", "owner": "ana", "loader": "m:C"}
#: What a spec of before specs were written in full says by saying nothing.
THEN = {
    "stage": "shadow", "replaces": None, "team": None, "contact": None, "description": None, "params": {},
    "threshold": None, "data_version": None, "tags": [], "budget_ms": 50.0, "trained_through": None,
    "isolate": False,
}  # fmt: skip
TEXT = st.text("a1@.é", max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def record(**more: Any) -> bytes:
    return json.dumps({"kind": "retired", "member": "b@1", "at": 1, "who": "x", "why": "y", **more}).encode()


@pytest.mark.parametrize(
    "field",
    [
        {"watermark": 99999999999999999999}, {"watermark": YEAR_10000}, {"watermark": -1},
        {"at": YEAR_10000}, {"at": -1}, {"token": 2**53}, {"token": -1}, {"after": 2**53}, {"after": -1},
        {"expected": 2**53}, {"revision": 2**53}, {"positions": {"0": 2**53}}, {"positions": {"-1": 0}},
        {"positions": {str(2**31): 0}}, {"until": {"0": -1}}, {"evidence": {"labels_through": YEAR_10000}},
        {"evidence": {"labels_through": "now"}}, {"evidence": {"place": 0.5}}, {"evidence": {"gain": "much"}},
        {"evidence": {"gain": float("inf")}}, {"evidence": {"revision": -1}},
    ],
)  # fmt: skip
def test_numbers_that_nobody_could_go_by_are_no_event(field):
    """Instants lie in the years 1970 to 9999, all else fits 53 bits; the sentence names the field."""
    (name,) = field
    with pytest.raises(BadRecord, match=name) as told:
        decode_event(record(**field))
    assert told.value.reason == "bad_event"


def test_the_last_numbers_that_are_taken():
    """At the bounds an event is one, and comes back as it was."""
    most = {"watermark": YEAR_10000 - 1, "at": 0, "token": 2**53 - 1, "positions": {"0": 2**53 - 1}}
    event = decode_event(record(**most))
    assert (event.watermark, event.token) == (YEAR_10000 - 1, 2**53 - 1)
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"{", "it is no JSON object"),
        (b"\xff", "it is no JSON object"),
        (b"[1]", "it is no JSON object"),
        (record(why=None), "why is not what it should be"),
        (record(why="x" * 4001), "why is not what it should be"),
        (b'{"kind": "retired", "at": 1, "who": "x"}', "why is missing"),
        (record(spec={**LEAST, "budget_ms": -1}), "spec.budget_ms is not what it should be"),
        (record(spec={"name": "b"}), "spec.version is missing"),
        (record(members=[LEAST, 7]), "members.1 is not what it should be"),
    ],
)
def test_what_is_no_event_is_told_in_one_short_sentence(value, sentence):
    """Without a word of the library that found it."""
    with pytest.raises(BadRecord) as told:
        decode_event(value)
    assert (told.value.reason, told.value.detail) == ("bad_event", sentence)


@pytest.mark.parametrize(
    "value", [record(version=2), record(kind="cloned"), b'{"version": 7}', record(version=2, at="long ago")]
)
def test_what_a_newer_version_wrote_says_what_to_do(value):
    """An unknown kind, or a higher version of events, whatever else is in it."""
    with pytest.raises(BadRecord) as told:
        decode_event(value)
    assert (told.value.reason, told.value.detail) == (
        "newer_event",
        "written by a newer Chorus: upgrade this one",
    )


@given(st.dictionaries(st.sampled_from([*Event.model_fields]), JSON), st.booleans())
def test_any_record_is_an_event_or_a_bad_record(fields, legal):
    """Nothing else comes of it; and an event can be written and read again, as a fold can take it."""
    try:
        event = decode_event(record(**fields) if legal else json.dumps(fields).encode())
    except BadRecord:
        return
    assert decode_event(encode_event(event)) == event
    fold(Registry(), 0, event)


def test_a_member_of_a_newer_version_is_registered_and_stays_in_step():
    """A spec with a key that is not known here counts, and so do the later events of the member."""
    newer = {**LEAST, "warm_up": "1m"}
    founded = {"kind": "founded", "members": [{**newer, "name": "a", "stage": "live"}], "member": ""}
    added = {"kind": "added", "spec": newer, "expected": 1}
    later = {"kind": "retired", "expected": 1, "after": 1}
    registry = Registry()
    for offset, fields in enumerate([founded, added, later]):
        registry, ignored = fold(registry, offset, decode_event(record(**fields)))
        assert ignored is None
    assert {name: entry.state for name, entry in registry.entries.items()} == {
        "a@1": "live",
        "b@1": "retired",
    }
    view = json.loads(registry.model_dump_json())
    view["entries"]["b@1"]["spec"]["warm_up"] = "1m"  # as a newer evaluator puts it into Redis
    assert Registry.model_validate(view) == registry


def test_a_spec_is_written_in_full():
    """No later default can change what it means; the old form still says what it always said."""
    story = Story(["a@1"], [])
    event = Event(kind="added", member="b@1", at=1, who="x", why="y", spec=MemberSpec(**LEAST))
    written = json.loads(encode_event(event))["spec"]
    assert written == {**LEAST, **THEN}
    assert set(written) == set(MemberSpec.model_fields)
    old = record(kind="added", spec=LEAST, expected=1)
    assert decode_event(old).spec.model_dump() == {**LEAST, **THEN}
    assert story.offer(decode_event(old)) is None
    founded = Event(kind="founded", at=1, who="x", why="y", members=[spec("a@1", "live"), spec("b@1")])
    written = json.loads(encode_event(founded))["members"]
    assert [set(each) for each in written] == [set(MemberSpec.model_fields)] * 2
    assert decode_event(encode_event(founded)) == founded


def test_the_old_form_keeps_its_meaning_when_a_default_changes(monkeypatch):
    """It is that of the time at which it was written."""
    monkeypatch.setattr(MemberSpec.model_fields["budget_ms"], "default", 5.0)
    MemberSpec.model_rebuild(force=True)
    try:
        assert decode_event(record(kind="added", spec=LEAST)).spec.budget_ms == 50.0
    finally:
        monkeypatch.undo()
        MemberSpec.model_rebuild(force=True)


def test_a_suite_of_many_members_is_founded_by_a_record_of_moderate_size():
    """A full spec is a few hundred bytes: far from what a broker refuses (1 MB)."""
    event = Event(kind="founded", at=1, who="x", why="y", members=[spec(f"m{n}@1") for n in range(64)])
    assert len(encode_event(event)) < 64 * 400


@pytest.mark.parametrize(
    "kind",
    ["recommended", "queued", "reranked", "deploying", "swapped", "promoted", "superseded", "noticed"],
)
def test_what_is_for_evaluators_needs_a_token(kind):
    """Whoever writes it without one changes nothing, and the history says why."""
    story = Story(["a@1"], ["b@1"])
    before = story.registry
    told = story.tell(kind, "b@1", token=None, watermark=YEAR_10000 - 1)
    assert told == f"{kind} is for the evaluator that holds the deployment slot: it shows a token"
    assert story.registry == before.model_copy(update={"applied": story.offset})


def test_people_need_no_token():
    """Whatever a command writes counts without one."""
    story = Story(["a@1"], ["b@1"])
    kinds = ("added", "described", "approved", "aborted", "retired", "back_to_shadow")
    for kind, member in zip(kinds, ["c@1", *["b@1"] * 5], strict=True):
        assert story.tell(kind, member, override=True) is None
    story.deploy("b@1")
    assert story.tell("rolled_back", "b@1") is None


# -- marks


def test_what_fell_back_without_knowing_event_time_has_it_from_the_next_notice():
    """The member's, and that of the roll-back; what knew it keeps it, unless it is later than there is."""
    story = Story(["a@1"], ["b@1", "c@1", "d@1"])
    story.deploy("b@1")
    assert story.tell("rolled_back", "b@1") is None
    for member, mark in (("c@1", 40), ("d@1", 90)):
        assert story.tell("recommended", member, watermark=mark, evidence={"labels_through": mark}) is None
    assert story.tell("aborted", "c@1", watermark=45) is None
    entries, positions = story.registry.entries, [e.position for e in story.registry.entries.values()]
    assert (entries["b@1"].fell_back, entries["b@1"].untimed, story.registry.untimed) == (None, True, True)
    assert story.tell("noticed", "", watermark=60, evidence={"labels_through": 50}) is None
    entries = story.registry.entries
    assert [entries[name].fell_back for name in ("b@1", "c@1", "d@1")] == [60, 45, None]
    assert [entries[name].watermark for name in ("c@1", "d@1")] == [45, 60]
    assert entries["d@1"].labels_through == 50
    assert (story.registry.rolled_back, story.registry.untimed, entries["b@1"].untimed) == (60, False, False)
    assert [entry.position for entry in entries.values()] == positions
    assert story.tell("noticed", "", watermark=30) is None
    assert story.registry.entries["d@1"].labels_through is None
    assert story.registry.rolled_back == 30


def test_a_notice_that_says_no_time_or_comes_before_the_suite_is_ignored():
    """And leaves the token as it was."""
    story = Story(["a@1"], [])
    assert story.tell("noticed", "", token=7) is not None
    assert story.registry.token == 0
    early = Event(kind="noticed", at=1, who="x", why="y", token=7, watermark=5)
    assert fold(Registry(), 0, early)[0] == Registry(applied=1)
