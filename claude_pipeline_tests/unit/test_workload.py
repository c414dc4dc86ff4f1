"""What a workload may say, and the sentence for what it may not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from claude_pipeline import workload as module
from claude_pipeline.cadence import cadence_of, partition_of
from claude_pipeline.catalog import load
from claude_pipeline.components.partition import snapshot_partitions
from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import SIZE_MAX_BYTES, read_workload
from claude_pipeline_tests.factory import attributes, make_workload

SCHEMA = {"type": "object", "properties": {"queue": {"type": "string"}}, "required": ["queue"]}

REFUSED: list[Any] = [
    pytest.param({"name": "Notes"}, r"name: 'Notes' must match \[a-z\]", id="name-capital"),
    pytest.param({"name": "n" * 64}, "name: .* must match", id="name-too-long"),
    pytest.param({"name": "notes\n"}, "name: .* must match", id="name-newline"),
    pytest.param({"name": "ops"}, "name: 'ops' is a name of the product itself", id="name-reserved"),
    pytest.param({"name": 5}, "name: input should be a valid string, got 5", id="name-a-number"),
    pytest.param({"model": None}, "give exactly one of model:, route: and cascade:", id="model-missing"),
    pytest.param({"dataset": {}}, "dataset: give either path: or sql:", id="dataset-without-source"),
    pytest.param({"dataset": {"path": "a", "sql": "b"}}, "dataset: give either path: or sql:", id="dataset-two"),
    pytest.param({"dataset": {"path": "a", "database": "b"}}, "database: needs sql:", id="database-without-sql"),
    pytest.param({"dataset": {"path": "a", "format": "xml"}}, "dataset.format: input should be", id="format"),
    pytest.param({"dataset": {"path": "a", "delimiter": "ab"}}, "dataset.delimiter: .*at most 1", id="delimiter"),
    pytest.param({"prompt": None}, "give either prompt: or prompt_file:", id="prompt-missing"),
    pytest.param({"prompt_file": "p.txt"}, "give either prompt: or prompt_file:", id="prompt-twice"),
    pytest.param({"prompt": " \n"}, "prompt: is blank", id="prompt-blank"),
    pytest.param({"system": "Sort {{ text }}"}, "system: is sent as it is", id="system-with-columns"),
    pytest.param({"system": " "}, "system: is blank; leave it out", id="system-blank"),
    pytest.param({"max_tokens": 0}, "max_tokens: .*greater than or equal to 1, got 0", id="max-tokens-zero"),
    pytest.param({"max_tokens": "256"}, "max_tokens: .*valid integer, got '256'", id="max-tokens-text"),
    pytest.param({"params": {"stream": True}}, "params: stream cannot be used: a batch cannot", id="params-refused"),
    pytest.param({"params": {"temperature": 0}}, "params: temperature cannot be used", id="params-sampling"),
    pytest.param({"params": {"system": "x"}}, "params: system has a field of its own: system:", id="params-own"),
    pytest.param({"output": {"type": "string"}}, "output: must be a JSON Schema with type: object", id="output-type"),
    pytest.param({"output": {"type": "object", "properties": {}}}, "output: must be", id="output-no-properties"),
    pytest.param({"output": {**SCHEMA, "required": ["q"]}}, "output: required names 'q'", id="output-required"),
    pytest.param(
        {"output": SCHEMA, "params": {"output_config": {"format": {}}}}, "ask for two formats", id="output-twice"
    ),
    pytest.param({"deadline_hours": 0}, "deadline_hours: .*greater than 0", id="deadline"),
    pytest.param({"chunk": {"requests": 100_001}}, "chunk.requests: .*100000, got 100001", id="chunk-requests"),
    pytest.param({"chunk": {"bytes": 256_000_000}}, "chunk.bytes: .*less than 256000000", id="chunk-bytes"),
    pytest.param({"budget_usd": 0}, "budget_usd: .*greater than 0", id="budget"),
    pytest.param({"max_rounds": 11}, "max_rounds: .*less than or equal to 10", id="rounds"),
    pytest.param({"max_reject_ratio": 1.5}, "max_reject_ratio: .*less than or equal to 1", id="reject-ratio"),
    pytest.param({"schedule": "0 2 * *"}, "schedule: '0 2 \\* \\*' is no cron line", id="schedule"),
    pytest.param({"timezone": "Mars/Base"}, "timezone: 'Mars/Base' is no time zone", id="timezone"),
    pytest.param({"partition": "yearly"}, "partition: input should be 'hourly', 'daily'", id="partition"),
    pytest.param(
        {"partition": "hourly", "schedule": "0 2 * * *"}, "partition: hourly is finer than the schedule", id="finer"
    ),
    pytest.param({"start_date": "soon"}, "start_date: input should be a valid date", id="start-date"),
    pytest.param({"modle": "x"}, r"unknown field modle \(did you mean model\?\)", id="unknown-near"),
    pytest.param({"zzz": 1}, r"unknown field zzz \(known: name, dataset", id="unknown-far"),
    pytest.param(
        {"dataset": {"path": "a", "pth": 1}}, r"unknown field dataset.pth \(did you mean path", id="unknown-inner"
    ),
    pytest.param({"api_key": "x"}, "the key is read from ANTHROPIC_API_KEY only", id="a-key"),
    pytest.param({"lane": "fast"}, "lane: input should be 'batch', 'realtime' or 'auto'", id="lane"),
    *(pytest.param({name: 1}, f"{name}: not yet: ", id=f"not-yet-{name}") for name in module.NOT_YET),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_a_wrong_field_is_refused_with_its_name_and_the_way_out(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence) as refused:
        make_workload(**change)
    assert "\n" not in str(refused.value).replace("notes\n", "")


def test_a_key_in_a_file_is_not_repeated_in_the_error() -> None:
    with pytest.raises(WorkloadInvalid) as refused:
        make_workload(api_key="sk-secret")
    assert "sk-secret" not in str(refused.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(WorkloadInvalid) as refused:
        make_workload(max_tokens=0, budget_usd=-1, promt="x")
    assert all(word in str(refused.value) for word in ("max_tokens", "budget_usd", "promt"))


ODD: list[Any] = [
    pytest.param({"output": {**SCHEMA, "required": None}}, id="required-null"),
    pytest.param({"output": {**SCHEMA, "required": 1}}, id="required-a-number"),
    pytest.param({"output": SCHEMA, "params": {"output_config": None}}, id="output-config-null"),
    pytest.param({"output": SCHEMA, "params": {"output_config": 5}}, id="output-config-a-number"),
    pytest.param({"output": {"type": "object", "properties": {"a": {"type": "strin"}}}}, id="no-json-schema"),
    pytest.param({"output": {"type": "object", "properties": {"a": 3}}}, id="property-a-number"),
    pytest.param({"output": {"type": "object", "properties": {1: {"type": "string"}}}}, id="property-named-1"),
]


@pytest.mark.parametrize("change", ODD)
def test_an_unusable_output_is_refused_before_anything_is_paid(change: dict[str, Any]) -> None:
    # It came out as a stack trace, or (an invalid schema) only when paid results were parsed.
    with pytest.raises(WorkloadInvalid, match="output"):
        make_workload(**change)


def test_defaults_are_those_of_the_readme() -> None:
    workload = Workload.from_attributes({k: v for k, v in attributes().items() if k not in ("chunk", "max_tokens")})
    assert (workload.max_tokens, workload.max_rounds, workload.reuse) == (1024, 3, True)
    assert (workload.chunk.requests, workload.chunk.bytes) == (10_000, 250_000_000)
    assert (workload.lane, workload.cadence, workload.timezone, workload.budget_usd) == ("auto", "daily", "UTC", None)


def test_the_limits_of_a_batch_are_the_catalogues() -> None:
    limits = load().limits
    assert limits.requests_per_batch == module.REQUESTS_PER_BATCH_MAX
    assert limits.bytes_per_batch == module.BYTES_PER_BATCH_MAX


CADENCES: list[Any] = [
    ("0 2 * * *", "daily"),
    ("*/15 * * * *", "hourly"),
    ("0 * * * *", "hourly"),
    ("0 */6 * * *", "hourly"),
    ("0 2,14 * * *", "hourly"),
    ("0 9-17 * * *", "hourly"),
    ("30 6 * * 1", "weekly"),
    ("30 6 * * MON", "weekly"),
    ("30 6 * * 1-5", "daily"),
    ("0 0 1 * *", "monthly"),
    ("0 0 L * *", "monthly"),
    ("0 * 1 * *", "hourly"),
    ("0 2 1,15 * *", "daily"),
    ("@daily", None),
    ("0 2 * * * *", None),
    ("", None),
    ("0 2 * * !", None),
]


@pytest.mark.parametrize(("cron", "cadence"), CADENCES, ids=[cron or "empty" for cron, _ in CADENCES])
def test_a_cron_line_has_this_cadence(cron: str, cadence: str | None) -> None:
    assert cadence_of(cron) == cadence


def test_the_partition_may_be_coarser_than_the_schedule() -> None:
    assert make_workload(schedule="0 2 * * *", partition="weekly").cadence == "weekly"
    assert make_workload(schedule="0 * * * *").cadence == "hourly"


MOMENTS = [
    datetime(2026, 11, 22, 14, 30, tzinfo=UTC),
    datetime(2026, 11, 22, 0, 0, tzinfo=UTC),
    datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 1, 4, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # an hour into summer time in Europe
    datetime(2026, 6, 30, 22, 30, tzinfo=UTC),
    datetime(2026, 12, 31, 18, 45, tzinfo=UTC),
]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland"])
@pytest.mark.parametrize("cadence", ["hourly", "daily", "weekly", "monthly"])
def test_a_moment_lies_in_the_partition_that_dagster_gives_it(cadence: Any, zone: str) -> None:
    workload = make_workload(partition=cadence, timezone=zone, start_date="2026-01-04")
    definition = snapshot_partitions(workload)
    for moment in MOMENTS:
        key = partition_of(workload.cadence, workload.timezone, moment)
        with dg.partition_loading_context(moment):
            window = definition.time_window_for_partition_key(key)
            assert key in definition.get_partition_keys()[-2:]  # the running one is loaded
        assert window.start <= moment < window.end


YAML = """\
type: claude_pipeline.ClaudeWorkload
attributes:
  name: notes
  dataset: {path: notes.jsonl}
  model: claude-haiku-5-5
  prompt: "{{ text }}"
