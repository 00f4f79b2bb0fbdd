"""Verdicts become events once, and flapping is damped."""

from __future__ import annotations

from evaluator.announce import Announced, changes

DAY = 86_400_000


def verdict(state, since=None, decay=None):
    return {"state": state, "since": since, "decay": decay}


def run(documents, cooldown=DAY):
    """Announce a series of (watermark, {member: verdict}); the events in order."""
    before, out = {}, []
    for watermark, verdicts in documents:
        for key, now, event in changes("s", watermark, verdicts, before, cooldown, {"a@1": [1]}):
            before[key] = Announced.unpack(now.pack())
            out.append(event)
    return out


def test_a_verdict_is_announced_once_with_the_counts_it_was_reached_on():
    """HOLD says nothing, PROMOTE speaks once however often it is looked at."""
    found = run([(1, {"a@1": verdict("HOLD")}), *((n, {"a@1": verdict("PROMOTE", 5)}) for n in (10, 11, 12))])
    assert [(e["type"], e["subject"], e["data"]["status"]) for e in found] == [
        ("chorus.candidate.promotion_recommended", "a@1", "firing")
    ]
    assert found[0]["data"]["counts"] == [1]
    assert found[0]["data"]["verdict"]["since"] == 5


def test_what_ended_is_resolved():
    """FLAG, then OK a week later."""
    found = run([(0, {"a@1": verdict("FLAG", 0)}), (7 * DAY, {"a@1": verdict("OK")})])
    assert [(e["type"], e["data"]["status"]) for e in found] == [
        ("chorus.member.flagged", "firing"),
        ("chorus.member.flagged", "resolved"),
    ]


def test_within_the_cooldown_nothing_changes_again():
    """A state that comes and goes within a day of event time is announced at its first coming."""
    states = ["FLAG", "OK", "FLAG", "OK", "FLAG"]
    found = run([(n * 1000, {"a@1": verdict(state, 0)}) for n, state in enumerate(states)])
    assert len(found) == 1


def test_decay_is_a_condition_of_its_own():
    """A live member may be OK and yet worse than its own past."""
    found = run([(DAY, {"a@1": verdict("OK", None, {"since": 7})})])
    assert [(e["type"], e["data"]["status"]) for e in found] == [("chorus.member.decaying", "firing")]


def test_two_evaluators_give_one_event_one_id():
    """The id follows from what is said, not from who says it or when it is looked at."""
    one = run([(10, {"a@1": verdict("PROMOTE", 5)})])[0]
    two = run([(99, {"a@1": verdict("PROMOTE", 5)})])[0]
    other = run([(10, {"b@1": verdict("PROMOTE", 5)})])[0]
    assert one["id"] == two["id"] != other["id"]


def test_what_another_takes_the_place_of_is_resolved():
    """A candidate that was recommended and is redundant now: nobody goes on believing the first."""
    found = run([(0, {"a@1": verdict("PROMOTE", 0)}), (7 * DAY, {"a@1": verdict("REJECT")})])
    assert [(e["type"], e["data"]["status"]) for e in found] == [
        ("chorus.candidate.promotion_recommended", "firing"),
        ("chorus.candidate.promotion_recommended", "resolved"),
        ("chorus.candidate.rejected", "firing"),
    ]


def test_what_comes_again_is_another_event():
    """A verdict without an instant (redundant) that comes, goes and comes back: three events, three ids."""
    states = ["REJECT", "HOLD", "REJECT"]
    found = run([(7 * DAY * n, {"a@1": verdict(state)}) for n, state in enumerate(states)])
    assert [e["data"]["status"] for e in found] == ["firing", "resolved", "firing"]
    assert len({e["id"] for e in found}) == 3
