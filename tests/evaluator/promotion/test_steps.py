"""Each rule of what is done next, from a registry and evidence that are made up."""

from __future__ import annotations

import pytest

from evaluator.promotion.steps import READY_WITHIN
from members.registry.events import LONGEST
from members.registry.lifecycle import draft
from streams.suite import DAY
from tests.evaluator.promotion.tale import HOUR, T0, Tale, verdict


def tale(**policy):
    """One live member; c@1 and d@1 are candidates."""
    return Tale(["a@1"], ["c@1", "d@1"], **policy)


def approved(*names, gains=None, **policy):
    """Recommended by the evidence and approved by a person, before the queue is looked at."""
    story = tale(**policy)
    story.verdicts = {name: verdict() for name in names}
    story.gains = gains or {}
    assert story.settle() == [f"{name} recommended" for name in names]
    for name in names:
        assert story.person("approved", name) is None
    return story


# -- recommending and approving


@pytest.mark.parametrize("state", ["HOLD", "REJECT", "INCONCLUSIVE", "OK", "FLAG"])
@pytest.mark.parametrize("mode", ["advise", "auto"])
def test_only_the_verdict_promote_recommends(state, mode):
    """Any other verdict, or none, leaves a candidate in shadow."""
    story = tale(mode=mode)
    story.verdicts = {"c@1": verdict(state)}
    assert story.settle() == []


def test_advise_waits_for_a_person_and_auto_goes_on():
    """In `advise` nothing follows the recommendation; in `auto` it is approved, queued and deployed."""
    story = tale()
    story.verdicts = {"c@1": verdict(unique_precision=0.9, reference_precision=0.6, e_value=40.0)}
    assert story.settle() == ["c@1 recommended"]
    assert story.last.why == (
        "its unique precision is 0.900, where the suite's precision is 0.600 (e-value 40)"
    )
    story = tale(mode="auto")
    story.verdicts = {"c@1": verdict()}
    assert story.settle() == [f"c@1 {kind}" for kind in ("recommended", "approved", "queued", "deploying")]


def test_who_fell_back_is_not_recommended_again_within_the_cooldown():
    """Event time counts, from the instant at which it fell back."""
    story = tale()
    story.verdicts = {"c@1": verdict()}
    story.settle()
    assert story.person("aborted", "c@1") is None
    story.later(DAY - 1)
    assert story.settle() == []
    story.later(1)
    assert story.settle() == ["c@1 recommended"]


def test_that_nothing_is_known_speaks_against_nobody():
    """A suite whose new member has no past: who was recommended stays so until something is known."""
    story = tale()
    story.verdicts = {"c@1": verdict()}
    assert story.settle() == ["c@1 recommended"]
    for state, reason in (("INCONCLUSIVE", "no_common_coverage"), ("HOLD", "no_evidence_yet")):
        story.verdicts = {"c@1": verdict(state, reasons=(reason,))}
        assert story.settle() == []
    story.verdicts = {"c@1": verdict("HOLD", reasons=("needs_labels",))}
    assert story.settle() == ["c@1 superseded"]


def test_an_approval_by_somebody_who_may_not_is_undone():
    """policy.approvers names who may; the reason is told."""
    story = approved("c@1", approvers=["eva"])
    assert story.settle() == ["c@1 aborted"]
    assert story.last.why == "ben may not approve: policy.approvers names eva"
    story = tale(approvers=["eva"])
    assert story.person("approved", "c@1", who="eva", override=True) is None
    assert story.settle() == ["c@1 queued", "c@1 deploying"]


def test_auto_does_not_approve_what_a_person_has_declined():
    """Not after the cooldown, not after its evidence came and went, not after an approval by anybody."""
    story = tale(mode="auto", approvers=["eva"])
    story.verdicts = {"c@1": verdict()}
    event = story.step()
    assert event is not None
    assert story.offer(event) is None
    assert story.person("aborted", "c@1") is None
    story.later(DAY)
    assert story.settle() == ["c@1 recommended"]
    story.verdicts = {"c@1": verdict("HOLD", "needs_labels")}
    assert story.settle() == ["c@1 superseded"]
    story.later(DAY)
    story.verdicts = {"c@1": verdict()}
    assert story.settle() == ["c@1 recommended"]
    assert story.person("approved", "c@1", who="ben") is None
    assert story.settle() == ["c@1 aborted"]
    story.later(DAY)
    assert story.settle() == ["c@1 recommended"]
    assert story.person("approved", "c@1", who="eva") is None
    assert story.settle() == ["c@1 queued", "c@1 deploying"]


