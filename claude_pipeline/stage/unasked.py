"""Questions of a plan that are still to be asked, after it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import ChunkRow, SnapshotRow
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.result import answered_where
from claude_pipeline.sql import file_literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import create_current
from claude_pipeline.workload import Workload


class Unasked:
    """Questions of a plan that have neither an answer in the workload nor a chunk in the snapshot (of `own`), and
    are not on their way in another one; `waits_on` names those in which some are."""

    def __init__(self, desk: Desk, workload: Workload, snapshot: SnapshotRow, own: Sequence[ChunkRow]) -> None:
        of = None if workload.reuse else snapshot.id
        attempts = [desk.path(p.path) for p in desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=of)]
        others = desk.ledger.chunks(workload.name, states=ON_ITS_WAY) if workload.reuse else []
        away = [chunk for chunk in others if chunk.snapshot != snapshot.id]
        asked = [desk.path(chunk.index_path) for chunk in own]
        answered = f"JOIN current USING (fingerprint) WHERE {answered_where('wanted_tokens')}"
        assert snapshot.plan_path is not None
        with leased(desk.home.scratch()) as duck:
            create_current(duck, desk, workload, desk.path(snapshot.plan_path), snapshot.id)
            found = duck.sql(
                f"""SELECT min(row), fingerprint, any_value(model),
                        fingerprint IN ({_fingerprints([desk.path(c.index_path) for c in away], "")})
                    FROM current
                    WHERE fingerprint NOT IN ({_fingerprints(attempts, answered)})
                      AND fingerprint NOT IN ({_fingerprints(asked, "")})
                    GROUP BY fingerprint ORDER BY 1"""
            ).fetchall()
        mine = [(row, bytes(fingerprint), model) for row, fingerprint, model, is_away in found if not is_away]
        self._rows: dict[str, list[int]] = {}
        for row, _, model in mine:
            self._rows.setdefault(model, []).append(row)
        self.fingerprints = {fingerprint for _, fingerprint, _ in mine}
        self.waits_on = {chunk.snapshot for chunk in away} if len(mine) < len(found) else set()

    def rows(self, model: str) -> Iterator[pa.Array]:
        """Those of one model, ascending."""
        if model in self._rows:
            yield pa.array(self._rows[model], pa.int64())


def _fingerprints(files: Sequence[Path], where: str) -> str:
    if not files:
        return "SELECT NULL::BLOB WHERE false"
    listed = ", ".join(file_literal(file) for file in files)
    return f"SELECT fingerprint FROM read_parquet([{listed}], union_by_name = true) {where}"


__all__ = ["Unasked"]
