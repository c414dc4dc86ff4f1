"""Alerts over a ledger that lives: noted once, posted once, and nothing of them stops the work."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.alert import TRIES_MAX
from claude_pipeline.controller import survey
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.alert import Told, watch
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import note, sent_chunks, workload_over

HOUR = 3600
SECRET = "/services/T000/very-secret"


@dataclass
class Webhook:
    """A server on loopback that keeps what it is sent."""

    url: str = ""
    status: int = 200
    posts: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Webhook]:
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.posts.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(webhook.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    webhook.url = f"http://127.0.0.1:{server.server_port}{SECRET}"
    try:
        yield webhook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with listening() as webhook:
        yield webhook


@pytest.fixture
def hooked(desk: Desk, webhook: Webhook) -> Desk:
    return replace(desk, settings=replace(desk.settings, webhook_url=webhook.url))


@pytest.fixture
def notes(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, [note(n) for n in range(20)], lane="batch")


def tick(desk: Desk, workload: Workload) -> Told:
    """What the sensor does with alerts."""
    return watch(desk, [workload], {workload.name: survey(desk, workload).held_by})


def aged(desk: Desk, clock: MovableClock, hours: float) -> None:
    """The product's clock is so long after the oldest batch began: the simulator's goes on over a module's tests."""
    clock.at = desk.ledger.batches(unended=True)[0].created_at + timedelta(hours=hours)


def kinds(told: Told) -> list[str]:
    return [alert.kind.value for alert in told.noted]


@pytest.mark.both_databases
def test_each_batch_is_told_once_at_the_share_and_once_at_its_expiry(
    hooked: Desk, notes: Workload, clock: MovableClock, simulator: Simulator, webhook: Webhook
) -> None:
    sent_chunks(hooked, notes)
    aged(hooked, clock, 0)
    told = []
    for _ in range(26):  # the simulator's clock stands: its batches never end
        told.append(kinds(tick(hooked, notes)))
        told.append(kinds(tick(hooked, notes)))
        clock.advance(HOUR)

    assert told.count(["sla_warned", "sla_warned"]) == 1
    assert told.count(["sla_expired", "sla_expired"]) == 1
    assert sum(map(len, told)) == 4
    assert [post["event"] for post in webhook.posts] == ["sla_warned"] * 2 + ["sla_expired"] * 2
    assert len({post["id"] for post in webhook.posts}) == 4


def test_a_batch_that_expired_between_two_looks_is_told(
    desk: Desk, notes: Workload, clock: MovableClock, simulator: Simulator
) -> None:
    simulator.faults.add(endpoint="create", kind="expire", share=0.5)
    sent_chunks(desk, notes)
    aged(desk, clock, 25)
    simulator.clock.advance(25 * HOUR)
    look(desk)

    told = tick(desk, notes)

    assert kinds(told) == ["sla_expired", "sla_expired"]
    assert "requests expired, unbilled" in told.noted[0].sentence


def test_a_webhook_that_fails_is_tried_again_within_a_bound_and_stops_nothing(
    hooked: Desk, notes: Workload, clock: MovableClock, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = 500
    sent_chunks(hooked, notes)
    aged(hooked, clock, 20)
    sentences = []
    with caplog.at_level(logging.DEBUG):
        for _ in range(80):
            told = tick(hooked, notes)
            sentences.append(told.unposted)
            clock.advance(60)

    assert len(webhook.posts) == 2 * TRIES_MAX
    assert {sentence for sentence in sentences if sentence and "given up" in sentence}
    assert not [s for s in [*sentences, caplog.text] if s and SECRET in s]


def test_a_webhook_that_comes_back_gets_what_it_missed(
    hooked: Desk, notes: Workload, clock: MovableClock, webhook: Webhook
) -> None:
    webhook.status = 503
    sent_chunks(hooked, notes)
    aged(hooked, clock, 20)
    tick(hooked, notes)
    webhook.status = 204
    clock.advance(60)

    assert tick(hooked, notes).posted == 2
    clock.advance(HOUR)
    assert tick(hooked, notes).posted == 0


def test_nobody_listening_costs_a_sentence_without_the_url(hooked: Desk, notes: Workload, clock: MovableClock) -> None:
    away = replace(hooked, settings=replace(hooked.settings, webhook_url=f"http://127.0.0.1:9{SECRET}"))
    sent_chunks(away, notes)
    aged(away, clock, 20)

    told = tick(away, notes)

    assert told.unposted is not None
    assert "ConnectError" in told.unposted
    assert "secret" not in told.unposted
    assert "127.0.0.1" not in repr(away.settings)


def test_a_post_holds_ids_and_numbers_and_no_text_of_a_record(
    hooked: Desk, tmp_path: Path, clock: MovableClock, simulator: Simulator, webhook: Webhook
) -> None:
    private = workload_over(tmp_path, [note(n, f"private words {n}") for n in range(20)])
    simulator.faults.add(endpoint="create", kind="line_error", error_type="invalid_request_error", share=0.3)

    def wait() -> None:
        simulator.clock.advance(60)
        clock.advance(10)

    drive.run(hooked, private, wait)
    told = tick(hooked, private)

    assert kinds(told) == ["merged_with_dead_letters"]
    (post,) = webhook.posts
    assert sorted(post) == ["at", "batch", "event", "from", "id", "snapshot", "text", "workload"]
    assert "private" not in json.dumps(post)
    assert kinds(tick(hooked, private)) == []


def test_a_stop_of_the_account_and_its_end_are_told(desk: Desk, notes: Workload, clock: MovableClock) -> None:
    desk.ledger.account_stopped("account", "Your credit balance is too low", at=clock())
    stopped = tick(desk, notes)
    desk.ledger.account_stopped("account", "Your credit balance is too low", at=clock())
    again = tick(desk, notes)
    desk.ledger.account_resumed(how="by hand", at=clock())
    resumed = tick(desk, notes)

    assert (kinds(stopped), kinds(again), kinds(resumed)) == (["account_stopped"], [], ["account_resumed"])
    assert kinds(tick(desk, notes)) == []


def test_a_wall_of_the_budget_is_told(desk: Desk, tmp_path: Path) -> None:
    poor = workload_over(tmp_path, [note(n) for n in range(20)], budget_usd=0.000001)
    sent_chunks(desk, poor)

    told = tick(desk, poor)

    assert kinds(told) == ["budget_held"]
    assert "would pass budget_usd" in told.noted[0].sentence


def test_two_who_look_at_once_note_an_alert_once(desk: Desk, notes: Workload, clock: MovableClock) -> None:
    sent_chunks(desk, notes)
    aged(desk, clock, 20)
    found: list[Told] = []
    threads = [threading.Thread(target=lambda: found.append(tick(desk, notes))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(len(told.noted) for told in found) == 2


def test_what_was_told_is_in_the_story(desk: Desk, notes: Workload, clock: MovableClock) -> None:
    sent_chunks(desk, notes)
    aged(desk, clock, 20)
    tick(desk, notes)

    told = [event for event in desk.ledger.dump("event") if event["move"] == "alert"]
    assert [event["batch_id"] is not None for event in told] == [True, True]
