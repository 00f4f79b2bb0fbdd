"""A member tried in a process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from members.trial import try_member
from tests.members.panels import FEATURES, spec


@pytest.mark.parametrize(
    ("loader", "params", "code", "says"),
    [
        ("Above", {}, None, ""),
        ("Returns", {"expression": "np.random.default_rng().random(n) < 0.5"}, "random", "differently"),
        ("Raises", {}, "error", "no idea"),
        ("NoVote", {}, "load", "no method vote"),
        ("Returns", {"expression": "__import__('os')._exit(7)"}, "load", "ended with exit code 7"),
        ("nowhere:At", {}, "load", "no module nowhere"),
    ],
)
def test_what_a_trial_finds(loader: str, params: Any, code: str | None, says: str) -> None:
    """The findings of the contract check, and a process that ends on its own is one of them."""
    found = asyncio.run(try_member(spec("m", loader, **params), FEATURES))
    assert [each.code for each in found][:1] == ([] if code is None else [code])
    assert says in "".join(map(str, found))


def test_modules_that_do_harm_when_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kills its interpreter, one prints, one holds the interpreter for ever: here nothing happens."""
    good = "class M:\n    def vote(self, batch): return batch['wind'] > 0\n"
    harm = {
        "chorus_kills": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
        "chorus_prints": "print('[]' * 100)\n" + good,
        "chorus_greedy": "x = 7 ** 9_000_000 % 10\n" + good,
        "chorus_holds": "import ctypes\nctypes.PyDLL(None).sleep(60)\n" + good,
    }
    for name, text in harm.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    async def run() -> list[str]:
        tries = (
            try_member(spec("m", f"{name}:M"), FEATURES, limit=3 if "holds" in name else 30) for name in harm
        )
        return ["".join(map(str, found)) for found in await asyncio.gather(*tries)]

    killed, printed, greedy, held = asyncio.run(run())
    assert "ended by SIGSEGV" in killed
    assert printed == ""
    assert "keeps the interpreter to itself" in greedy
    assert "not loaded and checked within 3 s" in held
