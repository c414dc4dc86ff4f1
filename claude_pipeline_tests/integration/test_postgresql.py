"""What only a ledger on a server can do to a submitter: end its session, come late, be asked by several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_pipeline.errors import LedgerError, LedgerUnreachable
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient, Page
from claude_pipeline.ledger import BatchId, Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk, open_desk
from claude_pipeline.stage.submit import settle
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import read_workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, NOW, MovableClock, client_of
from claude_pipeline_tests.factory import (
    attributes,
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
    write_dataset,
)
from claude_pipeline_tests.integration.submit_case import after_settling, creates
from claude_pipeline_tests.postgresql import PASSWORD, Server

HELD_BY_OTHERS = """
    FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def ledger_url(postgresql_server: Server) -> Iterator[str]:
    with postgresql_server.database() as url:
        yield url


@pytest.fixture
def sql(postgresql_server: Server, ledger_url: str) -> Callable[[str], list[tuple[Any, ...]]]:
    """The ledger's database as its administrator has it."""
    return lambda statement: postgresql_server.sql(statement, database=ledger_url.rpartition("/")[2])


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


@dataclass
class Interrupted(BatchClient):
    """Something happens once the watermark of the last chunk was read: between the lock and the intent."""

    then: Callable[[], object] = field(default=lambda: None, repr=False)
    chunks: int = 1

    def page(self, *, limit: int = 1000, after_id: BatchId | None = None) -> Page:
        found = super().page(limit=limit, after_id=after_id)
        if limit == 1:
            self.chunks -= 1
            if self.chunks == 0:
                self.then()
        return found


def interrupted(client: BatchClient, then: Callable[[], object], *, chunks: int = 1) -> Interrupted:
    return Interrupted(lambda: client.sdk, then=then, chunks=chunks)


def end_at(sql: Callable[[str], object], table: str, whose: str) -> None:
    """At the commit that adds a row to `table`, the server ends the sessions of `whose`."""
    sql(f"CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {whose}; RETURN NULL; END'")
    sql(
        f"CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION cut()"
    )


LOCK_HOLDER = "pg_terminate_backend(pid, 5000)" + HELD_BY_OTHERS
OWN = "pg_terminate_backend(pg_backend_pid())"


# The session that holds the submit lock ends.


@pytest.mark.parametrize("instant", ["before-the-intent", "at-the-intents-commit"])
def test_a_submitter_whose_lock_was_lost_sends_nothing_and_the_next_one_does(
    desk: Desk, workload: Workload, simulator: Simulator, client: BatchClient, sql: Callable[[str], Any], instant: str
) -> None:
    prepared_snapshot(desk, workload)
    if instant == "before-the-intent":
        client = interrupted(client, lambda: sql(f"SELECT {LOCK_HOLDER}"))
    else:
        end_at(sql, "intent", LOCK_HOLDER.replace("'", "''"))

    done = send_ready(replace(desk, client=client), workload)

    assert "the submit lock was lost before the batch was sent" in (done.waiting or "")
    assert "nothing was sent" in (done.waiting or "")
    assert (done.sent, done.doubtful, creates(simulator)) == ([], [], {})
    assert [row["state"] for row in desk.ledger.dump("intent")] == ["rejected"]
    assert states(desk, workload) == ["ready"]
    sql("DROP TRIGGER IF EXISTS cut ON intent")
    assert len(send_ready(desk, workload).sent) == 1
    assert creates(simulator) == {"200": 1}


def test_who_finds_its_chunk_sent_by_another_meanwhile_does_not_send_it(
    desk: Desk, tmp_path: Path, simulator: Simulator, client: BatchClient, sql: Callable[[str], Any]
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)])
    prepared_snapshot(desk, workload)

    def taken_over() -> None:
        sql(f"SELECT {LOCK_HOLDER}")
        with Ledger.open(desk.settings.ledger_url, path=desk.home.ledger) as other:
            assert len(send_ready(replace(desk, ledger=other), workload).sent) == 1

    with pytest.raises(LedgerError, match="is no longer ready"):
        send_ready(replace(desk, client=interrupted(client, taken_over, chunks=2)), workload)

    assert (states(desk, workload), creates(simulator)) == (["live", "live"], {"200": 2})


def test_a_submitter_that_slept_since_its_intent_sends_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    prepared_snapshot(desk, workload)

    def slow() -> Any:
        clock.advance(6)
        return clock()

    done = send_ready(replace(desk, clock=slow), workload)

    assert "s passed before the batch was sent, 5 s are allowed; nothing was sent" in (done.waiting or "")
    assert (states(desk, workload), creates(simulator)) == (["ready"], {})


