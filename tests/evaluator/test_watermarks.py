"""How far event time has come."""

from __future__ import annotations

import pytest

from evaluator.watermarks import Progress, greatest_agreed, labels_through, member_watermark, suite_watermark


def at(watermark, *, idle=False, partitions=2):
    return Progress(10, watermark, idle, partitions)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ([], None),
        ([at(5)], None),  # the other partition has not been heard of
        ([at(5), at(9)], 5),
        ([at(5, idle=True), at(9)], 9),  # idle: it does not hold the others back
        ([at(5, idle=True), at(9, idle=True)], 9),
        ([at(None, idle=True), at(9)], 9),  # never had a request
        ([at(None), at(9)], None),  # has some, but has scored none yet
        ([at(None, idle=True), at(None, idle=True)], None),
    ],
)
def test_a_member_has_scored_up_to_the_least_of_its_moving_partitions(progress, expected):
    """An idle partition does not hold the watermark back, an unknown one does."""
    assert member_watermark(progress) == expected


def test_a_suite_is_as_far_as_its_slowest_live_member():
    """One that has none yet keeps everything open."""
    assert suite_watermark([7, 3]) == 3
    assert suite_watermark([7, None]) is None
    assert suite_watermark([]) is None


@pytest.mark.parametrize(
    ("greatest", "expected"),
    [([], None), ([9], 9), ([100, 9, 8], 9), ([100, 99, 98], 100), ([17, 9, 8], 17), ([19, 9, 8], 9)],
)
def test_an_instant_that_leaps_ahead_waits_until_others_agree(greatest, expected):
    """The latest of the kept ones that is within the leap of the least of them."""
    assert greatest_agreed(greatest, leap=10) == expected


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        ({}, None),
        ({"0": ([5], False), "1": ([9], False)}, 5),
        ({"0": ([5], True), "1": ([9], False)}, 9),  # drained: it does not hold the other back
        ({"0": ([5], True), "1": ([9], True)}, 9),
        ({"0": ([], True), "1": ([9], False)}, 9),  # a partition without labels
    ],
)
def test_labels_have_come_as_far_as_the_least_partition_with_more_to_read(partitions, expected):
    """Consumption is what counts: a stalled feed stands still."""
    assert labels_through(partitions, leap=1000) == expected
