"""The suite file of the end-to-end tests, under a name of its own for every test."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

#: Member id → (stage, what the recount needs to know): a rule over the features, or None where it is random.
MEMBERS = {
    "steep@1": ("live", lambda f: f["x"] > 0.8),
    "tall@3": ("live", lambda f: f["y"] > 0.85),
    "gap@1": ("live", lambda f: None if f.get("z") is None else f["z"] > 0.75),
    "dice@1": ("live", None),
    "twin@2": ("shadow", lambda f: f["x"] > 0.78),
    "total@1": ("shadow", lambda f: f["x"] + f["y"] > 1.4),
    "dice@2": ("shadow", None),
    "moody@1": ("shadow", None),
}
WINDOWS = {"1h": 3_600_000, "24h": 86_400_000, "48h": 172_800_000, "7d": 604_800_000}
BUCKET = 300_000
HORIZON = 6 * 3_600_000

_LOADERS = {
    "steep@1": ("Above", '{ feature = "x", above = 0.8 }'),
    "tall@3": ("Above", '{ feature = "y", above = 0.85 }'),
    "gap@1": ("Above", '{ feature = "z", above = 0.75 }'),
    "dice@1": ("Dice", "{ share = 0.1 }"),
    "twin@2": ("Above", '{ feature = "x", above = 0.78 }'),
    "total@1": ("Total", "{ above = 1.4 }"),
    "dice@2": ("Dice", "{ share = 0.2 }"),
    "moody@1": ("Moody", '{ feature = "z", above = 0.6 }'),
}


@dataclass(frozen=True)
class SuiteFile:
    """Where a suite file stands, and the name that its topics begin with."""

    path: Path
    name: str

    def topic(self, kind: str) -> str:
        return f"{self.name}.{kind}"


def write_suite(folder: Path) -> SuiteFile:
    """Write the suite file and the module of its members into `folder`."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    # A deterministic member must not be late because the machine is: then it would abstain.
    members = "\n".join(
        f'[[member]]\nname = "{who.partition("@")[0]}"\nversion = "{who.partition("@")[2]}"\n'
        f'stage = "{stage}"\nowner = "{who[:3]}@example.com"\nloader = "voters:{_LOADERS[who][0]}"\n'
        f"params = {_LOADERS[who][1]}\nbudget_ms = 20000\n"
        for who, (stage, _) in MEMBERS.items()
    )
    path = folder / "suite.toml"
    path.write_text(
        f'name = "{name}"\nbucket = "5m"\nwindows = {list(WINDOWS)}\nsegments = ["region"]\n\n'
        f'[labels]\nhorizon = "6h"\n\n'
        f'[features]\nx = "float"\ny = "float"\nz = "float"\nregion = "category"\n\n{members}',
        encoding="utf-8",
    )
    shutil.copy(Path(__file__).with_name("voters.py"), folder / "voters.py")
    return SuiteFile(path, name)
