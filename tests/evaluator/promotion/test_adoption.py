"""The floor that the first deployment leaves: when it is noted, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluator.judgement import judge_suite
from streams.suite import DAY
from tests.evaluator.promotion.tale import Tale, verdict
from tests.evaluator.test_judgement import moment, stream, suite

#: Each a little less precise than the one before, and with so many requests that the OR becomes like it.
CHAIN = {"a@1": (100, 0.80), "c@1": (500, 0.77), "d@1": (2500, 0.74), "e@1": (12500, 0.71)}
DAYS = 400


@pytest.fixture(scope="module")
def year():
    """What the members of CHAIN flagged, each requests of its own."""
    return stream(list(CHAIN), DAYS, {(name,): flags for name, flags in CHAIN.items()})


def adopt(year, **policy):
    """The registry after every promotion that the evidence makes, and the last verdicts."""
    declared = suite({name: "live" if name == "a@1" else "shadow" for name in CHAIN}, **policy)
    story = Tale(["a@1"], list(CHAIN)[1:], mode="auto")
    while True:
        present = story.registry.suite(declared)
        now = replace(moment(DAYS), revision=story.registry.revision)
        story.verdicts = {name: v.document() for name, v in judge_suite(year, present, now).items()}
        story.settle()
        if story.registry.deployment is None:
            return story.registry, story.verdicts
        assert story.host("ready", story.registry.deployment.member) is None
        assert story.settle()[-1].endswith("swapped")
        story.serve()
        story.later(story.policy.bake)


def test_a_chain_of_promotions_each_a_little_worse_stops_at_the_first_precision(year):
    """With `floor = 0` it goes down step by step; by default nothing gets far below the first precision."""
    down, _ = adopt(year, floor=0.0)
    assert list(down.live) == list(CHAIN)
    kept, verdicts = adopt(year)
    assert list(kept.live) == ["a@1", "c@1"]
    for name in ("d@1", "e@1"):
        assert verdicts[name]["state"] == "HOLD"
        assert "below_the_floor" in verdicts[name]["reasons"]
    assert kept.adopted == down.adopted == pytest.approx(0.8, abs=0.01)


def test_what_is_declared_wins_over_what_was_adopted(year):
    """A floor below the precision at adoption lets the next one in; one above it lets nobody in."""
    assert list(adopt(year, floor=0.77)[0].live) == ["a@1", "c@1", "d@1"]
    strict, verdicts = adopt(year, floor=0.85)
    assert (list(strict.live), strict.adopted) == (["a@1"], None)
    assert "below_the_floor" in verdicts["c@1"]["reasons"]


def test_a_deployment_notes_the_number_that_its_verdict_has_of_the_suite():
    """The same as the evidence of the recommendation says; it becomes the floor when the member goes in."""
    story = Tale(["a@1"], ["c@1"], mode="auto")
    story.verdicts = {"c@1": verdict(unique_precision=0.8, reference_precision=0.63)}
    assert story.settle() == [f"c@1 {kind}" for kind in ("recommended", "approved", "queued", "deploying")]
    evidence = next(event.evidence for event in story.told if event.kind == "recommended")
    assert story.last.suite_precision == evidence["verdict"]["reference_precision"] == 0.63
    assert story.registry.adopted is None
    assert story.host("ready", "c@1") is None
    story.verdicts = {}  # whoever writes the swap need not know it
    assert story.settle() == ["c@1 swapped"]
    assert story.registry.adopted == 0.63
    assert story.person("rolled_back", "c@1") is None
    assert story.registry.adopted == 0.63


@pytest.mark.parametrize(
    ("known", "noted"),
    [
        ({"span": 7 * DAY, "reference_labels": 100}, 0.6),
        ({"span": 7 * DAY, "reference_labels": 99}, None),
        ({"span": 6 * DAY, "reference_labels": 5000}, None),
        ({"span": 7 * DAY, "reference_labels": 100, "reference_precision": None}, None),
        (None, None),
    ],
)
def test_a_deployment_without_evidence_notes_it_where_it_is_known_well(known, noted):
    """What rests on a few labels, or on a few days, would be a floor for good; the next one notes it then."""
    story = Tale(["a@1"], ["c@1", "d@1"])
    story.verdicts = (
        {} if known is None else {"c@1": verdict("HOLD", **{"reference_precision": 0.6, **known})}
    )
    story.deploy("c@1")
    assert story.registry.adopted == noted
    story.verdicts = {"d@1": verdict(reference_precision=0.5)}
    story.deploy("d@1")
    assert story.registry.adopted == (0.5 if noted is None else noted)


def test_a_verdict_says_over_how_long_and_how_many_labels_it_compares(year):
    """Of a candidate: the OR's labels since it began; of a live member: those of the rest."""
    members = {"a@1": "live", "c@1": "live", "d@1": "shadow", "e@1": "shadow"}
    found = judge_suite(year, suite(members), moment(30))
    assert {name: (v.span, v.reference_labels) for name, v in found.items()} == {
        "a@1": (30 * DAY, 30 * 500), "c@1": (30 * DAY, 30 * 100),
        "d@1": (30 * DAY, 30 * 600), "e@1": (30 * DAY, 30 * 600),
    }  # fmt: skip


def test_a_suite_that_became_empty_goes_by_what_it_had(year):
    """Nobody is live any more: the floor at adoption decides, where without one nothing could be promoted."""
    empty = suite(dict.fromkeys(CHAIN, "shadow"))
    assert judge_suite(year, empty, moment(DAYS))["a@1"].reasons == ("empty_suite_needs_a_floor",)
    story = Tale([], list(CHAIN))
    had = story.registry.model_copy(update={"adopted": 0.78})
    found = judge_suite(year, had.suite(empty), moment(DAYS))
    assert (found["a@1"].state, found["e@1"].state) == ("PROMOTE", "HOLD")
