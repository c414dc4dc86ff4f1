"""A fault given from a file, on the command line, by an option, by the admin call: each strikes the SDK's call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.simulator.__main__ import main, options_of
from claude_pipeline_tests.integration.simulator.case import requests
from claude_pipeline_tests.integration.simulator.ways import ask, both_clients

RULE = "lost_after endpoint=create count=1"
COMMANDS = {
    "module": ["-m", "claude_pipeline.simulator"],
    "product": ["-c", "import sys; from claude_pipeline.cli import main; sys.exit(main())", "simulate"],
}


@contextmanager
def started(*arguments: str) -> Iterator[str]:
    """The base URL of a simulator in a process of its own."""
    command = [sys.executable, *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as it:
        try:
            assert it.stdout is not None
            yield next(line for line in it.stdout if "BASE_URL" in line).strip().partition("=")[2]
        finally:
            it.terminate()


def struck(base_url: str) -> dict[str, int]:
    return {rule["kind"]: rule["struck"] for rule in httpx2.get(f"{base_url}/_simulator/faults").json()}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_rule_on_the_command_line_strikes(command: str) -> None:
    with started(*COMMANDS[command], "--fault", RULE, "--fault", "529 endpoint=list") as base_url:
        with anthropic.Anthropic(base_url=base_url, api_key="k", max_retries=0) as client:
            with pytest.raises(anthropic.APIConnectionError):
                client.messages.batches.create(requests=requests(1))
            with pytest.raises(anthropic.OverloadedError):
                client.messages.batches.list()
        assert struck(base_url) == {"lost_after": 1, "status": 1}


def test_a_file_and_the_command_line_add_up(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {kind: 500, endpoint: list}\n- early_404 count=3\n")
    options = options_of(["--faults", str(path), "--fault", RULE])
    with running(Options(faults=options.faults)) as simulator:
        assert [rule["kind"] for rule in simulator.faults.as_json()] == ["status", "status", "lost_after"]


@both_clients
def test_a_rule_in_a_file_strikes(tmp_path: Path, way: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {kind: 504, endpoint: list, count: 1}\n")
    with running(Options(faults=path)) as simulator:
        with pytest.raises(anthropic.APIStatusError) as refused:
            ask(way, simulator, lambda client: client.messages.batches.list())
        assert refused.value.status_code == 504


@both_clients
@pytest.mark.parametrize("rule", [{"kind": 409, "endpoint": "list"}, "409 endpoint=list"], ids=["object", "text"])
def test_a_rule_by_the_admin_call_strikes(simulator: Simulator, way: str, rule: Any) -> None:
    httpx2.post(f"{simulator.base_url}/_simulator/faults", json=rule).raise_for_status()
    with pytest.raises(anthropic.ConflictError):
        ask(way, simulator, lambda client: client.messages.batches.list())


def test_the_admin_call_takes_the_rules_away(simulator: Simulator) -> None:
    simulator.faults.add(kind=500, endpoint="list")
    httpx2.delete(f"{simulator.base_url}/_simulator/faults").raise_for_status()
    assert ask("sync", simulator, lambda client: client.messages.batches.list()).data == []


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        pytest.param({"kind": "lost_afer"}, "nearest: lost_after", id="kind"),
        pytest.param({"kind": "hang", "second": 3}, "nearest: seconds", id="field"),
        pytest.param({"kind": 500, "endpoint": "retreive"}, "nearest: retrieve", id="endpoint"),
        pytest.param(7, "give an object", id="number"),
        pytest.param({"kind": 500, "count": "many"}, "give a whole number", id="value"),
    ],
)
def test_the_admin_call_refuses_what_it_does_not_know(simulator: Simulator, rule: Any, sentence: str) -> None:
    answer = httpx2.post(f"{simulator.base_url}/_simulator/faults", json=rule)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert simulator.faults.as_json() == []


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        pytest.param("lost_afer", "nearest: lost_after", id="kind"),
        pytest.param("hang second=3", "nearest: seconds", id="field"),
        pytest.param("hang seconds", "write name=value", id="no-value"),
    ],
)
def test_the_command_line_refuses_what_it_does_not_know(
    capsys: pytest.CaptureFixture[str], rule: str, sentence: str
) -> None:
    assert main(["--port", "0", "--fault", rule]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("- {kind: hangs}\n", "nearest: hang", id="kind"),
        pytest.param("kind: hang\n", "expected a list", id="no-list"),
        pytest.param("- {kind: hang\n", "no YAML", id="no-yaml"),
    ],
)
def test_a_file_that_cannot_be_read_stops_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    assert main(["--port", "0", "--faults", str(path)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("again", ["cleared", "started-anew"])
def test_a_rule_with_a_seed_strikes_the_same_calls_again(simulator: Simulator, again: str) -> None:
    def strikes(of: Simulator) -> list[int]:
        of.faults.add(kind="500", endpoint="list", probability=0.5, seed=3)
        url, headers = f"{of.base_url}/v1/messages/batches", {"x-api-key": "k", "anthropic-version": "2023-06-01"}
        return [httpx2.get(url, headers=headers).status_code for _ in range(20)]

    first = strikes(simulator)
    simulator.faults.clear()
    if again == "cleared":
        second = strikes(simulator)
    else:
        with running(Options()) as other:
            second = strikes(other)
    assert set(first) == {200, 500}
    assert second == first