@pytest.fixture(scope="module")
def fast_simulator() -> Iterator[Simulator]:
    """Ten simulated minutes a second."""
    with running(Options(speed=600, batch_seconds=(30, 60), seed=3)) as simulator:
        yield simulator


@dataclass
class Site:
    """A workload in a file, a home and a ledger, for processes of their own."""

    file: Path
    home: Path
    ledger_url: str
    simulator: Simulator

    def started(self, *command: str, **more: str) -> subprocess.Popen[str]:
        environment = {
            "ANTHROPIC_BASE_URL": self.simulator.base_url,
            "ANTHROPIC_API_KEY": self.simulator.api_key,
            "CLAUDE_PIPELINE_SETTLE_SECONDS": "0.2",
            "CLAUDE_PIPELINE_LEDGER_URL": self.ledger_url,
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, *command], env=os.environ | environment | more, stdin=pipe, stdout=pipe, text=True
        )

    def carried_on(self) -> dict[str, Any]:
        """The invoice, once a submitter in this process has brought it all to rest."""
        settings = Settings(Home(self.home), ledger_url=self.ledger_url, settle_seconds=0.2)
        with open_desk(settings, client=client_of(self.simulator)) as desk:
            assert drive.carry_on(desk, read_workload(self.file), lambda: time.sleep(0.05)).at_rest
        return self.simulator.invoice()


@pytest.fixture
def site(tmp_path: Path, ledger_url: str, fast_simulator: Simulator) -> Site:
    """200 records in 20 chunks, prepared."""
    fast_simulator.reset()
    rows = [note(n) for n in range(200)]
    path = write_dataset(tmp_path / "notes.jsonl", rows)
    file = tmp_path / "notes.yaml"
    fields = attributes(dataset={"path": str(path), "id": "id"})
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))
    settings = Settings(Home(tmp_path / "home"), ledger_url=ledger_url)
    with open_desk(settings, client=client_of(fast_simulator)) as desk:
        assert len(prepared_snapshot(desk, read_workload(file)).chunks) == 20
    return Site(file, tmp_path / "home", ledger_url, fast_simulator)


def test_a_submitter_that_wakes_after_another_took_over_sends_nothing(site: Site, sql: Callable[[str], Any]) -> None:
    # Its session was dropped while it was paused with an intent open; the other one found that absent and sent it.
    command = ("-m", "claude_pipeline_tests.drive", str(site.file), str(site.home))
    with site.started(*command, CLAUDE_PIPELINE_PAUSE_AT="submit.after_intent:3") as paused:
        os.waitid(os.P_PID, paused.pid, os.WSTOPPED)
        assert sql(f"SELECT {LOCK_HOLDER}") == [(True,)]
        before = site.carried_on()
        os.kill(paused.pid, signal.SIGCONT)
        assert paused.wait(300) == 0
    after = site.simulator.invoice()
    assert (before["batches"], before["billed_requests"], before["billed_twice"]) == (20, 200, 0)
    assert (after["batches"], after["billed_requests"], after["billed_twice"]) == (20, 200, 0)


SUBMITTER = """
import random, sys, time
from pathlib import Path
from claude_pipeline.ledger import ChunkState
from claude_pipeline.settings import Settings
from claude_pipeline.stage.desk import open_desk
from claude_pipeline.stage.submit import plan_submission, send
from claude_pipeline.workload_file import read_workload
workload, sent = read_workload(Path(sys.argv[1])), 0
with open_desk(Settings.from_environment().with_home(Path(sys.argv[2]))) as desk:
    print("here", flush=True)
    sys.stdin.readline()
    while desk.ledger.chunks(workload.name, states=[ChunkState.READY, ChunkState.SENDING]):
        chunks = plan_submission(desk, workload).chunks
        sent += len(send(desk, workload, chunks[:2]).sent)
        time.sleep(random.uniform(0, 0.05))
print(sent, flush=True)
"""


