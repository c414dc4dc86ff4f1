"""What a workload's own past tells: tokens by size of request, errors, the prompt cache, how long batches took.

Read from the attempts (Parquet) joined to the sizes in their plans, as sums for each chunk: nothing here
grows with the number of results.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from claude_pipeline.catalog import Model
from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import Part
from claude_pipeline.plan import TERMS, CacheMix, Moments, Turnaround, quantile
from claude_pipeline.sql import file_literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.plan_file import TEMPLATE_KEY
from claude_pipeline.workload import Workload

ROWS_MAX = 50_000  # newest results that are read
BATCHES_MAX = 500  # newest batches of a model whose time is looked at
BATCHES_LEAST = 3  # fewer say nothing of how long the next one takes
ALIKE = 3.0  # times as many, or as few, requests: batches of about one size


@dataclass
class Results:
    """Sums over the past results of one model under one template, by chunk."""

    inputs: list[Moments] = field(default_factory=list)
    outputs: list[Moments] = field(default_factory=list)
    permanent: int = 0  # requests that can never be answered
    input_tokens: int = 0
    written: int = 0  # of input_tokens, to the prompt cache
    read: int = 0
    cut: int = 0  # answers that ended at max_tokens

    @property
    def answers(self) -> int:
        return sum(m.n for m in self.inputs)

    @property
    def billed_share(self) -> float:
        return self.answers / (self.answers + self.permanent) if self.answers else 1.0

    def billed_doubt(self, requests: int) -> float:
        """How far that share may be off among so many new requests, relative to it: a share in two samples."""
        share, seen = self.billed_share, self.answers + self.permanent
        return quantile(self.answers) * math.sqrt((1 - share) / share * (1 / seen + 1 / max(requests, 1)))

    def cache_mix(self, workload: Workload) -> CacheMix:
        one_hour = "5m" not in str(workload.params.get("cache_control", ""))
        whole = max(self.input_tokens, 1)
        return CacheMix(self.written / whole, self.read / whole, one_hour)


@dataclass
class Past:
    """`same`: by model, under the template of today; `other`: by model, under another one."""

    same: dict[str, Results] = field(default_factory=lambda: defaultdict(Results))
    other: dict[str, Results] = field(default_factory=lambda: defaultdict(Results))


def read_past(desk: Desk, workload: Workload, template: str) -> Past:
    """The newest results of a workload; those whose plan is pruned, or is of an older version, are left out."""
    chunks = {chunk.id: chunk for chunk in desk.ledger.chunks(workload.name)}
    by_plan: dict[Path, list[Part]] = {}
    rows = 0
    for part in reversed(desk.ledger.parts(workload.name, kinds=["attempts"])):
        if rows < ROWS_MAX and part.chunk_id in chunks:
            plan = desk.home.requests(workload.name, part.snapshot, f"plan-{part.plan_number}.parquet")
            by_plan.setdefault(plan, []).append(part)
            rows += part.rows
    past = Past()
    with leased(desk.home.scratch()) as duck:
        for plan, parts in by_plan.items():
            schema = pq.read_schema(plan) if plan.exists() else None
            if schema is None or "size_bytes" not in schema.names:
                continue
            now = (schema.metadata or {}).get(TEMPLATE_KEY) == template.encode()
            models = {
                (chunks[p.chunk_id].snapshot, chunks[p.chunk_id].key): chunks[p.chunk_id].model
                for p in parts
                if p.chunk_id
            }
            files = ", ".join(file_literal(desk.path(part.path)) for part in parts)
            for snapshot, chunk, *sums in duck.execute(_sums(files, file_literal(plan))).fetchall():
                model = desk.catalog.model(models[snapshot, chunk]).id
                _add((past.same if now else past.other)[model], sums)
    return past


def _sums(files: str, plan: str) -> str:
    good = "outcome = 'succeeded' AND output_tokens IS NOT NULL"
    listed = ", ".join(f"{term.format(t=t)} FILTER ({good})" for t in ("i", "o") for term in TERMS)
    return f"""
        SELECT snapshot, chunk, {listed}, count(*) FILTER (verdict = 'permanent'),
               sum(i) FILTER ({good}), sum(coalesce(cache_write_tokens, 0)) FILTER ({good}),
               sum(coalesce(cache_read_tokens, 0)) FILTER ({good}), count(*) FILTER ({good} AND stop_reason = 'max_tokens')
        FROM (SELECT a.*, p.size_bytes::DOUBLE AS x, output_tokens::DOUBLE AS o,
                     (input_tokens + coalesce(cache_write_tokens, 0) + coalesce(cache_read_tokens, 0))::DOUBLE AS i
              FROM read_parquet([{files}], union_by_name = true) a
              JOIN (SELECT row, size_bytes FROM read_parquet({plan}) WHERE size_bytes > 0) p USING (row))
        GROUP BY snapshot, chunk"""


def _add(results: Results, sums: list[float | None]) -> None:
    values = [value or 0.0 for value in sums]
    of_input, of_output, rest = values[: len(TERMS)], values[len(TERMS) : 2 * len(TERMS)], values[2 * len(TERMS) :]
    if of_input[0]:
        results.inputs.append(Moments(int(of_input[0]), *of_input[1:]))
        results.outputs.append(Moments(int(of_output[0]), *of_output[1:]))
    results.permanent += int(rest[0])
    results.input_tokens += int(rest[1])
    results.written += int(rest[2])
    results.read += int(rest[3])
    results.cut += int(rest[4])


class BatchTimes:
    """How long past batches of this ledger took, by model."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._by_model: dict[str, list[tuple[int, float]]] = {}  # as far as it was asked for

    def of(self, model: Model, requests: int, like: Model) -> Turnaround:
        """For batches of about so many requests; where none are known, by those of the model `like`."""
        learned = self._learned(model, requests)
        if learned is not None:
            return learned
        other = self._learned(like, requests)
        if other is not None and model.relative_speed and like.relative_speed:
            factor = like.relative_speed / model.relative_speed
            basis = f"{other.basis} of {like.id}, x {factor:.2g} by relative speed (assumed)"
            return Turnaround(other.median_hours * factor, other.p90_hours * factor, True, basis)
        limits = self._desk.catalog.limits
        usual, most = limits.batch_usual_hours, limits.batch_expires_after_hours
        basis = f"{usual} h a batch is assumed (the catalogue's usual; the API gives it {most} h)"
        return Turnaround(float(usual), float(most), True, basis)

    def _learned(self, model: Model, requests: int) -> Turnaround | None:
        if model.id not in self._by_model:
            names = (model.id, *model.aliases)
            self._by_model[model.id] = self._desk.ledger.turnarounds(names, limit=BATCHES_MAX)
        all_of_it = self._by_model[model.id]
        alike = [hours for size, hours in all_of_it if requests / ALIKE <= size <= requests * ALIKE]
        hours = sorted(alike if len(alike) >= BATCHES_LEAST else [hours for _, hours in all_of_it])
        if len(hours) < BATCHES_LEAST:
            return None
        ninth = hours[min(-(-9 * len(hours) // 10), len(hours)) - 1]
        return Turnaround(median(hours), ninth, False, f"learned from {len(hours):,} past batches")
