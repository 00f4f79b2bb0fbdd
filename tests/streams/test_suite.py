"""The suite file: what it says, and what is said about one that cannot be used."""

from __future__ import annotations

import pytest

from streams.errors import ConfigError
from streams.suite import DAY, load_suite, parse_suite

WHOLE = """name = "flights"
bucket = "5m"
windows = ["1h", "24h", "7d"]
segments = ["carrier"]
holdout = 0.01

[labels]
horizon = "48h"
min_horizon = "6h"
missing_is_negative = false

[policy]
mode = "advise"
alpha = 0.05
evidence = "blocks"
block = "1d"
margin = 0.05
floor = 0.6
min_span = "7d"

[features]
wind = "float"
carrier = "category"

[[member]]
name = "calm"
version = "1"
stage = "live"
owner = "ana@example.com"
loader = "flights.members:Calm"

[[member]]
name = "storm"
version = 2
replaces = "calm@1"
owner = "ben@example.com"
loader = "flights.members:Storm"
params = { above = 0.8 }
budget_ms = 5
trained_through = 2013-01-31T00:00:00Z
"""


def test_a_whole_file():
    """Every key of the contract is read; durations and instants are milliseconds."""
    suite = parse_suite(WHOLE)
    assert (suite.bucket, suite.labels.horizon, suite.policy.block) == (300_000, 2 * DAY, DAY)
    assert suite.window_ms == {"1h": 3_600_000, "24h": DAY, "7d": 7 * DAY}
    assert (suite.live, suite.shadow) == (["calm@1"], ["storm@2"])
    storm = suite.members["storm@2"]
    assert (storm.params, storm.budget_ms, storm.replaces) == ({"above": 0.8}, 5, "calm@1")
    assert storm.trained_through == 1_359_590_400_000
    assert suite.features == {"wind": "float", "carrier": "category"}


def test_a_name_is_enough():
    """Everything else has a default."""
    suite = parse_suite('name = "small"')
    assert (suite.live, suite.labels.horizon, suite.labels.min_horizon) == ([], "auto", 6 * 3_600_000)
    assert suite.retention_ms == 14 * DAY


@pytest.mark.parametrize(
    ("bucket", "generation"), [("5m", DAY), ("1h", DAY), ("1d", DAY), ("7h", 28 * 3_600_000), ("2d", 2 * DAY)]
)
def test_a_generation_is_a_whole_number_of_buckets(bucket, generation):
    """A day of records, or as much more as makes it even."""
    suite = parse_suite(f'name = "s"\nbucket = "{bucket}"\nwindows = []')
    assert suite.generation_ms == generation


MEMBER = '\n[[member]]\nname = "a"\nversion = "1"\nowner = "o"\nloader = "m:C"\n'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('name = "s"\nbuckets = "5m"', 2, "unknown key 'buckets'"),
        ('name = "s"\n\n[labels]\nhorizn = "5h"', 4, "unknown key 'labels.horizn'"),
        ('name = "s"\n[policy]\nalpha = 2.0', 3, "policy.alpha"),
        ('name = "s"\n[features]\nwind = "floats"', 3, "features.wind"),
        (f'name = "s"{MEMBER}{MEMBER.replace("1", "2")}stages = "live"', 13, "member.1.stages"),
        (f'name = "s"{MEMBER}stage = "alive"', 7, "member.0.stage"),
        (f'name = "s"{MEMBER.replace("m:C", "m.C")}', None, "package.module:Class"),
        (
            'name = "s"\n[[member]]\nname = "a"\nversion = "1"\nloader = "m:C"',
            2,
            "'member.0.owner' is missing",
        ),
        ('name = "s"\nbucket = 5', 2, "a duration is a string"),
        ('name = "s"\nbucket = "5 minutes"', 2, "not a duration"),
        ('name = "s s"', 1, "prefix of topic names"),
        ('bucket = "5m"', None, "'name' is missing"),
        ('name = "s"\nbucket = "7m"', None, "window 1h is not a multiple of the bucket"),
        ('name = "s"\nwindows = ["24h", "1d"]', None, "two windows are of one length"),
        (f'name = "s"{MEMBER}{MEMBER}', None, "member a@1 is declared twice"),
        ('name = "s"\nretention = "1d"', None, "retention is shorter than the longest window"),
        ('name = "s"\nbucket = = 5', 2, "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, said):
    """One sentence that names the file, where possible the line, and the key."""
    with pytest.raises(ConfigError) as caught:
        parse_suite(text, "my.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("my.toml:")
    if line is not None:
        assert caught.value.line == line


def test_a_file_that_is_not_there(tmp_path):
    """The sentence names the path and the option."""
    with pytest.raises(ConfigError, match="there is no such suite file: check --suite"):
        load_suite(tmp_path / "suite.toml")


def test_a_file_that_is_not_text(tmp_path):
    """A binary file is an error like any other."""
    path = tmp_path / "suite.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_suite(path)
