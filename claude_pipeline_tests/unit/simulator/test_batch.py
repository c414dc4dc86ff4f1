"""A batch's life as pure decisions over its row and a moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from claude_pipeline.simulator.batch import (
    EXPIRY_US,
    Batch,
    batch_json,
    duration_us,
    end_of,
    finish_moment,
    finished_by,
    finishing_order,
    natural_end,
)
from claude_pipeline.simulator.clock import SECOND_US

MINUTE = 60 * SECOND_US


def batch(**changes: Any) -> Batch:
    """Ten requests, created at 0, due at 100 s."""
    whole = Batch(
        seq=1,
        id="msgbatch_1",
        workspace="w",
        version="2026-10-21",
        betas="",
        created_us=0,
        due_us=100 * SECOND_US,
        cap=10,
        size=10,
        size_bytes=1,
        rules="[]",
        visible_us=0,
        answered=1,
        cancel_us=None,
        ended_us=None,
        deleted=0,
        succeeded=0,
        errored=0,
        canceled=0,
        expired=0,
        billed=0,
        cost_pico=0,
    )
    return replace(whole, **changes)


@pytest.mark.parametrize(("second", "finished"), [(0, 0), (9, 0), (10, 1), (55, 5), (99, 9), (100, 10), (500, 10)])
def test_requests_finish_evenly(second: int, finished: int) -> None:
    assert finished_by(batch(), second * SECOND_US) == finished


def test_a_request_is_finished_at_its_moment() -> None:
    whole = batch()
    assert [finished_by(whole, finish_moment(whole, position)) for position in range(10)] == list(range(1, 11))


def test_a_cancel_ends_a_batch_soon_with_what_is_finished() -> None:
    end = end_of(batch(cancel_us=20 * SECOND_US))
    assert (end.at_us, end.finished, end.rest) == (50 * SECOND_US, 5, "canceled")


def test_a_cancel_near_the_end_cancels_nothing() -> None:
    end = end_of(batch(cancel_us=90 * SECOND_US))
    assert (end.at_us, end.finished) == (100 * SECOND_US, 10)


def test_a_batch_longer_than_a_day_ends_at_its_expiry() -> None:
    assert natural_end(5, 4 * EXPIRY_US, 100) == (5 + EXPIRY_US, 25)


def test_a_batch_within_a_day_finishes_everything() -> None:
    assert natural_end(5, MINUTE, 100) == (5 + MINUTE, 100)


def test_bigger_models_take_longer() -> None:
    def median(line: str) -> int:
        return sorted(duration_us(0, seq, {line: 10_000}, None) for seq in range(101))[50]

    assert median("haiku") * 2 < median("sonnet") < median("opus") < median("fable")


def test_a_duration_stays_within_its_bounds() -> None:
    seconds = [duration_us(0, seq, {"opus": 50_000}, (10, 20)) / SECOND_US for seq in range(100)]
    assert 10 <= min(seconds) < 12
    assert 18 < max(seconds) <= 20


def test_the_finishing_order_holds_each_request_once() -> None:
    order = finishing_order(0, 1, 100)
    assert sorted(order) == list(range(100))
    assert order != sorted(order)


def test_the_finishing_order_follows_from_the_seed() -> None:
    assert finishing_order(3, 1, 50) == finishing_order(3, 1, 50) != finishing_order(4, 1, 50)


def test_counts_are_hidden_while_a_batch_runs() -> None:
    shown = batch_json(batch(succeeded=4, errored=6), 0, "http://h")
    assert shown["request_counts"] == {"processing": 10, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    assert (shown["processing_status"], shown["ended_at"], shown["results_url"]) == ("in_progress", None, None)
