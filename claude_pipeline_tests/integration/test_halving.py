"""How often refused chunks may be halved."""

from __future__ import annotations

from datetime import datetime

import pytest

from claude_pipeline.errors import WORDS_MAX, in_short
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.ledger.halving import INVALID, SPLITS_FREE, SPLITS_MAX, TOO_LARGE, Tally
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import make_new_chunk, ready_chunks
from claude_pipeline_tests.integration.ledger_case import live, opened


@pytest.mark.parametrize(
    ("tally", "left"),
    [
        pytest.param(Tally(), SPLITS_FREE, id="at-first"),
        pytest.param(Tally(splits=SPLITS_FREE), 0, id="nothing-let-through"),
        pytest.param(Tally(splits=SPLITS_FREE, accepted=3), 3, id="one-more-for-each-accepted"),
        pytest.param(Tally(splits=SPLITS_MAX, accepted=10_000), 0, id="at-most"),
        pytest.param(Tally(splits=SPLITS_MAX - 2, accepted=10_000), 2, id="almost"),
        pytest.param(Tally(splits=99), 0, id="never-less-than-none"),
    ],
)
def test_halving_goes_on_while_it_lets_requests_through(tally: Tally, left: int) -> None:
    assert tally.left == left


def refused(ledger: Ledger, chunk_id: int, kind: str, at: datetime = NOW) -> None:
    intent = opened(ledger, ledger.chunk(chunk_id), chunk_id)
    ledger.intent_refused(intent, chunk_state=ChunkState.FAILED, error="no", error_type=kind, not_before=None, at=at)


@pytest.mark.both_databases
def test_the_largest_of_the_invalid_and_all_of_the_too_large_are_chosen(ledger: Ledger) -> None:
    sizes = [*range(2, 2 + SPLITS_FREE + 3), 1]
    chunks = ready_chunks(ledger, NOW, *(make_new_chunk(n, requests=size) for n, size in enumerate(sizes, start=1)))
    for chunk in chunks:
        refused(ledger, chunk.id, INVALID)
    chosen = ledger.to_halve("notes")
    assert [chunk.requests for chunk in chosen] == sizes[3:-1]

    first = ready_chunks(ledger, NOW, make_new_chunk(1), workload="others")[0]
    refused(ledger, first.id, TOO_LARGE)
    assert [chunk.id for chunk in ledger.to_halve("others")] == [first.id]
    assert len(ledger.to_halve("notes")) == SPLITS_FREE


@pytest.mark.both_databases
def test_each_chunk_that_was_accepted_allows_one_more(ledger: Ledger) -> None:
    chunks = ready_chunks(ledger, NOW, *(make_new_chunk(n) for n in range(1, SPLITS_FREE + 4)))
    for chunk in chunks[:-1]:
        refused(ledger, chunk.id, INVALID)
    assert len(ledger.to_halve("notes")) == SPLITS_FREE
    live(ledger, chunks[-1], chunks[-1].id)
    assert len(ledger.to_halve("notes")) == SPLITS_FREE + 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        pytest.param("as it is: fine", "as it is: fine", id="plain"),
        pytest.param("two\nlines\r\n and\ttabs", "two lines and tabs", id="lines"),
        pytest.param("\x1b[31mred\x1b[0m\x00", r"\x1b[31mred\x1b[0m\x00", id="escapes"),
        pytest.param("\u202eback\u2028line", r"\u202eback line", id="unicode"),
        pytest.param("größe 数", "größe 数", id="letters"),
        pytest.param("x" * 10_000, "x" * (WORDS_MAX - 1) + "…", id="novel"),
    ],
)
def test_the_words_of_others_become_one_line(words: str, line: str) -> None:
    assert in_short(words) == line
