"""Dead letters asked again, all or by reason: by the stages, by the command line, by one click in the UI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from claude_pipeline.errors import UsageError
from claude_pipeline.home import Home
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.retry import retry
from claude_pipeline.workload import Workload
from claude_pipeline_tests.acceptance.test_flow import PARTITION as DAY
from claude_pipeline_tests.acceptance.test_flow import Miniature
from claude_pipeline_tests.acceptance.test_flow import workload as reviews
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import asked, note, prepared_snapshot, send_ready, sent_chunks, workload_over
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file
from claude_pipeline_tests.integration.hand_case import calmly, check_costs, reasons
from claude_pipeline_tests.integration.submit_case import creates

both_databases = pytest.mark.both_databases


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks, asked once."""
    return workload_over(tmp_path, [note(n) for n in range(30)], max_rounds=1)


def with_dead(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> dict[str, int]:
    """A merged snapshot whose first chunk was refused, with lines that died of two reasons."""
    simulator.faults.add(kind=404, endpoint="create", error_type="not_found_error", count=1)
    simulator.faults.add(kind="line_error", error_type="overloaded_error", share=0.4, attempts=1, seed=1)
    simulator.faults.add(kind="line_error", error_type="invalid_request_error", share=0.3, attempts=1, seed=2)
    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)
    simulator.faults.clear()
    found = reasons(desk)
    assert set(found) == {"invalid_request_error", "overloaded_error", "not_found_error"}
    return found


@both_databases
def test_all_dead_letters_are_asked_again_and_each_attempt_is_billed_once(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    dead = with_dead(desk, workload, simulator, clock)

    done = retry(desk, workload)
    assert (done.requests, dict(done.left)) == (sum(dead.values()), {})
    calmly(desk, workload, simulator, clock)

    assert reasons(desk) == {}
    assert asked(desk, "SELECT count(answer), count(*) FROM notes.results") == [(30, 30)]
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (30, 0)
    check_costs(desk, simulator)


def test_one_reason_is_asked_again_and_the_others_stay(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    dead = with_dead(desk, workload, simulator, clock)

    done = retry(desk, workload, reason="overloaded_error")

    assert done.requests == dead.pop("overloaded_error")
    calmly(desk, workload, simulator, clock)
    assert reasons(desk) == dead


def test_what_was_never_accepted_goes_as_the_chunk_it_was(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    with_dead(desk, workload, simulator, clock)
    before = [chunk.key for chunk in desk.ledger.chunks("notes")]

    assert retry(desk, workload, reason="not_found_error").requests == 10
    calmly(desk, workload, simulator, clock)

    assert [chunk.key for chunk in desk.ledger.chunks("notes")] == before
    assert "not_found_error" not in reasons(desk)


def test_attempt_numbers_rise(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    with_dead(desk, workload, simulator, clock)
    retry(desk, workload, reason="overloaded_error")
    calmly(desk, workload, simulator, clock)

    attempts = asked(
        desk,
        "SELECT DISTINCT list(attempt ORDER BY attempt) FROM notes.attempts GROUP BY record_id HAVING count(*) > 1",
    )

    assert attempts == [([1, 2],)]


@pytest.mark.parametrize("accepted", [True, False], ids=["asked-before", "never-accepted"])
def test_rounds_are_given_anew(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path, accepted: bool
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)], max_rounds=2)
    fault: dict[str, Any] = {"kind": "line_error", "share": 1.0} if accepted else {"kind": 400, "endpoint": "create"}
    simulator.faults.add(**fault)
    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)
    simulator.faults.clear()
    simulator.faults.add(kind="line_error", share=1.0, attempts=1)

    retry(desk, workload)
    calmly(desk, workload, simulator, clock)  # its first round fails once more, its second is answered

    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(10,)]


