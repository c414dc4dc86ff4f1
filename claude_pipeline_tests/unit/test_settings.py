"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import SettingInvalid
from claude_pipeline.settings import Settings, default_home, is_loopback


def test_without_variables_everything_has_its_default() -> None:
    settings = Settings.from_environment({})
    assert settings.home.root == default_home()
    assert (settings.ledger_url, settings.tier, settings.settle_seconds) == (None, "start", 900.0)
    assert (settings.budget_usd, settings.defs, settings.catalog, settings.batches_in_flight) == (None, None, None, 100)


READ: list[Any] = [
    ("CLAUDE_PIPELINE_LEDGER_URL", "sqlite:///x.db", "ledger_url", "sqlite:///x.db"),
    ("CLAUDE_PIPELINE_TIER", "scale", "tier", "scale"),
    ("CLAUDE_PIPELINE_SETTLE_SECONDS", "1.5", "settle_seconds", 1.5),
    ("CLAUDE_PIPELINE_BUDGET_USD", "12.5", "budget_usd", 12.5),
    ("CLAUDE_PIPELINE_BUDGET_USD", "0", "budget_usd", 0.0),
    ("CLAUDE_PIPELINE_BUDGET_USD", "", "budget_usd", None),
    ("CLAUDE_PIPELINE_DEFS", "/", "defs", Path("/")),
    ("CLAUDE_PIPELINE_CATALOG", "/a/c.yaml", "catalog", Path("/a/c.yaml")),
    ("CLAUDE_PIPELINE_BATCHES_IN_FLIGHT", "3", "batches_in_flight", 3),
    ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8787", "settle_seconds", 10.0),
    ("ANTHROPIC_BASE_URL", "https://api.example.com", "settle_seconds", 900.0),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), READ)
def test_a_variable_is_read(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(Settings.from_environment({variable: text}), field) == value


UNUSABLE: list[Any] = [
    ("CLAUDE_PIPELINE_SETTLE_SECONDS", "soon", "must be a number, got 'soon'"),
    ("CLAUDE_PIPELINE_SETTLE_SECONDS", "-1", "must be at least 0, got -1"),
    ("CLAUDE_PIPELINE_SETTLE_SECONDS", "nan", "must be"),
    ("CLAUDE_PIPELINE_SETTLE_SECONDS", "inf", "must be"),
    ("CLAUDE_PIPELINE_BUDGET_USD", "-5", "must be at least 0"),
    ("CLAUDE_PIPELINE_BUDGET_USD", "ten", "must be a number"),
    ("CLAUDE_PIPELINE_BATCHES_IN_FLIGHT", "0", "must be at least 1"),
    ("CLAUDE_PIPELINE_BATCHES_IN_FLIGHT", "inf", "must be"),
]


@pytest.mark.parametrize(("variable", "text", "sentence"), UNUSABLE)
def test_an_unusable_value_is_refused_with_the_variable(variable: str, text: str, sentence: str) -> None:
    with pytest.raises(SettingInvalid, match=f"{variable} {sentence}"):
        Settings.from_environment({variable: text})


def test_a_home_given_by_flag_wins() -> None:
    settings = Settings.from_environment({"CLAUDE_PIPELINE_HOME": "/a"})
    assert settings.home.root == Path("/a")
    assert settings.with_home(Path("/b")).home.root == Path("/b")
    assert settings.with_home(None) == settings


def test_settings_never_hold_the_key() -> None:
    assert "sk-secret" not in repr(Settings.from_environment({"ANTHROPIC_API_KEY": "sk-secret"}))


HOSTS: list[Any] = [
    ("http://localhost:1", True),
    ("http://127.0.0.1", True),
    ("http://[::1]:80", True),
    ("https://api.anthropic.com", False),
    ("http://localhost.example.com", False),
    ("", False),
]


@pytest.mark.parametrize(("url", "expected"), HOSTS)
def test_this_machine_is_told_from_others(url: str, expected: bool) -> None:
    assert is_loopback(url) == expected
