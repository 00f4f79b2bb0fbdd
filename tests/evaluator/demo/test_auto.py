"""`chorus demo --auto`: the same suite, but for who decides."""

from __future__ import annotations

from evaluator.demo.run import _AUTO, suite_file
from streams.suite import DAY, parse_suite


def test_the_demo_can_let_the_evidence_decide():
    """Nothing but the policy differs, and a week of baking fits into the year."""
    text = suite_file().read_text(encoding="utf-8")
    plain, auto = parse_suite(text), parse_suite(text + _AUTO)
    assert (plain.policy.mode, auto.policy.mode) == ("advise", "auto")
    assert auto.policy.bake == 7 * DAY
    assert auto.model_copy(update={"policy": plain.policy}).model_dump() == plain.model_dump()
