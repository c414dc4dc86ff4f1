"""What the tests of bad inputs share: a workload in a folder of its own, the command line, and what must hold after.

    ground.rows("notes.jsonl", [row("n0"), row("n1", text=None)])
    said = ground.run(ground.workload(max_reject_ratio=0.5))
    ground.quarantined(said, delivered=1, rejected={"n1": Reason("missing_text", "column text is null", "notes.jsonl")})

Each ground has a home in which another workload, `earlier`, was delivered and published before: what a bad
input does may not touch that. Every text of a row carries CANARY and the environment holds KEY, neither of
which any message, event or log may tell.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from claude_pipeline.home import Home, sha256_of
from claude_pipeline.simulator import Options, Simulator
from claude_pipeline_tests.factory import attributes
from claude_pipeline_tests.integration.command_case import Said
from claude_pipeline_tests.integration.realtime_case import TIER

CANARY = "canary-4f1d"
KEY = "canary-key-9c2e"
EARLIER_RECORDS = 2
PREFIX = "claude-pipeline: "
PUBLISHED = ("warehouse", "merged/earlier", "results/earlier")


def quick_options(**changes: Any) -> Options:
    """A simulator at real time, whose batches take a tenth of a second and whose limits make no test wait."""
    usual: dict[str, Any] = {"batch_seconds": (0.1, 0.1), "seed": 7, "tier": TIER}
    return Options(**(usual | changes))


def row(record_id: Any, **columns: Any) -> dict[str, Any]:
    """A record; its text is its own and holds the canary, unless one is given."""
    return {"id": record_id, "text": f"{CANARY} of {record_id}"} | columns


def good_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [row(f"n{number}") for number in range(start, start + count)]


def parquet(*, write_page_checksum: bool = False, use_dictionary: bool = True, **columns: Any) -> bytes:
    """A Parquet file of these columns."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, write_page_checksum=write_page_checksum, use_dictionary=use_dictionary)
    return sink.getvalue()


def ids_of(*lists: Iterable[Any]) -> set[str]:
    """The catalogue's ids of parametrised cases: `A32` of `A32-types`."""
    return {str(case.id).partition("-")[0] for cases in lists for case in cases}


@dataclass(frozen=True)
class Refusal:
    """What a refused command must say, each a regular expression found in its one sentence."""

    where: str
    what: str
    way: str
    code: int = 2


@dataclass(frozen=True)
class Reason:
    """What a rejected record must say: the code, and what is found in the sentence (regular expressions)."""

    code: str
    what: str
    place: str

    def check(self, sentence: str) -> None:
        assert re.search(self.what, sentence), sentence
        assert re.search(self.place, sentence), sentence
        assert CANARY not in sentence