"""
BROKEN: list[Any] = [
    pytest.param(YAML + "  name: other\n", r"line 7: key 'name' given twice \(first in line 3\)", id="key-twice"),
    pytest.param(YAML + "  params: &a {}\n", "line 7: anchors are not allowed", id="anchor"),
    pytest.param(YAML + "\tmax_tokens: 1\n", "YAML wants spaces, not tabs", id="tab"),
    pytest.param(YAML.replace("notes\n", "!!python/name:os.system x\n", 1), "could not determine a constructor", id="tag"),
    pytest.param(YAML.replace("ClaudeWorkload", "Workload"), "type: must be claude_pipeline.Claude", id="wrong-type"),
    pytest.param(YAML.splitlines()[0], "attributes: is missing", id="no-attributes"),
    pytest.param("type: claude_pipeline.ClaudeWorkload\nattributes: 5\n", "attributes: is missing", id="odd-attributes"),
    pytest.param(YAML + "name: notes\n", "unknown top-level key 'name'; .* under attributes:", id="top-level-key"),
    pytest.param("- a\n", "is no workload: a workload is a YAML mapping", id="a-list"),
    pytest.param("", "is no workload: a workload is a YAML mapping", id="empty"),
    pytest.param(YAML + "---\n" + YAML, "but found another document", id="two-documents"),
    pytest.param("{" * 40, "line 1", id="unclosed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), BROKEN)
def test_a_broken_file_is_refused_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text(text)
    with pytest.raises(WorkloadInvalid, match=sentence) as refused:
        read_workload(file)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    file.write_bytes(YAML.replace("text", "tëxt").encode("latin-1"))
    with pytest.raises(WorkloadInvalid, match="is not UTF-8; convert it"):
        read_workload(file)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text("#" * (SIZE_MAX_BYTES + 1))
    with pytest.raises(WorkloadInvalid, match="is 1,000,001 bytes; a workload file has at most 1,000,000"):
        read_workload(file)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(WorkloadInvalid, match=r"cannot read it \(No such file"):
        read_workload(tmp_path / "none.yaml")


def test_a_folder_means_its_defs_yaml_and_prompt_file_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_text(YAML.replace('prompt: "{{ text }}"', "prompt_file: p.txt"))
    (tmp_path / "p.txt").write_text("Sort: {{ text }}\n")
    workload = read_workload(tmp_path)
    assert workload.source == tmp_path / "defs.yaml"
    assert workload.template() == "Sort: {{ text }}\n"


PROMPT_FILES: list[Any] = [
    pytest.param(None, "cannot read", id="missing"),
    pytest.param(b" \n", "is empty", id="empty"),
    pytest.param(b"\xff", "is not UTF-8", id="not-utf8"),
]


@pytest.mark.parametrize(("content", "sentence"), PROMPT_FILES)
def test_an_unusable_prompt_file_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "p.txt").write_bytes(content)
    workload = make_workload(prompt=None, prompt_file="p.txt").at(tmp_path / "defs.yaml")
    with pytest.raises(WorkloadInvalid, match=f"prompt_file: .*{sentence}"):
        workload.template()


MISTAKES: list[Any] = [
    pytest.param({"params": {"foo": 1}}, r"foo is no param of a batch", id="unknown-param"),
    pytest.param({"params": {"thinkin": {}}}, r"did you mean thinking\?", id="misspelt-param"),
    pytest.param({"params": {"thinking": True}}, r"thinking must be a mapping", id="param-of-another-type"),
    pytest.param({"params": {"tool_choice": {"type": "any"}}}, r"cannot force a tool", id="forced-tool"),
    pytest.param({"dataset": "rows.csv"}, r"dataset: must be a mapping as \{path: data.csv\}", id="dataset-a-text"),
]


@pytest.mark.parametrize(("change", "sentence"), MISTAKES)
def test_a_newcomers_mistake_gets_a_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence):
        make_workload(**change)


def test_a_prompt_without_quotes_gets_a_sentence(tmp_path: Path) -> None:
    # YAML reads {{ text }} as a mapping in a mapping; it once ended in a stack trace.
    path = tmp_path / "defs.yaml"
    path.write_text("type: claude_pipeline.ClaudeWorkload\nattributes:\n  prompt: {{ text }}\n", encoding="utf-8")
    with pytest.raises(WorkloadInvalid, match="quote text that begins with a brace"):
        read_workload(path)
