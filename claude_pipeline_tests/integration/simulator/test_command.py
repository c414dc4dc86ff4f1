"""The command as a stranger meets it: help, start, stop, and one sentence for what is wrong."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

COMMAND = [sys.executable, "-c", "from claude_pipeline.cli import main; main()", "simulate"]
HEADERS = {"authorization": "Bearer k", "anthropic-version": "2026-10-21"}


def said(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


def stop(process: subprocess.Popen[str]) -> None:
    """As a person does, so that it tidies up; whatever does not heed that is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    process.kill()


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command, and its base URL."""
    command = [*COMMAND, "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        banner = "".join(process.stdout.readline() for _ in range(4))
        try:
            yield process, banner.partition("ANTHROPIC_BASE_URL=")[2].split()[0]
        finally:
            stop(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("fault", ["", "hang endpoint=models seconds=600", "slow_bytes bytes_per_second=10"])
def test_it_stops_within_a_second_whatever_is_under_way(number: signal.Signals, fault: str) -> None:
    with started(*(["--fault", fault] if fault else [])) as (process, base_url):

        def hang() -> None:
            with suppress(httpx2.HTTPError):
                httpx2.get(f"{base_url}/v1/models", headers=HEADERS, timeout=30)

        caller = threading.Thread(target=hang)
        caller.start()
        while fault and not any(rule["struck"] for rule in httpx2.get(f"{base_url}/_simulator/faults").json()):
            pass
        since = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - since < 1.5  # about 0.5; the rest is for a busy machine
        caller.join()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_busy_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = said("--port", str(port))
    assert answer.returncode == 2
    assert answer.stderr == (
        f"simulator: 127.0.0.1, port {port}: another program listens there; give another --port, or 0 for a free one\n"
    )


WRONG = {
    "tier": (["--tier", "Scal"], "did you mean scale?"),
    "port": (["--port", "99999"], "port is 99999"),
    "speed": (["--speed", "-1"], "speed is -1"),
    "speed-nan": (["--speed", "nan"], "speed is nan"),
    "message-nan": (["--message-seconds", "nan"], "message_seconds is nan"),
    "bounds": (["--batch-seconds", "soon"], "'soon' is not MIN,MAX"),
    "rate": (["--error-rate", "2"], "it is a share, from 0 to 1"),
    "fault": (["--fault", "lost_befor"], "there is none"),
    "file": (["--faults", "nowhere.yaml"], "nowhere.yaml"),
}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_wrong_use_is_told_without_a_trace(arguments: list[str], sentence: str) -> None:
    answer = said(*arguments)
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_help_names_every_tier_and_both_variables() -> None:
    text = said("--help").stdout
    tiers = "start, build, scale, custom, tier1, tier2, tier3, tier4"
    assert tiers in text
    assert "ANTHROPIC_BASE_URL" in text
    assert "ANTHROPIC_API_KEY" in text


def test_it_listens_on_this_machine_only_unless_told() -> None:
    with started() as (_, base_url):
        assert base_url.startswith("http://127.0.0.1:")


def test_a_paused_clock_can_be_asked_for() -> None:
    with started("--paused") as (_, base_url):
        assert httpx2.get(f"{base_url}/_simulator/clock").json()["paused"] is True


def test_the_start_says_that_the_clock_is_paused() -> None:
    with subprocess.Popen([*COMMAND, "--port", "0", "--paused"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        stop(process)
    assert "its clock paused" in first
    assert "in real time" not in first


def test_a_stopped_one_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started():
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_the_clock_goes_on_where_it_stood_after_a_restart(tmp_path: Path) -> None:
    with started("--state", str(tmp_path), "--paused") as (process, base_url):
        before = httpx2.post(f"{base_url}/_simulator/clock", json={"advance_seconds": 86_400}).json()["now"]
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    with started("--state", str(tmp_path), "--paused") as (_, base_url):
        assert httpx2.get(f"{base_url}/_simulator/clock").json()["now"] == before
