"""A user's mistake gets one sentence and exit code 2, never a stack trace; machines get one document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    monkeypatch.setenv("CLAUDE_PIPELINE_HOME", str(tmp_path / "home"))
    return CommandLine(capsys, monkeypatch)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["status", "--home", "/proc/none/home"], "cannot be used", id="a-home-that-cannot-be"),
        pytest.param(["status", "--watch", "--every", "0"], "is not in the range", id="no-time-between-looks"),
        pytest.param(["metrics", "--port", "99999"], "is not in the range", id="no-such-port"),
        pytest.param(["metrics", "--to", "/proc/none/x"], "cannot be written", id="metrics-to-nowhere"),
        pytest.param(["ui", "--port", "999999"], "is not in the range", id="no-such-port-for-the-ui"),
        pytest.param(["backup", "--to", "/proc/none/x"], "No such file or directory", id="backup-to-nowhere"),
        pytest.param(["run", "nope"], "there is no workload 'nope'", id="no-such-workload"),
        pytest.param(["plan", "tickets", "--partition", "yesterday"], "has no partition", id="no-such-partition"),
    ],
)
def test_a_mistake_gets_a_sentence(line: CommandLine, words: list[str], said: str) -> None:
    found = line(*words)
    assert (found.code, "Traceback" in found.err) == (2, False)
    assert said in found.last


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.com/secret", "ftp://x/secret", "https://", "secret", "https://a b/secret", "http://[secret"],
)
def test_a_webhook_that_cannot_be_used_is_refused_without_naming_it(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CLAUDE_PIPELINE_WEBHOOK_URL", url)
    found = line("status")
    assert found.code == 2
    assert found.last.startswith("claude-pipeline: CLAUDE_PIPELINE_WEBHOOK_URL must be an https:// URL")
    assert "secret" not in found.err


def test_run_and_status_tell_machines_in_one_document(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, simulator: Simulator
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
    file = workload_file(tmp_path, lane="realtime")

    ran = line("run", str(file), "--json")
    status = line("status", "--watch", "--json")

    assert (ran.code, ran.err, json.loads(ran.out)["succeeded"]) == (0, "", 20)
    (way,) = json.loads(status.out)["now"]["ways"]
    assert (way["workload"], way["done"], way["at_rest"]) == ("notes", 20, True)
