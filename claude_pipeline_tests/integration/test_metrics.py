"""What Prometheus scrapes: parsed by its own library, equal to what the ledger and the invoice say."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import note, sent_chunks, workload_over

LABELS = ("workload", "model", "lane", "state", "kind", "cache")
Samples = dict[tuple[str, ...], float]


def scraped(desk: Desk) -> Samples:
    """Samples by name and label values."""
    from prometheus_client import generate_latest

    from claude_pipeline.cli.prometheus import registry_over

    return parsed(generate_latest(registry_over(desk.ledger, desk.clock)).decode())


def parsed(text: str) -> Samples:
    samples = [sample for family in families(text) for sample in family.samples]
    return {(s.name, *(s.labels[name] for name in LABELS if name in s.labels)): s.value for s in samples}


def test_an_empty_ledger_says_so(desk: Desk) -> None:
    found = scraped(desk)
    assert found[("claude_pipeline_up",)] == 1
    assert found[("claude_pipeline_account_stopped",)] == 0


def test_totals_equal_the_invoice(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    notes = workload_over(tmp_path, [note(n) for n in range(20)], lane="batch")
    drive.run(desk, notes, lambda: simulator.clock.advance(BATCH_SECONDS))

    found, invoice, lane = scraped(desk), simulator.invoice(), desk.ledger.billed()[0][:3]

    assert found[("claude_pipeline_billed_requests_total", *lane)] == invoice["billed_requests"] == 20
    assert found[("claude_pipeline_cost_usd_total", *lane)] == pytest.approx(float(invoice["total_usd"]))
    assert found[("claude_pipeline_records_succeeded", "notes")] == 20
    assert found[("claude_pipeline_chunks", "notes", "done")] == 2
    assert found == scraped(desk)  # a scrape changes nothing


def test_the_age_of_a_batch_and_what_is_left_are_of_the_moment_of_the_scrape(
    desk: Desk, tmp_path: Path, clock: MovableClock, simulator: Simulator
) -> None:
    sent_chunks(desk, workload_over(tmp_path, [note(n) for n in range(20)], lane="batch"))
    clock.at = desk.ledger.batches(unended=True)[0].created_at
    clock.advance(6 * 3600)

    found = scraped(desk)

    assert found[("claude_pipeline_batches_in_flight", "notes")] == 2
    assert found[("claude_pipeline_oldest_batch_age_seconds", "notes")] == 6 * 3600
    assert found[("claude_pipeline_least_sla_left_seconds", "notes")] == 18 * 3600


def test_rates_of_batches_are_what_ended_within_the_hour(
    desk: Desk, tmp_path: Path, clock: MovableClock, simulator: Simulator
) -> None:
    notes = workload_over(tmp_path, [note(n) for n in range(20)], lane="batch")
    drive.run(desk, notes, lambda: simulator.clock.advance(BATCH_SECONDS))
    clock.at = max(b.ended_at for b in desk.ledger.batches() if b.ended_at)
    lane = desk.ledger.billed()[0][:3]

    assert scraped(desk)[("claude_pipeline_requests_per_minute", *lane)] == pytest.approx(20 / 60)
    clock.advance(2 * 3600)
    assert ("claude_pipeline_requests_per_minute", *lane) not in scraped(desk)


def test_the_command_serves_on_this_machine_and_writes_a_file(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tool = [sys.executable, "-m", "claude_pipeline.cli", "metrics", "--home", home]
    file = tmp_path / "claude.prom"
    assert subprocess.run([*tool, "--to", str(file)], check=False).returncode == 0

    with subprocess.Popen([*tool, "--port", str(port)], stderr=subprocess.PIPE) as serving:
        assert serving.stderr is not None
        assert f"127.0.0.1:{port}/metrics".encode() in serving.stderr.readline()
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        serving.send_signal(2)
        assert serving.wait(20) == 0

    assert parsed(text) == parsed(file.read_text())
    assert parsed(text)[("claude_pipeline_up",)] == 1