def test_four_submitters_at_once_send_each_chunk_once(site: Site) -> None:
    site.simulator.faults.add(kind="lost_after", endpoint="create", after=3, count=2)
    site.simulator.faults.add(kind="reset_before", endpoint="create", after=9, count=1)
    four = [site.started("-c", SUBMITTER, str(site.file), str(site.home)) for _ in range(4)]
    told = []
    for submitter in four:
        assert submitter.stdout is not None
        assert submitter.stdout.readline() == "here\n"
    for submitter in four:
        assert submitter.stdin is not None
        submitter.stdin.write("go\n")
        submitter.stdin.flush()
    for submitter in four:
        out, _ = submitter.communicate(timeout=300)
        assert submitter.returncode == 0
        told.append(int(out))
    assert sum(told) == 18  # two were adopted
    assert sum(1 for sent in told if sent) >= 2
    invoice = site.carried_on()
    assert (invoice["batches"], invoice["billed_requests"], invoice["billed_twice"]) == (20, 200, 0)


# The session of a move ends.


def test_a_session_lost_in_the_middle_of_a_move_is_a_sentence_and_leaves_nothing(
    ledger: Ledger, sql: Callable[[str], Any]
) -> None:
    end_at(sql, "event", OWN)
    with pytest.raises(LedgerUnreachable, match=r"the ledger at .*\*\*\*.* gave no answer: .*; .* run again") as lost:
        ledger.put_setting("workspace_id", "wrkspc_a", at=NOW, move="workspace pinned")
    told = "".join(traceback.format_exception(lost.value))
    assert PASSWORD not in told
    assert "sqlalchemy.exc" not in told
    sql("DROP TRIGGER cut ON event")
    assert ledger.get_setting("workspace_id") is None
    assert list(ledger.dump("event")) == []


def test_a_batch_whose_record_was_lost_with_the_session_is_adopted(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, sql: Callable[[str], Any]
) -> None:
    end_at(sql, "batch", OWN)
    with pytest.raises(LedgerUnreachable):
        sent_chunks(desk, workload)
    sql("DROP TRIGGER cut ON batch")
    assert states(desk, workload) == ["sending"]
    settle(desk)  # in doubt since now
    simulator.clock.advance(BATCH_SECONDS)
    assert len(after_settling(desk, clock).adopted) == 1
    assert send_ready(desk, workload).sent == []
    invoice = simulator.invoice()
    assert (invoice["batches"], invoice["billed_requests"], invoice["billed_twice"]) == (1, 10, 0)


# Several at once.


def at_once(count: int, action: Callable[[int], Any]) -> list[Any]:
    """What `action` gives to each of several threads that start together."""
    barrier = threading.Barrier(count)

    def started(number: int) -> Any:
        barrier.wait()
        return action(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(started, range(count)))


def test_a_new_database_opened_by_several_hosts_at_once_becomes_one_ledger(ledger_url: str, tmp_path: Path) -> None:
    def opened(number: int) -> str:
        with Ledger.open(ledger_url, path=tmp_path / f"host{number}" / "ledger.db") as ledger:
            return ledger.id

    assert len(set(at_once(6, opened))) == 1


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_moves_told_by_several_at_once_are_made_once_and_in_order(
    desk: Desk,
    workload: Workload,
    simulator: Simulator,
    client: BatchClient,
    sql: Callable[[str], Any],
    ledger_url: str,
    isolation: str,
) -> None:
    # Whatever the server's default is, the ledger asks for its own.
    sql(f"ALTER DATABASE {ledger_url.rpartition('/')[2]} SET default_transaction_isolation = '{isolation}'")
    # Each reads before it writes: on a server without one writer at a time the second failed on what it had not seen.
    ((_, batch_id),) = sent_chunks(desk, workload).sent
    simulator.clock.advance(BATCH_SECONDS)
    ended = client.retrieve(batch_id)

    def tell(number: int) -> None:
        with Ledger.open(desk.settings.ledger_url, path=desk.home.ledger) as ledger:
            ledger.batch_seen(ended, at=NOW)
            ledger.register_workload(f"another{number % 2}", source=None, cadence="daily", at=NOW)
            ledger.snapshot_loaded("notes", "2026-11-23", path="{id}", digest="d", records=1, at=NOW)
            ledger.put_setting("shared", str(number), at=NOW, move="shared")

    at_once(8, tell)

    moves = [str(event["move"]) for event in desk.ledger.dump("event")]
    assert (moves.count("batch ended"), moves.count("shared")) == (1, 8)
    assert (moves.count("workload registered"), moves.count("snapshot loaded")) == (3, 2)
    last = [event["detail"] for event in desk.ledger.dump("event") if event["move"] == "shared"][-1]
    assert desk.ledger.get_setting("shared") == last
