"""What follows from the log, and what has to be said again because it does not."""

from __future__ import annotations

from evaluator.fold import Layout, ShardState, fold_labels

LAYOUT = Layout(300_000, 86_400_000)


def beat(state, drained):
    update, after = fold_labels(state, 0, "labels:0", [], 7, 7, LAYOUT, drained=drained, keep=4)
    return update.sets, after


def test_a_partition_at_rest_says_so_with_every_beat():
    """A store that was made anew meanwhile, up to the same offset, cannot know it."""
    sets, after = beat(ShardState(applied=7, labels={"0": ([5], False)}), True)
    assert sets[:2] == ["labels", "0"]
    assert after.labels["0"] == ([5], True)
    assert beat(after, True)[0] == sets
    assert beat(ShardState(applied=7, labels={"0": ([5], False)}), False)[0] == []
