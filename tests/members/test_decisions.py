"""Decisions: the shapes that are filled in say what the encoder would have said."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from members.decisions import decisions, scored
from streams.batch import Batch
from streams.records import Decision
from streams.requests import DecodedBatch

PLAIN = ["a", "r-2", "ünïcode", "%d%b", "日本"]
ESCAPED = ['qu"ote', "back\\slash", "new\nline", "\x00\x1f", "\x7f", ',"time":0', "plain"]
MEMBERS = [f"m{i}@1" for i in range(8)] + ['odd"%d@%b,"time":0,"offset":0', "ninth@2"]


@pytest.mark.parametrize("ids", [PLAIN, ESCAPED, []])
@pytest.mark.parametrize("revision", [0, 1, 12])
def test_as_the_encoder_writes_them(ids: list[str], revision: int) -> None:
    """Byte for byte, whatever stands in ids and member names, and whether or not the suite agrees."""
    n = len(ids)
    true = np.random.default_rng(n).random((len(MEMBERS), n)) < 0.2
    true[:, : n // 2] = False
    true[8, n - 1 :] = True
    fired = scored(MEMBERS, true)
    assert fired == [[name for name, bit in zip(MEMBERS, row, strict=True) if bit] for row in true.T]
    judgement = [i % 2 == 0 for i in range(n)]
    times, offsets = np.arange(n) * 1_700_000_000_000, np.arange(n) * 3
    batch = DecodedBatch(offsets, ids, np.zeros(n, np.int64), [()], Batch(times, {}), [])
    expected = [
        (
            ids[i].encode(),
            msgspec.json.encode(
                Decision(ids[i], judgement[i], fired[i], revision, int(times[i]), 3, int(offsets[i]))
            ),
        )
        for i in range(n)
    ]
    assert decisions(batch, fired, judgement, revision, 3) == expected
