"""Settings: variables, the TOML file, and what is said about those that cannot be used."""

from __future__ import annotations

import json

import pytest

from streams.errors import ConfigError
from streams.settings import load_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Whatever the developer has set is out of the way."""
    import os

    for name in [name for name in os.environ if name.startswith("CHORUS_")]:
        monkeypatch.delenv(name)


def test_defaults():
    """Without anything set, everything is on this machine."""
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert settings.redis.url.get_secret_value() == "redis://localhost:6379/0"
    assert settings.web.host == "127.0.0.1"


def test_variables_nest_by_two_underscores(monkeypatch):
    """Groups and their keys, durations as text or as milliseconds."""
    monkeypatch.setenv("CHORUS_KAFKA__PARTITIONS", "9")
    monkeypatch.setenv("CHORUS_KAFKA__SESSION_TIMEOUT", "6s")
    monkeypatch.setenv("CHORUS_HOST__IDLE_AFTER", "1500")
    monkeypatch.setenv("CHORUS_REDIS__CLUSTER", "true")
    settings = load_settings()
    assert (settings.kafka.partitions, settings.kafka.session_timeout) == (9, 6_000)
    assert (settings.host.idle_after, settings.redis.cluster) == (1_500, True)


def test_who_wins(monkeypatch, tmp_path):
    """Arguments over the short variables, those over the long ones, and any variable over the file."""
    file = tmp_path / "chorus.toml"
    file.write_text('[kafka]\nbootstrap_servers = "file:1"\npartitions = 7\n')
    monkeypatch.setenv("CHORUS_CONFIG", str(file))
    assert load_settings().kafka.bootstrap_servers == "file:1"
    monkeypatch.setenv("CHORUS_KAFKA__BOOTSTRAP_SERVERS", "long:1")
    assert load_settings().kafka.bootstrap_servers == "long:1"
    monkeypatch.setenv("CHORUS_BOOTSTRAP_SERVERS", "short:1")
    monkeypatch.setenv("CHORUS_REDIS_URL", "redis://short:1")
    assert load_settings().kafka.bootstrap_servers == "short:1"
    settings = load_settings(bootstrap_servers="argument:1", redis_url="redis://argument:1")
    assert settings.kafka.bootstrap_servers == "argument:1"
    assert settings.kafka.partitions == 7
    assert settings.redis.url.get_secret_value() == "redis://argument:1"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CHORUS_KAFKA_PARTITIONS", "4", "unknown setting CHORUS_KAFKA_PARTITIONS"),
        ("CHORUS_REDIS_PASSWORD", "x", "unknown setting CHORUS_REDIS_PASSWORD"),
        ("CHORUS_KAFKA__PARTITION", "4", "CHORUS_KAFKA__PARTITION: "),
        ("CHORUS_KAFKA__PARTITIONS", "0", "CHORUS_KAFKA__PARTITIONS: "),
        ("CHORUS_KAFKA__SESSION_TIMEOUT", "soon", "CHORUS_KAFKA__SESSION_TIMEOUT: .*not a duration"),
        ("CHORUS_LOG_LEVEL", "LOUD", "CHORUS_LOG_LEVEL: "),
        ("CHORUS_CONFIG", "/nowhere.toml", "CHORUS_CONFIG names /nowhere.toml, which does not exist"),
    ],
)
def test_what_cannot_be_used_is_named(monkeypatch, name, value, said):
    """A misspelt or unusable setting is an error that names the variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        load_settings()


def test_a_file_with_an_unknown_key(monkeypatch, tmp_path):
    """Unknown keys of the file are errors, too."""
    file = tmp_path / "chorus.toml"
    file.write_text("[host]\nbatches = 7\n")
    monkeypatch.setenv("CHORUS_CONFIG", str(file))
    with pytest.raises(ConfigError, match="CHORUS_HOST__BATCHES"):
        load_settings()


