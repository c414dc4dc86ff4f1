"""The ground of bad answers: a workload's stages in virtual time, over a home in which another one was delivered before.

    flow.over(records=10)
    flow.fault(kind="lost_after", endpoint="create", count=1)
    flow.send()
    flow.says("no answer to create")
    flow.rest()
    flow.delivered(10)

What each step tells people is kept in `told`. `sound` is what must hold after every case, whatever else it is about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import httpx2
import orjson
import pyarrow.parquet as pq
import pytest

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import Kind, Situation, decide, survey
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.lane.poll import Look
from claude_pipeline.lane.reconcile import Reconciliation
from claude_pipeline.lane.submit import Submission
from claude_pipeline.ledger import BatchId, ChunkRow, ChunkState, SnapshotRow, SnapshotState
from claude_pipeline.ledger.halving import SPLIT
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import Collection as Collected
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.publish import publish
from claude_pipeline.stage.retry import PERHAPS_PAID
from claude_pipeline.stage.submit import settle
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.bad_input.ground import CANARY, KEY, published, row
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import asked, prepared_snapshot, send_ready, workload_over
from claude_pipeline_tests.integration.submit_case import creates

NAME = "notes"
POISON = "poison-7b"  # in the text of a record whose request the API refuses
HOUR, DAY = 3600.0, 24 * 3600.0
WORDS = ("event", "chunk", "intent", "batch", "setting", "alert")  # tables of the ledger that hold sentences


def case(name: str) -> pytest.MarkDecorator:
    """Gives a test of one case its name in the catalogue."""
    return pytest.mark.parametrize("flow", [pytest.param(None, id=name)], indirect=True)


def cases_of(module: ModuleType) -> set[str]:
    """The catalogue's names of a module's cases: `C06` of `C06-zero`."""
    marks = [mark for test in vars(module).values() for mark in getattr(test, "pytestmark", [])]
    given = [param.id for mark in marks if mark.name == "parametrize" for param in mark.args[1]]
    return {str(name).partition("-")[0] for name in given}


@dataclass
class Flow:
    """One workload between its dataset and the API, both of whose clocks a test moves."""

    desk: Desk
    simulator: Simulator
    clock: MovableClock
    folder: Path
    before: Mapping[str, str]  # sha256 of what stood published, by path
    log: pytest.LogCaptureFixture
    workload: Workload = field(init=False)
    told: list[str] = field(default_factory=list)
    paid_twice: int = 0  # requests that this case cannot save from being paid twice, and says so

    def over(
        self,
        records: int = 10,
        *,
        chunk: int = 10,
        poisoned: Collection[int] = (),
        columns: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """A workload of so many records, prepared: its chunks are ready to be sent."""
        rows = [row(f"n{n}", **(columns or {})) for n in range(records)]
        for n in poisoned:
            rows[n]["text"] += f" {POISON}"
        usual = {"chunk": {"requests": chunk}, "lane": "batch"}
        self.workload = workload_over(self.folder, rows, **(usual | fields))
        prepared_snapshot(self.desk, self.workload)

    def fault(self, **rule: Any) -> None:
        self.simulator.faults.add(**rule)

    # One step each.

    def send(self) -> Submission:
        done = send_ready(self.desk, self.workload)
        self.told += [sentence for _, sentence in [*done.doubtful, *done.failed, *done.held]]
        self.told += [done.waiting] if done.waiting else []
        return done

    def settle(self, after: float = SETTLE_SECONDS) -> Reconciliation:
        """What became of the doubts, `after` seconds of the product's clock."""
        self.clock.advance(after)
        found = settle(self.desk)
        self.told += [sentence for _, sentence in found.waiting]
        return found

    def end(self, seconds: float = BATCH_SECONDS) -> Look:
        """The batches end, and one look sees it."""
        self.pass_time(seconds)
        return look(self.desk)

    def collect(self) -> Collected:
        found = collect(self.desk, self.workload)
        self.told += [sentence for _, sentence in [*found.unclear, *found.gone]]
        return found

    def pass_time(self, seconds: float) -> None:
        self.simulator.clock.advance(seconds)
        self.clock.advance(seconds)

    def rest(self) -> None:
        """Everything is done but to publish, which costs more than all the rest: `ask` does it."""
        before: Situation | None = None
        for _ in range(drive.LOOKS_MAX):
            drive.look_once(self.desk)
            situation = self.situation
            if not situation.progress:
                return
            actions = decide(situation)
            if situation == before or not actions:
                self.pass_time(BATCH_SECONDS)
            for action in actions:
                if action.kind is Kind.FINALIZE:
                    finalize(self.desk, self.workload, action.partition or "")
                else:
                    drive.act(self.desk, self.workload, action)
            before = situation
        raise AssertionError(f"not at rest after {drive.LOOKS_MAX} looks: {before}")

    def to_collected(self) -> Collected:
        """Sent, ended and collected once."""
        self.send()
        self.end()
        return self.collect()

    # What is so.

    @property
    def situation(self) -> Situation:
        return survey(self.desk, self.workload)

    @property
    def chunks(self) -> list[ChunkRow]:
        return self.desk.ledger.chunks(NAME)

    @property
    def states(self) -> list[str]:
        return [chunk.state.value for chunk in self.chunks]

    @property
    def snapshot(self) -> SnapshotRow:
        return self.desk.ledger.snapshots(NAME)[-1]

    @property
    def batch_id(self) -> BatchId:
        batch_id = self.chunks[0].batch_id
        assert batch_id is not None
        return batch_id

    @property
    def posts(self) -> dict[str, int]:
        """Creates that reached the API, by its answer."""
        return creates(self.simulator)

    def billed(self) -> int:
        self.simulator.clock.advance(BATCH_SECONDS)  # what runs is billed at its end
        found: int = self.simulator.invoice()["billed_requests"]
        return found

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the warehouse, which is published where something new was merged."""
        if self.desk.ledger.unpublished(NAME):
            publish(self.desk)
        return asked(self.desk, sql)

    def merged(self) -> list[dict[str, Any]]:
        """The rows of the last snapshot's merge."""
        parts = [part for part in self.desk.ledger.merged_parts(NAME) if part.snapshot == self.snapshot.id]
        columns = ["record_id", "outcome", "error_type", "cost_usd"]
        return [row for part in parts for row in pq.read_table(self.desk.path(part.path), columns=columns).to_pylist()]

    def reborn(self, **changes: Any) -> None:
        """The desk with another client, another setting: as a later process has it."""
        self.desk = replace(self.desk, **changes)

    # The outcomes.

    def says(self, *parts: str) -> str:
        """Someone was told one sentence with all those parts (regular expressions); the newest such sentence."""
        for sentence in reversed(self.told):
            if all(re.search(part, sentence) for part in parts):
                return sentence
        raise AssertionError(f"{parts} in none of: {self.told}")

    def delivered(self, succeeded: int, *, dead: Mapping[str, int] | None = None, unknown_cost: int = 0) -> None:
        """Each record has one outcome, merged; what was answered was billed once, and costs what the invoice says.

        `dead`: records without an answer by reason; `unknown_cost`: answers of which the API did not say what they cost.
        """
        reasons = dict(dead or {})
        assert not self.situation.progress
        rows = self.merged()
        answered = [row for row in rows if row["outcome"] == "succeeded"]
        assert len({row["record_id"] for row in rows}) == len(rows) == succeeded + sum(reasons.values())
        assert Counter(row["error_type"] for row in rows if row["outcome"] != "succeeded") == Counter(reasons)
        assert [len(answered), sum(row["cost_usd"] is None for row in answered)] == [succeeded, unknown_cost]
        if not unknown_cost and not set(reasons) & set(PERHAPS_PAID):
            chunks = {chunk.id: chunk.batch_id for chunk in self.chunks if chunk.state is ChunkState.DONE}
            spent = [found for found in self.desk.ledger.dump("spend") if found["chunk_id"] in chunks]
            lines = [line for line in self.simulator.invoice()["by_batch"] if line["batch_id"] in chunks.values()]
            assert sum(int(str(each["requests"])) for each in spent) == sum(line["billed"] for line in lines)
            units = sum(int(str(each["cost_units"])) for each in spent)
            assert units == sum(Decimal(line["cost_usd"]) for line in lines) * UNITS_PER_USD

    # The invariants.

    def sound(self) -> None:
        """Nothing was paid twice, no record vanished, what was published stands, no secret and no novel was told."""
        assert self.simulator.invoice()["billed_twice"] == self.paid_twice
        self._all_there()
        now = published(self.desk.home)
        assert {path: now.get(path) for path in self.before} == self.before
        told = [*self.told, *(str(value) for value in self._words())]
        for sentence in told:
            assert CANARY not in sentence, sentence
            assert KEY not in sentence, sentence
            assert "Traceback" not in sentence, sentence
        for sentence in self.told:
            assert sentence.isprintable(), sentence
            assert len(sentence) < 1_000, sentence
        assert CANARY not in self.log.text
        assert KEY not in self.log.text

    def _all_there(self) -> None:
        """records = succeeded + dead + rejected, or all of them are in a chunk that may still answer them."""
        if not self.desk.ledger.snapshots(NAME):
            return
        snapshot = self.snapshot
        if snapshot.state is SnapshotState.MERGED:
            assert (snapshot.succeeded or 0) + (snapshot.dead or 0) + (snapshot.rejected or 0) == snapshot.records
            return
        first = [c for c in self.chunks if c.round == 1 and c.error_type != SPLIT and c.snapshot == snapshot.id]
        spared = sum(n or 0 for n in (snapshot.reused, snapshot.duplicates, snapshot.awaited, snapshot.rejected))
        assert sum(chunk.requests for chunk in first) + spared == snapshot.records

    def _words(self) -> list[object]:
        return [value for name in WORDS for found in self.desk.ledger.dump(name) for value in found.values()]


@contextmanager
def client_over(flow: Flow, transport: httpx2.BaseTransport) -> Iterator[BatchClient]:
    """The product's client over another network."""
    http = httpx2.Client(transport=transport)
    sdk = anthropic.Anthropic(base_url=flow.simulator.base_url, api_key=KEY, max_retries=0, http_client=http)
    client = BatchClient(connect=lambda: sdk)
    try:
        yield client
    finally:
        client.close()


class Rewritten(httpx2.HTTPTransport):
    """A network on which results arrive changed."""

    def __init__(self, change: Callable[[list[dict[str, Any]]], bytes]) -> None:
        super().__init__()
        self._change = change

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if not request.url.path.endswith("/results"):
            return response
        lines = [orjson.loads(line) for line in response.read().splitlines()]
        return httpx2.Response(200, content=self._change(lines), request=request)
