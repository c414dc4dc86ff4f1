"""The `ops` tables as the ledger has them now say what a publication says, of a workload or of one snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.warehouse import live_ops
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import asked, note, workload_over

TABLES = ("costs", "batches", "throughput")


def test_live_tables_are_those_of_a_publication_and_each_of_the_ledgers_is_read_once(
    desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    for name, count in (("notes", 12), ("notes", 15), ("others", 7)):
        workload = workload_over(tmp_path / name, [note(n) for n in range(count)], name=name)
        drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))
    read: Counter[str] = Counter()

    def rows(table: str) -> Iterable[Mapping[str, object]]:
        read[table] += 1
        return desk.ledger.dump(table)

    with live_ops(TABLES, rows, desk.home.scratch(), workload="notes") as ops:
        for snapshot, requests in (("2026-11-22.2", 3), ("2026-11-22.1", 12), (None, 15)):
            of = "workload = 'notes'" + (f" AND snapshot = '{snapshot}'" if snapshot else "")
            sums = "SELECT count(*), sum(requests), sum(cost_usd) FROM ops.batches WHERE "
            assert ops.ask(sums + of, snapshot=snapshot) == asked(desk, sums + of)
            assert ops.ask("SELECT sum(requests) FROM ops.costs", snapshot=snapshot) == [(requests,)]
            flow = ops.ask("SELECT round(sum(requests_per_min)) FROM ops.throughput", snapshot=snapshot)
            assert flow == [(requests,)]
    assert read == {"chunk": 1, "batch": 1, "spend": 1}
    assert list(desk.home.scratch().glob("ops-*")) == []
