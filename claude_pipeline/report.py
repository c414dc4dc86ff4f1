"""What a snapshot cost, how fast it went and what failed: as numbers, as rows, as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.ledger import ChunkRow, SnapshotRow
from claude_pipeline.money import dollars
from claude_pipeline.result import connection
from claude_pipeline.sql import file_literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.quality import Quality, quality_of
from claude_pipeline.workload import Workload

REASONS_MAX = 3


@dataclass(frozen=True)
class Summary:
    """One snapshot in numbers. Rates and times are by the API's clock: first batch created to last ended."""

    workload: str
    snapshot: str
    records: int
    succeeded: int
    dead: int
    rejected: int
    requests: int  # sent, all rounds
    reused: int
    duplicates: int
    batches: int
    rounds: int
    invalid: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    realtime_usd: float  # the same tokens at the real-time price
    started_at: datetime | None
    ended_at: datetime | None
    hours_to_sla: float | None  # least that was left of 24 h when a batch ended
    cache_write_tokens: int = 0  # of the input tokens
    cache_read_tokens: int = 0  # likewise
    reasons: tuple[tuple[str, int], ...] = ()  # why records have no answer, most frequent first
    quality: Quality = field(default_factory=Quality)

    @property
    def minutes(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return max((self.ended_at - self.started_at).total_seconds() / 60, 1 / 60)

    def per_minute(self, amount: int) -> float | None:
        return None if self.minutes is None else amount / self.minutes

    @property
    def answered(self) -> int:
        """Requests that the API answered."""
        return self.succeeded - self.reused - self.duplicates

    @property
    def cache_hit_rate(self) -> float | None:
        """Share of the input tokens that was read from the prompt cache; None where it was not used."""
        if not (self.cache_write_tokens or self.cache_read_tokens):
            return None
        return self.cache_read_tokens / self.input_tokens

    def rows(self) -> list[tuple[str, str]]:
        """Label and value, for a table that people read."""
        pairs = [
            ("snapshot", f"{self.workload} {self.snapshot}"),
            ("records", f"{self.records:,}"),
            ("= succeeded", f"{self.succeeded:,}"),
            ("+ dead letters", f"{self.dead:,}"),
            ("+ rejected (never sent)", f"{self.rejected:,}"),
            (
                "requests sent",
                f"{self.requests:,} in {self.batches:,} batches, {self.rounds} round{'s' * (self.rounds != 1)}",
            ),
            ("not asked twice", f"{self.reused:,} reused, {self.duplicates:,} duplicates"),
            ("tokens", f"{self.input_tokens:,} in, {self.output_tokens:,} out"),
            ("cost", f"{_dollars(self.cost_usd)}{self._saving()}"),
        ]
        if self.cache_hit_rate is not None:
            counts = f"{self.cache_read_tokens:,} tokens read, {self.cache_write_tokens:,} written"
            pairs.append(("prompt cache", f"{self.cache_hit_rate:.0%} of input read from it ({counts})"))
        if self.minutes is not None:
            pairs += [
                ("time at the API", duration(self.minutes * 60)),
                ("throughput", f"{self.per_minute(self.requests):,.0f} requests/min, "
                 f"{self.per_minute(self.input_tokens):,.0f} input and {self.per_minute(self.output_tokens):,.0f} output tokens/min"),
            ]  # fmt: skip
        if self.hours_to_sla is not None:
            pairs.append(("left of the 24 h SLA", f"{self.hours_to_sla:.1f} h at the tightest batch"))
        pairs += [(f"{count:,} without answer", reason) for reason, count in self.reasons]
        if self.invalid:
            pairs.append(("outside output schema", f"{self.invalid:,} answers"))
        return pairs + self.quality.rows()

    def _saving(self) -> str:
        if not self.realtime_usd:
            return ""
        return f" (real-time price: {_dollars(self.realtime_usd)}, saved {1 - self.cost_usd / self.realtime_usd:.0%})"

    def numbers(self) -> dict[str, float | int]:
        """What plots over time in Dagster; leaves out what is not known."""
        found: dict[str, float | int | None] = {
            "records": self.records,
            "succeeded": self.succeeded,
            "dead_letters": self.dead,
            "rejected": self.rejected,
            "requests": self.requests,
            "batches": self.batches,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_hit_rate": self.cache_hit_rate,
            "cost_usd": self.cost_usd,
            "realtime_usd": self.realtime_usd,
            "success_rate": self.succeeded / self.records if self.records else None,
            "minutes": self.minutes,
            "requests_per_min": self.per_minute(self.requests),
            "input_tokens_per_min": self.per_minute(self.input_tokens),
            "output_tokens_per_min": self.per_minute(self.output_tokens),
            "hours_to_sla": self.hours_to_sla,
            **self.quality.numbers(),
        }
        return {name: value for name, value in found.items() if value is not None}

    def markdown(self) -> str:
        lines = ["| | |", "|---|---|"]
        return "\n".join(lines + [f"| {label} | {value} |" for label, value in self.rows()])


def _dollars(usd: float) -> str:
    return dollars(round(usd * UNITS_PER_USD))


def duration(seconds: float) -> str:
    """As people say it: `21 h 14 min`, `3 min 20 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def summarize(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> Summary:
    """The numbers of one snapshot, from the ledger."""
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    sent = [chunk for chunk in chunks if chunk.batch_id is not None]
    batches = desk.ledger.batches(ids=[chunk.batch_id for chunk in sent if chunk.batch_id])
    ended = [batch for batch in batches if batch.ended_at is not None]
    left = [(b.expires_at - b.ended_at).total_seconds() / 3600 for b in ended if b.expires_at and b.ended_at]
    cost_usd = _sum(sent, "cost_units") / UNITS_PER_USD
    spent = desk.ledger.spent(workload.name, snapshot=snapshot.id)
    return Summary(
        workload=workload.name,
        snapshot=snapshot.id,
        records=snapshot.records,
        succeeded=snapshot.succeeded or 0,
        dead=snapshot.dead or 0,
        rejected=snapshot.rejected or 0,
        requests=sum(chunk.requests for chunk in sent),
        reused=snapshot.reused or 0,
        duplicates=snapshot.duplicates or 0,
        batches=len(batches),
        rounds=max((chunk.round for chunk in sent), default=0),
        invalid=_sum(sent, "invalid"),
        input_tokens=_sum(sent, "input_tokens"),
        output_tokens=_sum(sent, "output_tokens"),
        cost_usd=cost_usd,
        realtime_usd=cost_usd / float(desk.catalog.limits.batch_price_factor),  # half of every token class
        started_at=min((batch.created_at for batch in batches), default=None),
        ended_at=max((batch.ended_at for batch in ended if batch.ended_at), default=None),
        hours_to_sla=min(left, default=None),
        cache_write_tokens=sum(each.cache_write_tokens for each in spent),
        cache_read_tokens=sum(each.cache_read_tokens for each in spent),
        reasons=_reasons(desk, workload, snapshot) if snapshot.dead or snapshot.rejected else (),
        quality=quality_of(desk, workload, snapshot),
    )


def _reasons(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> tuple[tuple[str, int], ...]:
    """The most frequent errors of a merged snapshot's records without an answer."""
    rest = [p for p in desk.ledger.merged_parts(workload.name) if p.snapshot == snapshot.id and p.kind == "rest"]
    if not rest:
        return ()
    with connection(desk.home.scratch()) as duck:
        return tuple(
            duck.sql(
                f"""SELECT concat_ws(': ', error_type, error_message), count(*) FROM
                    read_parquet({file_literal(desk.path(rest[0].path))})
                    WHERE outcome <> 'succeeded' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {REASONS_MAX}"""
            ).fetchall()
        )


def _sum(chunks: list[ChunkRow], name: str) -> int:
    return sum(getattr(chunk, name) or 0 for chunk in chunks)
