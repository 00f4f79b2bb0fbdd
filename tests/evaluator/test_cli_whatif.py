"""`chorus what-if` on a real store."""

from __future__ import annotations

import asyncio
import io

import pytest
import redis.asyncio as aioredis
from pydantic import SecretStr
from rich.console import Console

from evaluator.cli.whatif import read_what_if, resolve, show
from evaluator.fold import fold_labels, fold_votes
from evaluator.store import Store, ensure_meta, layout_of
from streams.errors import ConfigError
from streams.labels import PlacedLabel
from streams.records import SUITE, Votes
from streams.settings import Redis, Settings
from streams.suite import parse_suite

HOUR = 3_600_000
MEMBERS = {"a@1": "live", "b@1": "live", "c@1": "shadow", "c@2": "shadow"}
DECLARED = parse_suite(
    'name = "w"\nbucket = "1h"\nwindows = ["4h"]\n'
    + "".join(
        f'[[member]]\nname = "{name[0]}"\nversion = "{name[2]}"\nstage = "{stage}"\nowner = "o"\n'
        'loader = "x:Y"\n'
        for name, stage in MEMBERS.items()
    )
)
# request → (who flags it, label); four hours, all scored by all
REQUESTS = [
    ("a", True), ("a", False), ("ab", True), ("b", False), ("b", False), ("bc", True), ("c", True),
    ("c", True), ("c", False), ("", True), ("", False), ("", None),
]  # fmt: skip


async def fill(client) -> None:
    store = Store(client, "w", layout_of(DECLARED, 1))
    await client.flushall()
    await ensure_meta(client, "w", store.layout)
    names = [SUITE, "a@1", "b@1"]
    for at, (stage, members) in enumerate((("live", names), ("shadow", ["c@1", "c@2"]))):
        hits = [i for i, (who, _) in enumerate(REQUESTS) if set(who) & {m[0] for m in members}]
        masks = []
        for i in hits:
            bits = sum(1 << k for k, m in enumerate(members) if m[0] in REQUESTS[i][0] and m != SUITE)
            masks.append(bits | (1 if stage == "live" else 0))
        record = Votes(
            1, stage, "h", 0, 1, 0, len(REQUESTS) + 1, 1, HOUR, members, [[]],
            [len(REQUESTS), 0, 0, 1, 4 * HOUR, 0], [[] for _ in members], hits,
            [f"r{i}" for i in hits], [1000 + i for i in hits], bytes(masks),
            bytes(len(masks)), 4 * HOUR, True,
        )  # fmt: skip
        state = await store.load(0, "votes:0")
        update, _ = fold_votes(state, 0, "votes:0", [(at, record)], at, at + 1, store.layout)
        assert await store.apply(0, update) is None
    labels = [
        (i, PlacedLabel(f"r{i}", 1 if label else 2, HOUR, "", 0, 1000 + i))
        for i, (_, label) in enumerate(REQUESTS)
        if label is not None
    ]
    state = await store.load(0, "labels:0")
    update, _ = fold_labels(
        state, 0, "labels:0", labels, 0, len(REQUESTS), store.layout, drained=True, keep=4
    )
    assert await store.apply(0, update) is None


def ask(url, add=(), drop=()):
    settings = Settings(redis=Redis(url=SecretStr(url)))

    async def run():
        client = aioredis.Redis.from_url(url)
        await fill(client)
        await client.aclose()
        return await read_what_if(DECLARED, settings, list(add), list(drop), None, "latest")

    return asyncio.run(run())


def test_another_suite_is_counted_over_the_same_requests(valkey):
    """Dropping b and adding c, by hand."""
    found = ask(valkey.url, add=["c@1"], drop=["b@1"])
    assert (found["now"]["flagged"]["n"], found["now"]["precision"]) == (6, 3 / 6)
    assert (found["then"]["flagged"]["n"], found["then"]["precision"]) == (7, 5 / 7)
    assert (found["now"]["recall"], found["then"]["recall"]) == (3 / 6, 5 / 6)
    assert {k: found["gained"][k] for k in ("n", "positive")} == {"n": 3, "positive": 2}
    assert {k: found["lost"][k] for k in ("n", "positive")} == {"n": 2, "positive": 0}


def test_order_shares_and_redundancy(valkey):
    """Either version of c adds; the other has nothing of its own then. The shares sum to the recall."""
    found = ask(valkey.url)
    assert found["now"] == found["then"]
    assert [step["member"] for step in found["order"]] == ["c@1"]
    assert found["order"][0]["unique"]["precision"] == 2 / 3
    assert sum(found["recall_shares"].values()) == pytest.approx(found["now"]["recall"])
    assert found["recall_shares"]["a@1"] == pytest.approx(1.5 / 6)


def test_it_can_be_read_by_a_person(valkey):
    """The two suites, what is gained and lost, and the order."""
    out = io.StringIO()
    show(ask(valkey.url, add=["c@2"]), Console(file=out, width=120))
    assert "then: a@1, b@1, c@2" in out.getvalue()
    assert "gained: 3 requests, precision 0.667" in out.getvalue()
    assert "1. promote c@1" in out.getvalue()


def test_a_member_is_found_without_its_version_where_there_is_only_one():
    """Otherwise the sentence names the choices."""
    assert resolve(DECLARED, ["a", "c@2"]) == ["a@1", "c@2"]
    with pytest.raises(ConfigError, match="c is several members: name one of c@1, c@2"):
        resolve(DECLARED, ["c"])
    with pytest.raises(ConfigError, match="z is not a member of this suite"):
        resolve(DECLARED, ["z"])
