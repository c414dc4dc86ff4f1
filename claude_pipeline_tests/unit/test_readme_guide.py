"""Every command, field, variable and table that the README's mapping of the scaling guide names exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from claude_pipeline import settings
from claude_pipeline.cli import COMMANDS, cli
from claude_pipeline.warehouse import ops
from claude_pipeline.workload import Workload

README = Path(__file__).resolve().parents[2] / "README.md"
TITLE = "## The scaling guide, mapped"
SECTION = README.read_text(encoding="utf-8").partition(TITLE)[2].partition("\n## ")[0]
SPANS = sorted(set(re.findall(r"`([^`]+)`", SECTION)))
# Words of the API or of Dagster, which nothing here defines.
OTHERS = {"anthropic-ratelimit-*", "claude-ratelimit-*", "invalid_request_error", "summary"}
STRATEGIES = [
    "Message Batches",
    "queue with bounded concurrency",
    "tiers",
    "model by complexity",
    "monitoring",
    "errors",
]
CHANGES = ["100,000 or 256 MB", "queued requests", "Start, Build, Scale and Custom", "anthropic-ratelimit-*", "assumed"]


def spans(pattern: str) -> list[str]:
    return [span for span in SPANS if re.match(pattern, span)]


COMMAND_SPANS, FIELD_SPANS = spans("claude-pipeline "), spans(r"[a-z_]+:")
VARIABLE_SPANS, TABLE_SPANS = spans("CLAUDE_PIPELINE_"), spans(r"ops\.")


@pytest.mark.parametrize("words", [*STRATEGIES, *CHANGES])
def test_it_takes_the_guides_strategies_and_what_changed_since(words: str) -> None:
    assert words in SECTION


def test_each_word_in_code_is_of_a_kind_that_is_checked() -> None:
    assert set(SPANS) == {*COMMAND_SPANS, *FIELD_SPANS, *VARIABLE_SPANS, *TABLE_SPANS, *OTHERS}


@pytest.mark.parametrize("span", COMMAND_SPANS)
def test_each_command_and_its_flags_exist(span: str) -> None:
    name, *rest = span.split()[1:]
    assert name in COMMANDS
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    flags = {flag for param in command.params for flag in param.opts}
    assert {word for word in rest if word.startswith("--")} <= flags


@pytest.mark.parametrize("span", FIELD_SPANS)
def test_each_field_exists(span: str) -> None:
    assert span.partition(":")[0] in Workload.model_fields


@pytest.mark.parametrize("span", VARIABLE_SPANS)
def test_each_variable_is_a_setting(span: str) -> None:
    assert f"`{span}`" in str(settings.__doc__)


@pytest.mark.parametrize("span", TABLE_SPANS)
def test_each_table_is_published(span: str) -> None:
    assert f'"{span.removeprefix("ops.")}",' in Path(str(ops.__file__)).read_text(encoding="utf-8")