def test_a_file_that_is_no_toml(monkeypatch, tmp_path):
    """A file that cannot be read is an error with its name, and no traceback."""
    file = tmp_path / "chorus.toml"
    file.write_text("[host\n")
    monkeypatch.setenv("CHORUS_CONFIG", str(file))
    with pytest.raises(ConfigError, match=r"chorus\.toml"):
        load_settings()


def test_secrets_are_masked(monkeypatch):
    """Passwords do not show when settings are printed."""
    monkeypatch.setenv("CHORUS_KAFKA__SASL_PASSWORD", "hush-1")
    monkeypatch.setenv("CHORUS_REDIS_URL", "redis://:hush-2@h/0")
    settings = load_settings()
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


HOOK = {"name": "pager", "url": "https://host/hush-1", "secret": "hush-2"}


def test_receivers_come_as_json_or_from_the_file(monkeypatch, tmp_path):
    """Their addresses and secrets are masked; types and format have defaults."""
    file = tmp_path / "chorus.toml"
    file.write_text('[[alerts.webhooks]]\nname = "a"\nurl = "http://h:8080/x"\nformat = "slack"\n')
    monkeypatch.setenv("CHORUS_CONFIG", str(file))
    (hook,) = load_settings().alerts.webhooks
    assert (hook.name, hook.types, hook.format, hook.secret) == ("a", ["*"], "slack", None)
    monkeypatch.setenv("CHORUS_ALERTS__WEBHOOKS", json.dumps([HOOK]))
    settings = load_settings()
    assert settings.alerts.webhooks[0].url.get_secret_value() == "https://host/hush-1"
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ([{**HOOK, "url": "ftp://host/hush"}], "WEBHOOKS__0__URL: not an address of the web"),
        ([{**HOOK, "url": "https://"}], "WEBHOOKS__0__URL: not an address of the web"),
        ([{**HOOK, "url": "https://h:99999"}], "WEBHOOKS__0__URL: not an address of the web"),
        ([HOOK, HOOK], "2 of them have the name pager: give each its own"),
        ([{**HOOK, "name": "Pager 1"}], "WEBHOOKS__0__NAME: "),
        ([{**HOOK, "secret": ""}], "WEBHOOKS__0__SECRET: "),
        ([{**HOOK, "types": []}], "WEBHOOKS__0__TYPES: "),
        ([{**HOOK, "format": "pigeon"}], "WEBHOOKS__0__FORMAT: "),
        ([{**HOOK, "token": "hush"}], "unknown setting CHORUS_ALERTS__WEBHOOKS__0__TOKEN"),
        ("{", "CHORUS_ALERTS__… does not hold the JSON that it should"),
    ],
)
def test_receivers_that_cannot_be_used(monkeypatch, hooks, said):
    """One sentence that names the key, and nothing of an address or a secret."""
    text = hooks if isinstance(hooks, str) else json.dumps(hooks)
    monkeypatch.setenv("CHORUS_ALERTS__WEBHOOKS", text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("link", ["nowhere", "https://h/{member}", "https://h/{suite"])
def test_links_that_cannot_be_used(monkeypatch, link):
    """An address of the web, with braces around what is filled in only."""
    monkeypatch.setenv("CHORUS_ALERTS__LINK", link)
    with pytest.raises(ConfigError, match="CHORUS_ALERTS__LINK: "):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "CHORUS_ALERTS__RETRY_LONGEST",
            "5",
            "it is 5ms, and has to be at least 10ms: write it with its unit, like 5s",
        ),
        ("CHORUS_ALERTS__TIMEOUT", "5m", "it is 5m, and has to be at most 1m: write it with its unit"),
        ("CHORUS_KAFKA__TRANSACTION_TIMEOUT", "10", "it is 10ms, and has to be at least 1s"),
        ("CHORUS_BACKFILL__CHECK_EVERY", "9ms", "it is 9ms, and has to be at least 10ms"),
    ],
)
def test_bounds_of_durations_are_told_with_their_units(monkeypatch, name, value, sentence):
    """A bare number is milliseconds, and that is what it is taken for."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name}: {sentence}"):
        load_settings()
