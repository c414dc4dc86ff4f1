"""Results that can never be had, and batches that others canceled: no record is lost from sight, no cost forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import survey
from claude_pipeline.errors import ApiUnclear, UsageError
from claude_pipeline.ledger import BatchId, ChunkState
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.retry import retry
from claude_pipeline.stage.submit import give_up_batch
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock, client_of
from claude_pipeline_tests.factory import asked, ended_batches, note, send_ready, sent_chunks, states, workload_over
from claude_pipeline_tests.integration.hand_case import calmly, check_costs, reasons

both_databases = pytest.mark.both_databases
ARCHIVED_SECONDS = 29 * 86_400 + 60


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


def batch_of(desk: Desk) -> BatchId:
    batch_id = desk.ledger.chunks("notes")[0].batch_id
    assert batch_id is not None
    return batch_id


@pytest.mark.parametrize("known", ["live", "ended"])
def test_results_not_collected_for_29_days_become_dead_letters_with_the_reason(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, known: str
) -> None:
    sent_chunks(desk, workload)
    if known == "ended":
        simulator.clock.advance(BATCH_SECONDS)
        look(desk)
    simulator.clock.advance(ARCHIVED_SECONDS)
    look(desk)

    found = collect(desk, workload)
    calmly(desk, workload, simulator, clock)

    assert len(found.gone) == 1
    assert reasons(desk) == {"results_gone": 10}
    message = asked(desk, "SELECT DISTINCT error_message FROM notes.dead_letters")[0][0]
    assert f"the results of {batch_of(desk)} were archived at the API" in message
    assert "what it answered was paid" in message


@both_databases
def test_what_lost_results_may_have_cost_stays_committed_against_the_budget(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    ended_batches(desk, workload, simulator, seconds=ARCHIVED_SECONDS)
    collect(desk, workload)
    calmly(desk, workload, simulator, clock)
    reserve = desk.ledger.chunks("notes")[0].reserve_units / UNITS_PER_USD

    budgeted = workload.model_copy(update={"budget_usd": 1.5 * reserve})
    retry(desk, budgeted, reason="results_gone")
    assert "would pass budget_usd" in send_ready(desk, budgeted).held[0][1]

    enough = workload.model_copy(update={"budget_usd": 2.1 * reserve})
    assert len(send_ready(desk, enough).sent) == 1


def test_results_gone_are_asked_again_only_by_that_name(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    ended_batches(desk, workload, simulator, seconds=ARCHIVED_SECONDS)
    collect(desk, workload)
    calmly(desk, workload, simulator, clock)

    with pytest.raises(UsageError, match=r"results_gone 10.*may have been paid: name the reason"):
        retry(desk, workload)
    assert retry(desk, workload, reason="results_gone").requests == 10
    calmly(desk, workload, simulator, clock)

    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(10,)]


@both_databases
def test_a_batch_deleted_at_the_api_waits_for_a_persons_word(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    ended_batches(desk, workload, simulator)
    batch_id = batch_of(desk)
    desk.client.sdk.messages.batches.delete(batch_id)

    found = collect(desk, workload)
    assert f"if it was deleted: `claude-pipeline reconcile --gone {batch_id}`" in found.unclear[0][1]
    assert states(desk, workload) == ["ended"]
    said = give_up_batch(desk, batch_id)

    assert "the 10 records of chunk 2026-11-22.1|r1-0001 become dead letters" in said
    calmly(desk, workload, simulator, clock)
    assert reasons(desk) == {"results_gone": 10}


def test_a_live_batch_deleted_at_the_api_is_missed_and_given_up(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    sent_chunks(desk, workload)
    batch_id = batch_of(desk)
    simulator.clock.advance(BATCH_SECONDS)
    desk.client.sdk.messages.batches.delete(batch_id)

    assert look(desk).missing == [batch_id]
    give_up_batch(desk, batch_id)

    calmly(desk, workload, simulator, clock)
    assert reasons(desk) == {"results_gone": 10}


def test_a_batch_that_the_api_still_has_is_not_given_up(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    sent_chunks(desk, workload)
    with pytest.raises(UsageError, match=r"the API still has msgbatch_"):
        give_up_batch(desk, batch_of(desk))
    simulator.faults.add(kind=500, endpoint="retrieve", count=1)
    with pytest.raises(ApiUnclear):
        give_up_batch(desk, batch_of(desk))
    with pytest.raises(UsageError, match="is no batch of this ledger that waits to be collected"):
        give_up_batch(desk, "msgbatch_of_nobody")
    assert states(desk, workload) == ["live"]


@both_databases
def test_a_batch_canceled_by_others_is_asked_again_in_the_next_round(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS / 6)  # a cancel takes half a minute
    other = client_of(simulator)
    other.cancel(batch_of(desk))
    other.close()

    calmly(desk, workload, simulator, clock)

    first, second = desk.ledger.chunks("notes")
    assert first.canceled == second.requests
    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(10,)]
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (10, 0)
    check_costs(desk, simulator)


def test_a_404_of_the_download_for_a_moment_gives_nothing_up(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    ended_batches(desk, workload, simulator)
    simulator.faults.add(kind="early_404", endpoint="results", count=1)
    assert len(collect(desk, workload).unclear) == 1
    assert len(collect(desk, workload).done) == 1
    assert desk.ledger.chunks("notes")[0].state is ChunkState.DONE
    assert survey(replace(desk), workload).ended == 0
