"""Event time that is not known, or is wrong, and clocks that are set: promotion goes on."""

from __future__ import annotations

import pytest

from evaluator.promotion.steps import READY_WITHIN
from streams.suite import DAY
from tests.evaluator.promotion.tale import HOUR, T0, verdict
from tests.evaluator.promotion.test_steps import approved, tale


@pytest.mark.parametrize("kind", ["rolled_back", "back_to_shadow", "aborted"])
def test_what_a_person_takes_out_rests_for_the_cooldown_whoever_leads(kind):
    """Each day another evaluator leads, which knows what stands in the registry and nothing else."""
    story = tale(mode="auto")
    if kind == "aborted":
        assert story.person("recommended", "c@1") is None
    else:
        story.deploy("c@1")
    story.later(30 * DAY)
    assert story.person(kind, "c@1", watermark=None) is None
    story.verdicts = {"c@1": verdict(), "d@1": verdict()}
    days = []
    for _ in range(3):
        days.append(story.settle())
        story.later(DAY // 2)
    assert days[0][:2] == ["noticed", "d@1 recommended"]
    assert days[1] == []
    assert "c@1 recommended" in days[2]
    assert "noticed" not in days[2]
    assert "d@1 deploying" in days[2 if kind == "rolled_back" else 0]


@pytest.mark.parametrize("kind", ["recommended", "approved"])
def test_a_mark_that_lies_too_far_ahead_is_put_right_when_the_logs_are_read(kind):
    """Until then nobody is judged by evidence; from then on everybody, and as of the present."""
    story = tale(mode="auto")
    far = T0 + 20_000 * DAY
    assert story.person(kind, "c@1", watermark=far, override=True) is None
    story.verdicts = {"c@1": verdict(), "d@1": verdict()}
    assert story.settle() == []
    story.complete = True
    assert {"noticed", "c@1 deploying", "d@1 recommended"} <= {*story.settle(), *story.settle()}
    story = tale(mode="auto")
    assert story.person("recommended", "c@1", watermark=far) is None
    assert story.person("aborted", "c@1", watermark=far) is None
    story.verdicts = {"c@1": verdict()}
    assert story.settle() == []
    story.complete = True
    assert story.settle() == ["noticed"]
    story.complete = False
    story.later(DAY - 1)
    assert story.settle() == []
    story.later(1)
    assert story.settle() == ["c@1 recommended"]


def test_one_whose_labels_were_lost_does_not_stop_the_guardrails_of_another():
    """Nor, when the logs have been read, anything else."""
    story = tale()
    story.bake("c@1")
    story.verdicts = {"d@1": verdict()}
    assert story.settle() == ["d@1 recommended"]
    assert story.person("approved", "d@1") is None
    assert story.labels is not None
    story.labels -= DAY
    assert story.settle() == []
    story.breach = "it hurts"
    assert story.settle() == ["c@1 rolled_back"]
    story.breach = None
    assert story.settle() == []
    story.complete = True
    assert story.settle() == ["noticed", "d@1 queued"]
    story.complete = False
    story.later(DAY)
    assert story.settle() == ["d@1 deploying"]


def test_what_goes_wrong_while_the_evidence_is_behind_has_no_event_time():
    """It would be taken for the present: the cooldown begins when the evidence has caught up."""
    story = tale(mode="auto")
    story.bake("c@1")
    mark, story.breach = story.watermark, "it hurts"
    assert mark is not None
    story.watermark = mark - 1
    assert story.settle() == ["c@1 rolled_back"]
    assert story.last.watermark is None
    story.watermark, story.breach, story.verdicts = mark + 9 * DAY, None, {"c@1": verdict(), "d@1": verdict()}
    assert story.settle() == ["noticed", "d@1 recommended", "d@1 approved", "d@1 queued"]
    assert story.registry.rolled_back == mark + 9 * DAY


@pytest.mark.parametrize("stepped", [-HOUR, -1, 121_000, HOUR])
def test_clocks_that_are_set_end_no_deployment_and_keep_none(stepped):
    """How long hosts have been silent is measured by the leader alone, by a clock that only goes forward."""
    for member_is_in in (False, True):
        story = approved("c@1")
        assert story.settle()[-1] == "c@1 deploying"
        if member_is_in:
            assert story.host("ready", "c@1") is None
            assert story.settle() == ["c@1 swapped"]
        story.now += stepped
        assert story.settle() == []
        story.wait(READY_WITHIN + 1)
        assert story.settle() == ["c@1 rolled_back" if member_is_in else "c@1 aborted"]