@dataclass
class Ground:
    """One workload's ground. `folder` is the current one; `line` is the command line in this process."""

    folder: Path
    home: Home
    line: Callable[..., Said]
    simulator: Simulator
    monkeypatch: pytest.MonkeyPatch
    before: Mapping[str, str] = field(default_factory=dict)  # sha256 of what stood published, by path

    # What a user writes.

    def env(self, **variables: str | None) -> None:
        """Set environment variables; None takes one away."""
        for name, value in variables.items():
            if value is None:
                self.monkeypatch.delenv(name, raising=False)
            else:
                self.monkeypatch.setenv(name, value)

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """JSON lines."""
        return self.put(name, "".join(json.dumps(each) + "\n" for each in rows))

    def workload(self, file: str = "notes.yaml", **fields: Any) -> str:
        """The name of a workload's file: `notes`, in real time, over notes.jsonl, unless `fields` say otherwise.

        A field that is None is left out.
        """
        usual = attributes(**{"lane": "realtime", **fields})
        return self.yaml(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": usual}), file)

    def yaml(self, text: str, file: str = "notes.yaml") -> str:
        """The name of a workload's file with exactly this text."""
        return str(self.put(file, text).relative_to(self.folder))

    # What a user does.

    def run(self, file: str, *words: str) -> Said:
        return self.line("run", file, "--poll-seconds", "0.05", *words)

    def plan(self, file: str, *words: str) -> Said:
        return self.line("plan", file, *words)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the published warehouse."""
        with duckdb.connect(str(self.home.warehouse.resolve()), read_only=True) as duck:
            return duck.execute(sql).fetchall()

    def outcome_of(self, record_id: str, workload: str = "notes") -> tuple[str, str | None, str | None, str | None]:
        """A record's outcome, its text, and why it was rejected: code and sentence."""
        sql = f'SELECT outcome::VARCHAR, text::VARCHAR, error_type, error_message FROM "{workload}".latest WHERE record_id = ?'
        with duckdb.connect(str(self.home.warehouse.resolve()), read_only=True) as duck:
            (found,) = duck.execute(sql, [record_id]).fetchall()
        outcome, text, code, why = found
        return outcome, text, code, why

    # What the other side saw.

    def calls(self, endpoint: str) -> int:
        """Calls of `create`, `messages`, `count_tokens`, … that reached the API, whatever it answered."""
        found: Mapping[str, int] = self.simulator.invoice()["calls"].get(endpoint, {})
        return sum(found.values())

    def billed(self) -> int:
        """Requests on the invoice."""
        found: int = self.simulator.invoice()["billed_requests"]
        return found

    def sent(self, workload: str = "notes") -> list[tuple[str, str | None]]:
        """The text of the one user message and the system prompt of each request, as written for the API."""
        found = []
        for path in self.home.root.glob(f"chunks/{workload}/*/*.jsonl"):
            for line in path.read_bytes().splitlines():
                params = json.loads(line)
                (message,) = params["messages"]
                assert message["role"] == "user"
                found.append((message["content"], params.get("system")))
        return found

    # The outcomes.

    def refused(self, said: Said, refusal: Refusal) -> None:
        """Nothing was asked, nothing is billed, what stood stands, and one sentence says where, what and the way out."""
        self.nothing_paid(said)
        assert said.code == refusal.code, said.err
        sentence = self.well_said(said)
        for part in (refusal.where, refusal.what, refusal.way):
            assert re.search(part, sentence), f"{part!r} is not in: {sentence}"
        self.unchanged()

    def quarantined(
        self, said: Said, *, delivered: int, rejected: Mapping[str, Reason], dead: int = 0, workload: str = "notes"
    ) -> None:
        """The rejected records lie in `<workload>.rejected` with reason and place; all others were answered, once."""
        assert said.code == 1, said.err
        self.quiet(said)
        self.all_there(workload, delivered=delivered, dead=dead, rejected=len(rejected))
        found = self.ask(f'SELECT record_id, error_type, error_message FROM "{workload}".rejected')
        assert {record_id: code for record_id, code, _ in found} == {key: why.code for key, why in rejected.items()}
        for record_id, _, sentence in found:
            rejected[record_id].check(sentence)
        self.unchanged()

    def accepted(self, said: Said, *, delivered: int, workload: str = "notes") -> None:
        """Every record was answered, once."""
        assert said.code == 0, said.err
        self.quiet(said)
        self.all_there(workload, delivered=delivered)
        self.unchanged()

    # The invariants, one by one.

    def nothing_paid(self, said: Said) -> None:
        assert (self.calls("create"), self.calls("messages"), self.billed()) == (0, 0, 0), said.err

    def well_said(self, said: Said) -> str:
        """The sentence that the command ended with, of the form that every one has."""
        self.quiet(said)
        assert said.last.startswith(PREFIX), said.err
        assert said.err.count(PREFIX) == 1, said.err
        return said.last.removeprefix(PREFIX)

    def quiet(self, said: Said) -> None:
        """Neither the command nor what it left behind tells the key, a record's text or a stack trace."""
        told = said.out + said.err
        for secret in (CANARY, KEY, "Traceback"):
            assert secret not in told, f"{secret!r} was told:\n{told}"
        key, canary = KEY.encode(), CANARY.encode()
        for path in (path for path in self.home.root.rglob("*") if path.is_file()):
            content = path.read_bytes()
            assert key not in content, f"{path} holds the key"
            own = path.relative_to(self.home.root).parts[0]
            assert not (own.startswith("ledger.db") and canary in content), f"{path} holds a record's text"

    def all_there(self, workload: str, *, delivered: int, dead: int = 0, rejected: int = 0) -> None:
        """records = succeeded + dead + rejected, in the ledger's count and row by row, and each answer was paid once."""
        counted = self.ask(
            "SELECT records, succeeded, dead, rejected FROM ops.snapshots "
            f"WHERE workload = '{workload}' ORDER BY created_at DESC LIMIT 1"
        )
        assert counted == [(delivered + dead + rejected, delivered, dead, rejected)]
        rows = self.ask(
            f"SELECT count(DISTINCT record_id), count(*) FILTER (outcome = 'succeeded'), "
            f"count(*) FILTER (outcome = 'rejected') FROM \"{workload}\".latest"
        )
        assert rows == [(delivered + dead + rejected, delivered, rejected)]
        assert self.simulator.invoice()["billed_twice"] == 0

    def unchanged(self) -> None:
        """What was published before is there, byte for byte, and the workload `earlier` reads as it did."""
        now = published(self.home)
        assert {path: now.get(path) for path in self.before} == self.before
        assert self.ask("SELECT count(*) FROM earlier.latest WHERE outcome = 'succeeded'") == [(EARLIER_RECORDS,)]


def published(home: Home) -> dict[str, str]:
    """sha256 of each file that analysts read of the workload `earlier`, by its path in the home."""
    files = (path for name in PUBLISHED for path in (home.root / name).rglob("*") if path.is_file())
    return {home.relative(path): sha256_of(path) for path in files}
