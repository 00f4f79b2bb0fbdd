"""Labels that stop, and labels that come too late, are told once and taken back."""

from __future__ import annotations

from evaluator.label_alarms import label_alarms

DAY = 86_400_000


def status(watermark, through, late=0):
    return {"suite": "s", "watermark": watermark, "labels_through": through, "counters": {"late": late}}


def run(documents, first=0, read=True):
    """The events of a series of statuses, as one evaluator after the other announces them."""
    before, out = {}, []
    for document in documents:
        for key, now, event in label_alarms(document, before, DAY, first, read=read):
            before[key] = now
            if event is not None:
                out.append((event["type"], event["data"]["status"], event["id"]))
    return out


def test_labels_that_stop_are_told_once_and_taken_back_when_they_come():
    """More than two blocks behind is starving; what was told is not told again."""
    found = run([status(2 * DAY, DAY), status(4 * DAY, DAY), status(5 * DAY, DAY), status(5 * DAY, 5 * DAY)])
    assert [each[:2] for each in found] == [
        ("chorus.labels.starved", "firing"),
        ("chorus.labels.starved", "resolved"),
    ]
    assert found[0][2] != found[1][2]


def test_a_suite_that_never_had_a_label_starves_too():
    """Counted from its first bucket; with nothing there at all there is nothing to say."""
    assert [each[1] for each in run([status(3 * DAY, None)], first=0)] == ["firing"]
    assert run([status(3 * DAY, None)], first=None) == []
    assert run([status(None, None)]) == []


def test_labels_that_are_only_not_read_yet_do_not_starve():
    """An evaluator that reads a backlog of votes first says nothing."""
    assert run([status(9 * DAY, DAY)], read=False) == []


def test_labels_that_came_too_late_are_told_by_their_number():
    """Firing when the count has grown; resolved when it has not for a block."""
    series = [status(DAY, DAY, 0), status(DAY, DAY, 3), status(DAY + 1, DAY, 3), status(3 * DAY, 3 * DAY, 3)]
    found = run(series)
    assert [each[:2] for each in found] == [
        ("chorus.labels.late", "firing"),
        ("chorus.labels.late", "resolved"),
    ]
    again = run([*series, status(4 * DAY, 4 * DAY, 5)])
    assert [each[1] for each in again] == ["firing", "resolved", "firing"]
    assert len({each[2] for each in again}) == 3


def test_late_labels_that_go_on_coming_are_one_condition_that_ends():
    """A block after the last of them, however many came while it fired."""
    counts = [(1, 0), (2, 1), (4, 1), (5, 2), (6, 3), (6, 3), (7, 3), (9, 3)]
    found = run([status(day * DAY, day * DAY, late) for day, late in counts])
    assert [each[1] for each in found] == ["firing", "resolved", "firing", "resolved"]
    slow = [(1, 1), (1.5, 2), (2, 2), (2.4, 3), (3.3, 3), (3.4, 3)]
    found = run([status(int(day * DAY), int(day * DAY), late) for day, late in slow])
    assert [each[1] for each in found] == ["firing", "resolved"]
    assert len({each[2] for each in found}) == 2


def test_a_counter_that_begins_anew_is_believed():
    """`chorus rebuild` counts from 0: what comes late from then on is told, and under an id of its own."""
    counts = [(1, 400), (3, 400), (4, 0), (4, 1), (4, 399), (6, 399)]
    found = run([status(day * DAY, day * DAY, late) for day, late in counts])
    assert [each[1] for each in found] == ["firing", "resolved", "firing", "resolved"]
    again = run([status(day * DAY, day * DAY, late) for day, late in [(1, 3), (1, 0), (3, 0), (4, 3)]])
    assert [each[1] for each in again] == ["firing", "resolved", "firing"]
    assert len({each[2] for each in again}) == 3