def test_a_retry_that_is_refused_shows_the_newer_reason(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    with_dead(desk, workload, simulator, clock)
    simulator.faults.add(kind=400, endpoint="create", error_type="invalid_request_error", message="too odd")

    retry(desk, workload, reason="not_found_error")
    calmly(desk, workload, simulator, clock)

    assert "not_found_error" not in reasons(desk)


def test_an_unknown_reason_is_refused_with_those_there_are(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    dead = with_dead(desk, workload, simulator, clock)
    with pytest.raises(UsageError, match="no dead letter of the reason 'nonsense'") as told:
        retry(desk, workload, reason="nonsense")
    assert all(f"{name} {count}" in str(told.value) for name, count in dead.items())


def test_a_snapshot_without_dead_letters_has_nothing_to_retry(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)
    with pytest.raises(UsageError, match=r"has no dead letter \(by reason: none\)"):
        retry(desk, workload)


@both_databases
def test_a_snapshot_on_its_way_is_refused(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    sent_chunks(desk, workload)
    with pytest.raises(UsageError, match=r"still on its way \(3 chunks"):
        retry(desk, workload)
    assert creates(simulator) == {"200": 3}


def test_what_was_perhaps_paid_is_asked_again_only_by_name(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="malformed_lines", share=0.2)
    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)
    dead = reasons(desk)
    assert set(dead) == {"unreadable_result"}
    simulator.faults.clear()

    with pytest.raises(UsageError, match="may have been paid: name the reason"):
        retry(desk, workload)
    assert retry(desk, workload, reason="unreadable_result").requests == dead["unreadable_result"]
    calmly(desk, workload, simulator, clock)

    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(30,)]


def test_a_changed_prompt_is_refused_with_the_way_out(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    with_dead(desk, workload, simulator, clock)
    changed = workload.model_copy(update={"prompt": "Judge: {{ text }}"})
    chunks = len(desk.ledger.chunks("notes"))

    with pytest.raises(UsageError, match="materialize its requests instead"):
        retry(desk, changed)

    assert len(desk.ledger.chunks("notes")) == chunks
    assert send_ready(desk, workload).sent == []


def test_a_retry_repeated_at_once_asks_nothing_twice(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    with_dead(desk, workload, simulator, clock)
    retry(desk, workload)
    with pytest.raises(UsageError, match="still on its way"):
        retry(desk, workload)


# Through the command line.


def test_the_command_asks_again_and_waits_for_the_answers(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = CommandLine(capsys, monkeypatch)
    file = str(workload_file(tmp_path, max_rounds=1))
    with running(Options(speed=600, batch_seconds=(200, 200), seed=3)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        monkeypatch.setenv("CLAUDE_PIPELINE_HOME", str(home.root))
        simulator.faults.add(kind="line_error", share=0.4, attempts=1)
        assert line("run", file, "--poll-seconds", "0.1").code == 1

        wrong = line("retry", file, "--reason", "nonsense")
        assert (wrong.code, "by reason: overloaded_error" in wrong.last) == (2, True)
        said = line("retry", file, "--reason", "overloaded_error", "--poll-seconds", "0.1")

        assert (said.code, "requests are asked again" in said.err) == (0, True)
        assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (20, 0)


# Through the UI's asset.


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with running(Options(paused=True, batch_seconds=(60, 60), seed=3)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        monkeypatch.setenv("CLAUDE_PIPELINE_SETTLE_SECONDS", "0")
        yield simulator


def materialized(mini: Miniature, *leaves: str) -> bool:
    """As a person does in the UI: these assets of one partition together."""
    result = mini.repository.get_job("__ASSET_JOB").execute_in_process(
        asset_selection=[dg.AssetKey(["reviews", leaf]) for leaf in leaves],
        partition_key=DAY,
        instance=mini.instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    return bool(result.success)


def test_the_dead_letters_asset_alone_asks_again_and_with_others_only_counts(tmp_path: Path, slow: Simulator) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        mini = Miniature([reviews(tmp_path, max_rounds=1)], tmp_path / "home", instance)
        slow.faults.add(kind="line_error", share=0.3, attempts=1)
        mini.run("reviews_requests", DAY)
        mini.turns(slow)
        ((dead,),) = mini.rows("SELECT count(*) FROM reviews.dead_letters")
        assert dead > 0

        assert materialized(mini, "dead_letters", "merged")
        assert mini.turns(slow) == []
        assert materialized(mini, "dead_letters")
        ran = mini.turns(slow)

        assert ran == [f"reviews_{kind}" for kind in ("submit", "collect", "finalize")]
        assert mini.rows("SELECT count(answer) FROM reviews.latest") == [(40,)]
        assert f"{DAY}.1|r2-0001" in mini.materialized("reviews", "results")
        assert (slow.invoice()["billed_requests"], slow.invoice()["billed_twice"]) == (40, 0)
