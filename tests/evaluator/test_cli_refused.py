"""What the commands on the registry refuse: one sentence each, and nothing new in the log."""

from __future__ import annotations

import pytest

from tests.evaluator.test_cli import one_sentence
from tests.evaluator.test_cli_members import WHY, within


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["members", "add", "b@1", "--loader", "slopes:Scalar", "--owner", "a"], 1, "is not registered"),
        (["members", "add", "b@1", "--loader", "slopes:Deadly", "--owner", "a"], 1, "ended with exit code 3"),
        (["members", "add", "bad@1", "--loader", "slopes:Gone", "--owner", "a"], 1, "has no Gone"),
        (["members", "add", "bad", "--loader", "slopes:X", "--owner", "a"], 2, "write it as name@version"),
        (["members", "add", "bad@1", "--loader", "slopes:Steep"], 2, "name its --loader and its --owner"),
        (["members", "add", "flat@1"], 1, "flat@1 is registered, and shadow: give it another version"),
        (["members", "sharpen", "flat", "--threshold", "2", "--version", "2"], 1, "has no method score"),
        (["members", "add", "b@1", "--loader", "slopes:Steep", "--owner", "a", "--replaces", "nobody@9"], 1,
         "b@1 replaces nobody@9, which is not registered: check its id"),
        (["members", "retire", "steep"], 1, "without steep@1 nobody is left in the OR, and every"),
        (["members", "back-to-shadow", "steep"], 1, "put another member in first, or give --force"),
        (["members", "retire", "ghost"], 2, "ghost is not registered: name one of steep@1, flat@1"),
        (["members", "back-to-shadow", "flat"], 1, "put back to shadow: that goes from live, retired"),
        (["approve", "flat", "--as", "eva"], 1, "`chorus promote` puts it in without evidence"),
        (["promote", "flat", "--as", "ben"], 1, "ben may not approve"),
        (["promote", "flat", "--as", "chorus"], 2, "give a name of your own"),
        (["decline", "steep"], 1, "steep@1 is live already: `chorus rollback` takes it out"),
        (["decline", "flat"], 1, "shadow, and cannot be declined or aborted: that goes from"),
        (["rollback"], 1, "nothing has been deployed yet"),
        (["rollback", "steep"], 1, "was never deployed"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_and_not_written(refusing, arguments, code, sentence):
    """One sentence, and nothing new in the log."""
    one_sentence(refusing(*arguments, *WHY), code, sentence)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory, embedded_broker):
    with within(tmp_path_factory.mktemp("desk"), embedded_broker) as desk:
        desk.ask("members", "apply", "--yes", *WHY)
        yield desk
        assert [line["kind"] for line in desk.history("--all")] == ["founded"]


def test_a_reason_of_blanks_is_none(refusing):
    """It is kept for ever, so it has to be there."""
    one_sentence(refusing("members", "retire", "flat", "--reason", " "), 2, "--reason is empty: say why")
