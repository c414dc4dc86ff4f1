"""What a snapshot cost, how fast it went and what failed: as numbers, as rows, as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.duckdb_pool import leased
from claude_pipeline.errors import in_short
from claude_pipeline.ledger import ChunkRow, SnapshotRow, Spend
from claude_pipeline.ledger.ask_moves import REALTIME
from claude_pipeline.markdown import plain
from claude_pipeline.money import dollars
from claude_pipeline.sql import file_literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.quality import Quality, quality_of
from claude_pipeline.workload import Workload

REASONS_MAX = 3
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Summary:
    """One snapshot in numbers. Rates and times go from the first batch created, by the API's clock, or the first
    request asked in real time, by ours, to the last end of either."""

    workload: str
    snapshot: str
    records: int
    succeeded: int
    dead: int
    rejected: int
    requests: int  # sent, all rounds, both lanes
    reused: int
    duplicates: int
    batches: int
    rounds: int
    invalid: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    realtime_usd: float  # all of its tokens at the real-time price
    started_at: datetime | None
    ended_at: datetime | None
    hours_to_sla: float | None  # least that was left of 24 h when a batch ended
    cache_write_tokens: int = 0  # of the input tokens
    cache_read_tokens: int = 0  # likewise
    reasons: tuple[tuple[str, int], ...] = ()  # why records have no answer, most frequent first
    quality: Quality = field(default_factory=Quality)
    realtime_requests: int = 0  # of the requests: those asked in real time
    realtime_cost_usd: float = 0.0  # of the cost
    lost: int = 0  # answers in real time that may have been paid, and that nobody recorded

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
            ("requests sent", f"{self._sent()}, {self.rounds} round{'s' * (self.rounds != 1)}"),
            ("not asked twice", f"{self.reused:,} reused, {self.duplicates:,} duplicates"),
            ("tokens", f"{self.input_tokens:,} in, {self.output_tokens:,} out"),
            ("cost", f"{_dollars(self.cost_usd)}{self._saving()}"),
        ]
        if self.lost:
            pairs.append(("lost in real time", f"{self.lost:,} {_LOST if self.lost > 1 else _LOST_ONE}"))
        if self.cache_hit_rate is not None:
            counts = f"{self.cache_read_tokens:,} tokens read, {self.cache_write_tokens:,} written"
            pairs.append(("prompt cache", f"{self.cache_hit_rate:.0%} of input read from it ({counts})"))
        if self.minutes is not None:
            pairs += [
                ("time at the API", duration(self.minutes * 60)),
                ("throughput", f"{rate(self.requests / self.minutes)} requests/min, "
                 f"{rate(self.input_tokens / self.minutes)} input and {rate(self.output_tokens / self.minutes)} output tokens/min"),
            ]  # fmt: skip
        if self.hours_to_sla is not None:
            pairs.append(("left of the 24 h SLA", f"{self.hours_to_sla:.1f} h at the tightest batch"))
        pairs += [(f"{count:,} without answer", reason) for reason, count in self.reasons]
        if self.invalid:
            pairs.append(("outside output schema", f"{self.invalid:,} answers"))
        return pairs + self.quality.rows()

    @property
    def batch_requests(self) -> int:
        return self.requests - self.realtime_requests

    @property
    def batch_cost_usd(self) -> float:
        return self.cost_usd - self.realtime_cost_usd

    @property
    def saved_usd(self) -> float:
        """What went as batches cost so much less than it would have in real time."""
        return self.realtime_usd - self.cost_usd

    def _sent(self) -> str:
        batches = f"{self.batch_requests:,} in {self.batches:,} batch{'es' * (self.batches != 1)}"
        if not self.realtime_requests:
            return batches
        asked = f"{self.realtime_requests:,} in real time"
        return f"{batches} and {asked}" if self.batch_requests else asked

    def _saving(self) -> str:
        if not self.realtime_usd:
            return ""
        if not self.realtime_requests:
            saved = self.saved_usd / self.realtime_usd
            return f" (real-time price: {_dollars(self.realtime_usd)}, saved {saved:.0%})"
        if not self.saved_usd:  # none was sent as batches, or those were given up unanswered
            return " (real-time price)"
        dearer = self.batch_cost_usd + self.saved_usd
        saved = self.saved_usd / dearer
        return (
            f" ({_dollars(self.batch_cost_usd)} in batches, saved {saved:.0%} of the real-time price of "
            f"{_dollars(dearer)}; {_dollars(self.realtime_cost_usd)} in real time)"
        )

    def numbers(self) -> dict[str, float | int]:
        """What plots over time in Dagster; leaves out what is not known."""
        found: dict[str, float | int | None] = {
            "records": self.records,
            "succeeded": self.succeeded,
            "dead_letters": self.dead,
            "rejected": self.rejected,
            "requests": self.requests,
            "batch_requests": self.batch_requests,
            "realtime_requests": self.realtime_requests,
            "batches": self.batches,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_hit_rate": self.cache_hit_rate,
            "cost_usd": self.cost_usd,
            "batch_cost_usd": self.batch_cost_usd,
            "realtime_cost_usd": self.realtime_cost_usd,
            "realtime_usd": self.realtime_usd,
            "saved_usd": self.saved_usd,
            "lost": self.lost,
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
        return "\n".join(lines + [f"| {plain(label)} | {plain(value)} |" for label, value in self.rows()])


_LOST = "answers may have been paid and were lost, with a killed process or a broken connection"
_LOST_ONE = "answer may have been paid and was lost, with a killed process or a broken connection"


def _dollars(usd: float) -> str:
    return dollars(round(usd * UNITS_PER_USD))


def rate(amount: float) -> str:
    """With the digits that show slow ones: `1,240`, `35.2`, `0.036`."""
    if amount >= 100 or not amount:
        return f"{amount:,.0f}"
    return f"{amount:,.1f}" if amount >= 1 else f"{amount:.2g}"


def duration(seconds: float) -> str:
    """As people say it: `21 h 14 min`, `3 min 20 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def summarize(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> Summary:
    """The numbers of one snapshot, from the ledger."""
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    asked = [chunk for chunk in chunks if chunk.lane == REALTIME]
    batched = [chunk for chunk in chunks if chunk.lane != REALTIME and chunk.batch_id is not None]
    sent = batched + asked
    batches = desk.ledger.batches(ids=[chunk.batch_id for chunk in batched if chunk.batch_id])
    ended = [batch for batch in batches if batch.ended_at is not None]
    left = [(b.expires_at - b.ended_at).total_seconds() / 3600 for b in ended if b.expires_at and b.ended_at]
    spent = desk.ledger.spent(workload.name, snapshot=snapshot.id)
    begun = [batch.created_at for batch in batches]
    if (first := desk.ledger.asked_from(workload.name, snapshot.id)) is not None:
        begun.append(first)
    over = [batch.ended_at for batch in ended if batch.ended_at] + _answered(asked, spent)
    batch_usd, realtime_cost_usd = (_sum(of_lane, "cost_units") / UNITS_PER_USD for of_lane in (batched, asked))
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
        cost_usd=batch_usd + realtime_cost_usd,
        # A batch costs one and the same share of every token class.
        realtime_usd=batch_usd / float(desk.catalog.limits.batch_price_factor) + realtime_cost_usd,
        started_at=min(begun, default=None),
        ended_at=max(over, default=None),
        hours_to_sla=min(left, default=None),
        cache_write_tokens=sum(each.cache_write_tokens for each in spent),
        cache_read_tokens=sum(each.cache_read_tokens for each in spent),
        reasons=_reasons(desk, workload, snapshot) if snapshot.dead or snapshot.rejected else (),
        quality=quality_of(desk, workload, snapshot),
        realtime_requests=sum(chunk.requests for chunk in asked),
        realtime_cost_usd=realtime_cost_usd,
        lost=_sum(chunks, "lost"),
    )


def _answered(asked: list[ChunkRow], spent: list[Spend]) -> list[datetime]:
    """By when chunks were answered in real time: when they were closed, but a process that died may have been long
    gone before another one closed its last."""
    closed = max((chunk.collected_at for chunk in asked if chunk.collected_at), default=None)
    if closed is None:
        return []
    minutes = [each.billed_at for each in spent if each.lane == REALTIME]
    return [min(closed, max(minutes) + MINUTE) if minutes else closed]


def _reasons(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> tuple[tuple[str, int], ...]:
    """The most frequent errors of a merged snapshot's records without an answer."""
    rest = [p for p in desk.ledger.merged_parts(workload.name) if p.snapshot == snapshot.id and p.kind == "rest"]
    if not rest:
        return ()
    with leased(desk.home.scratch()) as duck:
        found = duck.sql(
            # What was rejected says its place: one of them stands for all of its kind.
            f"""SELECT concat_ws(': ', error_type, min(error_message)) ||
                    if(outcome = 'rejected' AND count(*) > 1, ' (one of them)', ''), count(*)
                FROM read_parquet({file_literal(desk.path(rest[0].path))})
                WHERE outcome <> 'succeeded'
                GROUP BY outcome, error_type, if(outcome = 'rejected', NULL, error_message)
                ORDER BY 2 DESC, 1 LIMIT {REASONS_MAX}"""
        ).fetchall()
    return tuple((in_short(reason), count) for reason, count in found)


def _sum(chunks: list[ChunkRow], name: str) -> int:
    return sum(getattr(chunk, name) or 0 for chunk in chunks)
