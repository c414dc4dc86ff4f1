"""A snapshot that changed on the disk after it was asked: no merged row says what the record did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.publish import publish
from claude_pipeline_tests.factory import PARTITION, asked, ended_batches, note, states, workload_over

SAID, FLIPPED = b"The parcel is late", b"The parcel is lcte"


def test_a_flipped_bit_is_noticed_before_its_answers_are_kept(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    rows = [note(n) | {"text": f"{SAID.decode()} {n}"} for n in range(5)]
    workload = workload_over(tmp_path, rows)
    ended_batches(desk, workload, simulator)
    path = desk.path(desk.ledger.snapshots("notes")[0].path)
    whole = path.read_bytes()
    assert SAID in whole  # so short a file is not compressed
    path.write_bytes(whole.replace(SAID, FLIPPED, 1))
    with pytest.raises(LedgerDamaged, match=r"cannot be read .* restore it from a backup"):
        collect(desk, workload)
    assert states(desk, workload) == ["ended"]
    path.write_bytes(whole)  # the backup
    collect(desk, workload)
    finalize(desk, workload, PARTITION)
    publish(desk)
    assert asked(desk, "SELECT DISTINCT left(text, 18) FROM notes.results") == [(SAID.decode(),)]
