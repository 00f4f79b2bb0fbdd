"""`chorus demo --auto`: the same suite, but for who decides."""

from __future__ import annotations

import json
import subprocess

import pytest

from evaluator.demo.run import _AUTO, suite_file
from streams.suite import DAY, parse_suite
from tests.e2e.drive import CHORUS, environment


def test_the_demo_can_let_the_evidence_decide():
    """Nothing but the policy differs, and a week of baking fits into the year."""
    text = suite_file().read_text(encoding="utf-8")
    plain, auto = parse_suite(text), parse_suite(text + _AUTO)
    assert (plain.policy.mode, auto.policy.mode) == ("advise", "auto")
    assert auto.policy.bake == 7 * DAY
    assert auto.model_copy(update={"policy": plain.policy}).model_dump() == plain.model_dump()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_year_on_real_processes_takes_in_the_good_candidate_and_no_other():
    """The model goes live by its evidence, and recall rises with it; the suite is no less precise for it."""
    command = [CHORUS, "demo", "--auto", "--exit", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=390, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    document = json.loads(done.stdout.splitlines()[-1])
    live = {"late_inbound@1", "queue@1", "regional_evening@1", "logistic@1"}
    assert set(document["registry"]["live"]) == live
    assert document["revision"] == document["registry"]["revision"] == 2
    assert document["policy"]["floor_source"] == "adoption"
    year = next(window for window in document["windows"] if window["name"] == "365d")
    assert year["volume"] > 336_000
    model = next(member for member in year["members"] if member["id"] == "logistic@1")
    missed = year["suite"]["unflagged"]["positive"] + year["suite"]["flagged"]["positive"]
    before = (year["suite"]["flagged"]["positive"] - model["unique"]["positive"]) / missed
    assert before < 0.3 < 0.4 < year["suite"]["recall"]
    without = year["suite"]["flagged"]["n"] - model["unique"]["n"]
    assert year["suite"]["flagged"]["precision"] > before * missed / without
