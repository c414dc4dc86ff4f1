"""Which state may follow which: every pair, written down a second time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from claude_pipeline.errors import IllegalMove
from claude_pipeline.ledger import ChunkState, IntentState
from claude_pipeline.ledger.state import (
    IN_FLIGHT,
    ON_ITS_WAY,
    OWNING_INTENTS,
    TERMINAL,
    check_chunk_move,
    check_intent_move,
)

CHUNK = """
held      ready asking canceled live
ready     held sending asking failed canceled live
sending   ready live failed
asking    done
live      ended canceled
ended     done canceled
done
failed    ready canceled live
canceled  ready live
"""
INTENT = """
open      doubt live rejected
doubt     live absent
live      closed
rejected  live
absent    live
closed
"""


def _allowed(table: str) -> dict[str, set[str]]:
    return {line.split()[0]: set(line.split()[1:]) for line in table.strip().splitlines()}


def _pairs(states: Any) -> list[Any]:
    return [pytest.param(a, b, id=f"{a}-{b}") for a, b in itertools.product(states, states)]


@pytest.mark.parametrize(("before", "after"), _pairs(ChunkState))
def test_a_chunk_moves_only_as_the_table_says(before: ChunkState, after: ChunkState) -> None:
    if after in _allowed(CHUNK)[before]:
        check_chunk_move(before, after)
    else:
        with pytest.raises(IllegalMove, match=f"a chunk that is {before} cannot become {after}"):
            check_chunk_move(before, after)


@pytest.mark.parametrize(("before", "after"), _pairs(IntentState))
def test_an_intent_moves_only_as_the_table_says(before: IntentState, after: IntentState) -> None:
    if after in _allowed(INTENT)[before]:
        check_intent_move(before, after)
    else:
        with pytest.raises(IllegalMove, match=f"an intent that is {before} cannot become {after}"):
            check_intent_move(before, after)


def test_a_collected_chunk_is_never_sent_again() -> None:
    assert not _allowed(CHUNK)[ChunkState.DONE]


def test_the_groups_of_states_are_these() -> None:
    assert {"done", "failed", "canceled"} == TERMINAL
    assert {"held", "ready", "sending", "asking", "live", "ended"} == ON_ITS_WAY
    assert {"sending", "asking", "live", "ended"} == IN_FLIGHT
    assert {"open", "doubt", "live"} == OWNING_INTENTS
