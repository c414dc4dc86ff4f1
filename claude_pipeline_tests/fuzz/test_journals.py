"""Whatever becomes of a journal, each request ends once, with the first end that survived, at its own price."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
from hypothesis import strategies as st

from claude_pipeline.catalog import load
from claude_pipeline.errors import LedgerDamaged, ResultsIncomplete
from claude_pipeline.lane.api_error import verdict_of
from claude_pipeline.lane.journal import Journal, results
from claude_pipeline.lane.reply import Fate, Reply
from claude_pipeline.result import AskedFacts, OutputReader, Parsed, parse_results
from claude_pipeline.stage.answers import Pricing
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.fuzz.claim import claim
from claude_pipeline_tests.fuzz.result_line import MODELS, message_of, right_units
from claude_pipeline_tests.fuzz.value import TEXTS, spoiled
from claude_pipeline_tests.unit.test_result_parse import index_of

KEY = "r1-0001"
FACTS = AskedFacts(
    snapshot="2026-11-22.1", chunk=KEY, attempt=1, tag=KEY, batch_id=None, model=MODELS[0], max_tokens=64,
    lane="realtime",
)  # fmt: skip


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def read(path: Path, requests: int) -> Parsed:
    pricing = Pricing(load(), FACTS.model, FACTS.lane)
    return parse_results(
        results(path), index_of(requests), FACTS, OutputReader(None, []), rates_of=pricing.rates_of,
        verdict_of=lambda kind, text: verdict_of(kind, text).value,
    )  # fmt: skip


class _Told:
    """A journal and what was written into it, over several processes."""

    def __init__(self, path: Path, requests: int) -> None:
        self.path, self.requests = path, requests
        self.written: set[bytes] = set()  # ends, as result lines
        self.serial = 0
        self.journal = Journal.open(path, KEY, requests)

    def end(self, position: int, fate: Fate, text: str) -> None:
        self.serial += 1
        at = NOW + timedelta(seconds=self.serial)
        body = message_of(MODELS[self.serial % 3], f"{self.serial} {text}", self.serial)
        before = set(results(self.path))
        asyncio.run(self.journal.settled(position, Reply(fate, at, 200, body, error_type="api_error")))
        self.written |= set(results(self.path)) - before

    def killed(self, data: st.DataObject, *, wound: bool) -> None:
        """The process dies; of what it wrote the disk keeps what it likes."""
        self.journal.close()
        if wound:
            self.path.write_bytes(data.draw(spoiled(self.path.read_bytes())))
        self.journal = Journal.open(self.path, KEY, self.requests)
        kept = list(results(self.path))
        assert set(kept) <= self.written
        ended = {int(orjson.loads(line)["custom_id"].rpartition("-")[2]) for line in kept}
        assert set(self.journal.waiting()) == set(range(self.requests)) - ended
        assert self.journal.counts.total() == len(ended)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "unbilled", "answer", "refuse", "lose", "kill", "wound"]), st.integers(0, 3), TEXTS
    ),
    max_size=12,
)


@claim(15, requests=st.integers(1, 4), steps=STEPS, data=st.data())
def test_a_spoiled_journal_ends_each_request_once_at_its_price(
    requests: int, steps: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    with folder() as home:
        told = _Told(home / "journal", requests)
        for step, number, text in steps:
            position = number % requests
            match step:
                case "send":
                    told.journal.sending(position)
                case "unbilled":
                    told.journal.unbilled(position)
                case "answer" | "refuse" | "lose":
                    fate = {"answer": Fate.ANSWERED, "refuse": Fate.REFUSED, "lose": Fate.LOST}[step]
                    told.end(position, fate, text)
                case _:
                    told.killed(data, wound=step == "wound")
        for position in list(told.journal.waiting()):
            told.end(position, Fate.ANSWERED, "last")
        told.journal.close()
        first: dict[int, dict[str, Any]] = {}
        for line in results(told.path):
            document = orjson.loads(line)
            first.setdefault(int(document["custom_id"].rpartition("-")[2]), document["result"])
        rows = read(told.path, requests).table.to_pylist()
    assert [row["record_id"] for row in rows] == [f"n{n}" for n in range(requests)]
    for row in rows:
        message = first[row["position"]].get("message")
        units = 0 if message is None else right_units(message, batch=False)
        assert units is not None
        assert row["cost_usd"] == units / 1e10
        assert row["answer"] == (None if message is None else message["content"][0]["text"])


_PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda kind, number, rest: kind + number + rest,
        st.sampled_from([b"s", b"u", b'{"custom_id":"r1-0001-', b'{"custom_id":"r1-0002-', b"x"]),
        st.sampled_from([b"0", b"1", b"00", b"-1", b"3", b"9" * 5_000, "٣".encode(), b""]),
        st.sampled_from(
            [
                b"",
                b"\n",
                b'","result":{"type":"succeeded","message":{}}}',
                b'","result":5}',
                b'"}',
                b'","result":{"type":"\xff',
            ]
        ),
    ),
)


@claim(120, payloads=st.lists(_PAYLOADS, max_size=4))
def test_a_line_nobody_wrote_is_another_chunks_or_no_result(payloads: list[bytes]) -> None:
    """Also where its checksum is right: a journal of another version, or of another program."""
    with folder() as home:
        path = home / "journal"
        path.write_bytes(b"".join(b"%b\t%08x\n" % (payload, crc32(payload)) for payload in payloads))
        try:
            Journal.open(path, KEY, 2).close()
            parsed = read(path, 2)
        except (LedgerDamaged, ResultsIncomplete) as refused:
            assert len(str(refused)) < 500
            return
    assert parsed.table.num_rows == 2
    assert {row["cost_usd"] for row in parsed.table.to_pylist()} <= {None, 0.0}
