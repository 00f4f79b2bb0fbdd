"""The precision at adoption: what the registry keeps of it, and the floor that it makes."""

from __future__ import annotations

import json

import pytest

from members.registry.events import decode_event
from streams.errors import BadRecord
from streams.suite import Policy, Suite
from tests.members.registry.test_lifecycle import Story, spec


def test_the_precision_before_the_first_deployment_that_knew_it_is_kept():
    """From the swap on; not of one that was aborted, nor of a later one; a roll-back leaves it."""
    story = Story(["a@1"], ["b@1", "c@1", "d@1"])

    def deploy(member: str, precision: float | None, *after: str) -> float | None:
        for kind in ("recommended", "approved", "queued"):
            assert story.tell(kind, member) is None
        assert story.tell("deploying", member, suite_precision=precision) is None
        for kind in after:
            assert story.tell(kind, member) is None
        return story.registry.adopted

    assert deploy("b@1", 0.9, "aborted") is None
    assert deploy("b@1", None, "ready", "swapped", "promoted") is None
    assert deploy("c@1", 0.7) is None
    assert story.tell("ready", "c@1") is None
    assert story.tell("swapped", "c@1") is None
    assert story.registry.adopted == 0.7
    assert story.tell("rolled_back", "c@1") is None
    assert deploy("d@1", 0.6, "ready", "swapped", "promoted") == 0.7


@pytest.mark.parametrize(
    ("declared", "adopted", "floor"),
    [(None, None, None), (None, 0.7, 0.7), (0.5, 0.7, 0.5), (0.0, 0.7, 0.0), (0.5, None, 0.5)],
)
def test_the_floor_is_the_precision_at_adoption_unless_the_file_has_one(declared, adopted, floor):
    """0 declares that there is none; everything else of the policy is the file's."""
    policy = Policy(floor=declared, margin=0.1)
    suite = Suite(name="s", policy=policy, member=[spec("a@1", "live")])
    story = Story(["a@1"], ["b@1"])
    registry = story.registry.model_copy(update={"adopted": adopted})
    found = registry.suite(suite)
    assert found.policy == policy.model_copy(update={"floor": floor})
    assert list(found.members) == ["a@1", "b@1"]
    assert suite.policy.floor == declared


@pytest.mark.parametrize("precision", [1.1, -0.1, "much"])
def test_a_precision_that_is_none_is_not_an_event(precision):
    """What somebody else writes is checked where it is read, or the floor would be anything."""
    event = {"kind": "deploying", "at": 1, "who": "x", "why": "y", "suite_precision": precision}
    with pytest.raises(BadRecord, match="suite_precision"):
        decode_event(json.dumps(event).encode())