@pytest.mark.parametrize("kind", ["rolled_back", "back_to_shadow"])
def test_auto_does_not_approve_what_a_person_took_out_of_the_or(kind):
    """A live member that a person sent back waits for a person, whatever its verdict is."""
    story = tale(mode="auto")
    story.deploy("c@1")
    assert story.person(kind, "c@1") is None
    story.verdicts = {"c@1": verdict()}
    story.later(2 * DAY)
    assert story.settle() == ["c@1 recommended"]
    story.later(9 * DAY)
    assert story.settle() == []


# -- those who wait


def test_who_is_redundant_is_told_beside_whom():
    """In each state of waiting."""
    for kinds in (["recommended"], ["recommended", "approved"], ["recommended", "approved", "queued"]):
        story = tale()
        for kind in kinds:
            assert story.person(kind, "c@1") is None
        story.verdicts = {"c@1": verdict("REJECT", "redundant", twin="a@1")}
        assert story.settle() == ["c@1 superseded"]
        assert "it is redundant beside a@1" in story.last.why
        assert (story.last.by, story.states()["c@1"]) == ("a@1", "shadow")


def test_an_approval_outlives_evidence_that_is_not_enough_yet_and_a_recommendation_does_not():
    """HOLD against a better suite supersedes who is only recommended; who is queued waits."""
    story = approved("c@1", "d@1")
    story.verdicts["c@1"] = verdict("HOLD", "needs_labels")
    assert story.settle() == ["c@1 queued", "d@1 queued", "d@1 deploying"]
    story.later(90 * DAY)
    assert story.settle() == []
    assert story.states()["c@1"] == "queued"
    story = tale()
    story.verdicts = {"c@1": verdict()}
    story.settle()
    story.verdicts = {"c@1": verdict("HOLD", "needs_labels")}
    assert story.settle() == ["c@1 superseded"]
    assert "its verdict is HOLD (needs labels)" in story.last.why


def test_an_override_needs_no_evidence_and_is_none():
    """It is queued and deployed beside a verdict against it; back in shadow it has to earn its way again."""
    story = tale()
    story.verdicts = {"c@1": verdict("REJECT", "worse_than_the_suite")}
    assert story.person("approved", "c@1") is not None
    assert story.person("approved", "c@1", override=True) is None
    assert story.settle() == ["c@1 queued", "c@1 deploying"]
    assert story.host("refused", "c@1", "no such file") is None
    assert story.settle() == ["c@1 aborted"]
    story.later(9 * DAY)
    assert story.settle() == []


def test_without_any_label_a_person_can_still_promote():
    """And the member bakes to the end: guardrails on errors and rates need no label."""
    story = tale()
    story.labels = None
    story.bake("c@1")
    assert story.watermark is not None
    story.watermark += HOUR
    assert story.settle() == ["c@1 promoted"]


def test_the_queue_goes_by_gain_and_those_of_unknown_gain_come_last():
    """The places are told when they are queued; the one with the most to add is deployed."""
    story = approved("c@1", "d@1", gains={"c@1": None, "d@1": 0.5})
    assert story.settle() == ["c@1 queued", "d@1 queued", "d@1 deploying"]
    assert (story.registry.entries["c@1"].place, story.registry.entries["d@1"].place) == (1, 1)
    assert "it adds 0.5 positives a day" in story.last.why


def test_who_has_fallen_back_in_the_queue_is_told_once_for_each_revision():
    """With what it adds now and did add, its place, and who is ahead of it."""
    story = Tale(["a@1"], ["b@1", "c@1", "d@1"])
    story.verdicts = {name: verdict() for name in ("b@1", "c@1", "d@1")}
    story.gains = {"b@1": 9.0, "c@1": 5.0, "d@1": 4.0}
    story.settle()
    for name in story.verdicts:
        assert story.person("approved", name) is None
    assert story.settle() == ["b@1 queued", "c@1 queued", "d@1 queued", "b@1 deploying"]
    assert story.host("ready", "b@1") is None
    assert story.settle() == ["b@1 swapped"]
    del story.verdicts["b@1"]
    story.gains = {"c@1": 1.0, "d@1": 4.0}
    assert story.settle() == ["c@1 reranked"]
    assert (
        story.last.why
        == "at revision 2 of the suite it adds 1 positives a day, where it was 5 positives a day"
    )
    story.gains = {"c@1": 0.1, "d@1": 4.0}
    assert story.settle() == []


