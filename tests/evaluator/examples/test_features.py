"""What is kept of one request, and in which features two groups differ."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.examples.contrast import telling
from evaluator.examples.features import GONE, MOST, fit, keep, unpack
from streams.settings import load_settings


def test_features_and_segments_are_kept_and_nothing_else():
    """Embeddings and unknown keys stay behind; a segment may stand beside the features."""
    request = {
        "request_id": "r1", "timestamp": 5, "features": {"x": 1.5, "t": None}, "segments": {"s": "north"},
        "region": "süd", "embeddings": {"e": [1.0]}, "card": "4111",
    }  # fmt: skip
    found = unpack(keep(json.dumps(request).encode(), "r1", ["region"], ()))
    assert found == {
        "features": {"x": 1.5, "t": None},
        "segments": {"region": "süd", "s": "north"},
        "cut": [],
    }


def test_what_is_omitted_is_nowhere():
    """Neither among the features nor among the segments."""
    request = {"request_id": "r", "features": {"ssn": "1", "x": 2}, "segments": {"ssn": "1"}, "ssn": "1"}
    body = keep(json.dumps(request).encode(), "r", ["ssn"], {"ssn"})
    assert b"ssn" not in body
    assert unpack(body)["features"] == {"x": 2}


@pytest.mark.parametrize("value", [None, b"", b"{", b"[1]", b'{"request_id": "other", "features": {}}'])
def test_another_record_at_that_place_is_no_example(value):
    """The request is gone then."""
    assert keep(value, "r", [], ()) == GONE


_VALUES = st.one_of(st.integers(-9, 9), st.text("aé\n", max_size=900), st.lists(st.just(0.5), max_size=400))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("xy", max_size=20), _VALUES, max_size=30), st.integers(2, 6000))
def test_size_is_bounded_and_what_is_cut_is_named(values, most):
    """Whatever comes in: at most so many bytes, and every value that is not whole is named."""
    out, cut = fit(values, most)
    assert len(msgspec.json.encode(out)) <= most
    assert {name for name in values if name not in out or out[name] != values[name]} == set(cut)


def test_the_largest_is_cut_first():
    """A long text is shortened, a long list left out; the small ones stay."""
    out, cut = fit({"x": 1, "text": "a" * 50_000, "list": [0.5] * 20_000, "y": True})
    assert (out["x"], out["y"], out["text"]) == (1, True, "a" * 200)
    assert sorted(cut) == ["list", "text"]
    assert len(json.dumps(out)) < MOST


def test_features_that_tell_the_groups_apart_come_first():
    """Numbers by distribution, categories by shares, ids not at all; otherwise in the declared order."""
    ours = [{"a": i % 7, "b": "n", "c": float(i % 3)} for i in range(30)]
    others = [{"a": i % 7, "b": "ns"[i % 2], "c": float(i % 3) + 3} for i in range(30)]
    assert telling(ours, others, ["a", "b", "c"]) == ["c", "b", "a"]
    named = [{**row, "id": f"{side}{i}"} for side in "xy" for i, row in enumerate(ours)]
    assert telling(named[:30], named[30:], ["a", "id"])[:2] == ["a", "id"]  # distinct everywhere: no news
    assert telling(ours, [], ["b", "c"]) == ["b", "c", "a"]
    assert telling([{"only": 1}], others, ["a"]) == ["only"]


def test_names_to_omit_come_from_a_variable_or_a_list(monkeypatch, tmp_path):
    """With commas between them in the environment, as a list or a text in a file."""
    monkeypatch.setenv("CHORUS_EXAMPLES__OMIT", "card, name,")
    assert load_settings().examples.omitted == {"card", "name"}
    monkeypatch.delenv("CHORUS_EXAMPLES__OMIT")
    assert load_settings().examples.omitted == frozenset()
    monkeypatch.setenv("CHORUS_CONFIG", str(tmp_path / "c.toml"))
    for text in ('omit = ["card", "name"]', 'omit = "card,name"'):
        (tmp_path / "c.toml").write_text(f"[examples]\n{text}\n")
        assert load_settings().examples.omitted == {"card", "name"}
