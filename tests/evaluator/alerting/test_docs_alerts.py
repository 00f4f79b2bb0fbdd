"""docs/alerts.md: its examples and tables are what the product does."""

from __future__ import annotations

import json
import re
import time
import tomllib
from pathlib import Path
from typing import Any

from evaluator.alerting.payload import alertmanager
from evaluator.alerting.signing import sign
from evaluator.alerting.wording import SAID
from evaluator.promotion.notices import TYPES as NOTICES
from streams.settings import Alerts, Webhook
from tests.evaluator.alerting.alerts import VERDICT, alert

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "alerts.md").read_text(encoding="utf-8")


def block(info: str) -> str:
    (text,) = re.findall(rf"^```{info}\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    return text


def settings() -> Alerts:
    return Alerts.model_validate(tomllib.loads(block("toml alerts"))["alerts"])


def test_the_message_is_what_is_sent():
    """Field by field, with the link of the page's own settings."""
    one = alert(subject="gale@1", at=12 * 3600, verdict=VERDICT)
    sent = alertmanager(one, receiver=settings().webhooks[0].name, link=settings().link)
    assert json.loads(block("json message")) == sent


def test_the_types_are_those_that_have_words():
    """With their severities; notices are those of the registry, and no condition is among them."""
    table = re.findall(r"^\| `([\w.]+)` \| (\w+) \| [^|]+ \| (\w+) \|$", PAGE, re.MULTILINE)
    assert [(kind, severity) for kind, severity, _ in table] == [(k, said[0]) for k, said in SAID.items()]
    notices = {kind for kind, _, what in table if what == "notice"}
    assert notices == {kind for kind, _ in NOTICES.values()}
    assert {kind for kind, said in SAID.items() if not said[2]} == notices


def test_the_keys_of_a_receiver_are_those_that_are_read():
    """Each with its default."""
    body = PAGE.split("## Receivers\n")[1].split("\n## ")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", body, re.MULTILINE))
    defaults = {
        name: "required" if field.is_required() else field.default
        for name, field in Webhook.model_fields.items()
    }
    said = {name: cell.strip("`") for name, cell in table.items()}
    plain = {"required": "required", "none": None}
    assert {k: plain[v] if v in plain else json.loads(v) for k, v in said.items()} == defaults
    assert [hook.format for hook in settings().webhooks] == ["alertmanager", "slack"]


def test_the_signature_of_the_page_is_the_one_that_is_made():
    """Receivers who copy the function take what is signed, and nothing else."""
    space: dict[str, Any] = {}
    exec(compile(block("python verify"), "alerts.md", "exec"), space)
    verify, now = space["verify"], str(int(time.time()))
    assert verify("s", now, sign("s", now, b"{}"), b"{}")
    assert not verify("s", now, sign("s", now, b"{}"), b"{} ")
    assert not verify("s", now, sign("t", now, b"{}"), b"{}")
    old = str(int(now) - 1000)
    assert not verify("s", old, sign("s", old, b"{}"), b"{}")
    assert not verify("s", "soon", "", b"{}")