# -- the one that holds the slot


def test_a_member_goes_in_when_a_live_host_has_it_ready():
    """Never before, and with the revision that this makes."""
    story = approved("c@1")
    assert story.settle()[-1] == "c@1 deploying"
    assert story.settle() == []
    assert story.host("ready", "c@1") is None
    assert story.settle() == ["c@1 swapped"]
    assert story.registry.live == ("a@1", "c@1")
    assert story.registry.deployment is not None
    assert (story.registry.deployment.swapped, story.registry.deployment.revision) == (T0, 2)


@pytest.mark.parametrize("known", [True, False])
def test_what_hosts_say_needs_no_evidence(known):
    """A refusal, or silence, ends a deployment also while the evidence is being read anew."""
    for kind in ("refused", "silent"):
        story = approved("c@1")
        story.settle()
        story.watermark = T0 if known else None
        if kind == "refused":
            assert story.host("refused", "c@1", "no such file") is None
        else:
            story.wait(READY_WITHIN)
            assert story.settle() == []
            story.wait(1)
        assert story.settle() == ["c@1 aborted"]
        told = {"refused": "live-0: no such file", "silent": "no live host had it ready within 2m"}
        assert told[kind] in story.last.why


def test_what_many_hosts_say_is_cut_to_what_an_event_takes():
    """Else no evaluator could write the next step, nor go on."""
    story = approved("c@1")
    story.settle()
    for host in range(9):
        told = draft(story.registry, "refused", "c@1", who=f"live-{host}", why="x" * 1000, at=story.now,
                     deployment=story.registry.deployment.id)  # fmt: skip
        assert story.offer(told) is None
    assert story.settle() == ["c@1 aborted"]
    assert len(story.last.why) == LONGEST


@pytest.mark.parametrize("mark", [None, T0 - 1, T0 + 1])
def test_a_refusal_while_it_bakes_rolls_it_back_at_once(mark):
    """Whether or not there is evidence; what it had replaced is live again by the same event."""
    story = Tale(["a@1"], ["a@2"], {"a@2": "a@1"})
    story.bake("a@2")
    assert story.states() == {"a@1": "displaced", "a@2": "baking"}
    assert story.host("refused", "a@2", "suspended while baking") is None
    story.watermark = mark
    assert story.settle() == ["a@2 rolled_back"]
    assert story.last.why == "live-0: suspended while baking"
    assert story.states() == {"a@1": "live", "a@2": "shadow"}


def test_baking_is_counted_from_the_first_answer_not_from_the_decision():
    """However far event time has come meanwhile; before any answer nobody is promoted."""
    story = tale()
    story.bake("c@1")
    story.answering = None
    story.later(90 * HOUR)
    assert story.settle() == []
    story.answering = story.watermark
    story.later(HOUR - 1)
    assert story.settle() == []
    story.later(1)
    assert story.settle() == ["c@1 promoted"]
    assert story.last.why == "1h of event time within all guardrails"


def test_a_member_that_no_host_answers_with_is_rolled_back():
    """A live host that dies of it, say, writes no votes: the clock decides."""
    story = approved("c@1")
    story.settle()
    assert story.host("ready", "c@1") is None
    story.settle()
    story.wait(READY_WITHIN)
    assert story.settle() == []
    story.wait(1)
    assert story.settle() == ["c@1 rolled_back"]
    assert "no live host has answered with it within 2m" in story.last.why


def test_a_bake_goes_on_when_somebody_else_goes_out_meanwhile():
    """The revision of the swap may never answer: a later one that holds the member counts."""
    story = Tale(["a@1", "b@1"], ["c@1"])
    assert story.person("approved", "c@1", override=True) is None
    story.settle()
    assert story.host("ready", "c@1") is None
    story.settle()
    assert story.person("retired", "b@1") is None
    story.serve()
    assert story.registry.served == 3
    story.wait(2 * READY_WITHIN)
    story.later(HOUR)
    assert story.settle() == ["c@1 promoted"]


def test_a_breach_rolls_back_with_its_sentence():
    """And counts for nothing once the member is promoted."""
    story = tale()
    story.bake("c@1")
    story.breach = "it failed on 12.0% of 400 requests"
    story.later(HOUR)
    assert story.settle() == ["c@1 rolled_back"]
    assert story.last.why == "it failed on 12.0% of 400 requests"
    story = tale()
    story.deploy("c@1")
    story.breach = "what was said of it before"
    assert story.settle() == []


def test_after_a_roll_back_nothing_is_deployed_within_the_cooldown_but_by_hand():
    """Those who are queued wait; an override does not."""
    story = tale(mode="auto")
    story.bake("c@1")
    story.breach = "it hurts"
    story.settle()
    story.breach, story.answering = None, None
    story.verdicts = {"d@1": verdict(), "c@1": verdict()}
    assert story.settle() == ["d@1 recommended", "d@1 approved", "d@1 queued"]
    story.later(DAY - 1)
    assert story.settle() == []
    assert story.person("approved", "c@1", override=True) is None
    assert story.settle() == ["c@1 queued", "c@1 deploying"]
    assert story.person("aborted", "c@1") is None
    story.later(1)
    assert story.settle() == ["d@1 deploying"]


def test_a_roll_back_by_hand_rests_from_when_it_was_seen():
    """Who wrote it did not know the event time."""
    story = tale(mode="auto")
    story.deploy("c@1")
    story.later(30 * DAY)
    assert story.person("rolled_back", "c@1", watermark=None) is None
    story.verdicts = {"d@1": verdict()}
    assert story.settle() == ["noticed", "d@1 recommended", "d@1 approved", "d@1 queued"]
    story.later(DAY - 1)
    assert story.settle() == []
    story.later(1)
    assert story.settle() == ["d@1 deploying"]


# -- replacements


def test_whom_a_queued_member_replaces_may_go_meanwhile():
    """Retired while it is queued: it is deployed beside the others if the evidence says so. While it is being
    deployed: that deployment is aborted."""
    for moment in ("queued", "deploying"):
        story = Tale(["a@1", "b@1"], ["a@2"], {"a@2": "a@1"})
        story.verdicts = {"a@2": verdict()}
        story.settle()
        assert story.person("approved", "a@2") is None
        event = story.step()
        assert event is not None
        assert story.offer(event) is None
        if moment == "deploying":
            assert story.settle() == ["a@2 deploying"]
            assert "it replaces a@1" in story.last.why
        assert story.person("retired", "a@1", deployment="") is None
        if moment == "deploying":
            assert story.settle()[0] == "a@2 aborted"
            assert story.last.why == "a@1, which it replaces, is not live any more"
        else:
            assert story.settle() == ["a@2 deploying"]
            assert story.host("ready", "a@2") is None
            assert story.settle() == ["a@2 swapped"]
            assert story.registry.live == ("b@1", "a@2")


def test_of_twins_that_wait_together_one_goes_in_and_the_other_is_told():
    """Both were approved on the same evidence; against the new OR the second has nothing of its own."""
    story = approved("c@1", "d@1", gains={"c@1": 3.0, "d@1": 3.0})
    story.settle()
    assert story.host("ready", "c@1") is None
    assert story.settle() == ["c@1 swapped"]
    story.verdicts = {"d@1": verdict("REJECT", "redundant", twin="c@1")}
    assert story.settle() == ["d@1 superseded"]
    assert story.last.by == "c@1"


# -- evidence that is behind


def test_nothing_is_decided_on_evidence_that_is_older_than_what_was_decided():
    """After a rebuild, say: not until event time and labels have come to where the last step was taken."""
    story = approved("c@1")
    story.verdicts = {"c@1": verdict("REJECT", "redundant")}
    story.watermark = T0 - 1
    assert story.settle() == []
    story.watermark, story.labels = T0, T0 - 1
    assert story.settle() == []
    story.labels = None
    assert story.settle() == []
    story.labels = T0
    assert story.settle() == ["c@1 superseded"]


def test_an_empty_suite_and_one_without_members():
    """The first live member comes by the same way; without any there is nothing to do."""
    story = Tale([], ["c@1"], mode="auto", floor=0.5)
    story.verdicts = {"c@1": verdict()}
    assert story.settle()[-1] == "c@1 deploying"
    assert Tale([], []).settle() == []
