"""What `status --watch` shows, as figures: all read off the ledger at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from claude_pipeline.alert import Sla, sla_of
from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import Kind, Situation, decide, held_sentence, plural, standing, survey
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.ledger import AskingRow, ChunkRow, ChunkState, SnapshotProgress
from claude_pipeline.ledger.ask_moves import REALTIME
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.rate import Rate, rates
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import read_workload

ALERTS_SHOWN, ALERTS_FOR = 3, timedelta(hours=24)
NEXT = {
    Kind.SUBMIT: "to be sent",
    Kind.ASK: "to be asked in real time",
    Kind.COLLECT: "to be collected",
    Kind.FINALIZE: "to be merged and published",
}


@dataclass(frozen=True)
class Way:
    """A snapshot on its way, or the newest one of a workload at rest."""

    workload: str
    snapshot: str
    state: str
    records: int
    requests: int  # in chunks, all rounds
    done: int  # of these: answered or settled
    chunks: Mapping[str, int]  # by state
    cost_usd: float
    budget_usd: float | None
    at_rest: bool


@dataclass(frozen=True)
class Lane:
    """What of a workload is in flight in a lane, and how fast it goes."""

    workload: str
    lane: str
    model: str
    batches: int  # 0 in real time
    requests: int  # in flight
    requests_per_minute: float | None
    input_tokens_per_minute: float | None
    output_tokens_per_minute: float | None
    estimated: bool  # over what ended within the last hour


@dataclass(frozen=True)
class Flight:
    """A batch at the API."""

    batch: str
    workload: str
    chunk: str
    requests: int
    age_hours: float
    hours_left: float | None
    sla: Sla


@dataclass(frozen=True)
class Live:
    """One moment."""

    at: datetime
    stopped: str | None
    ways: tuple[Way, ...]
    lanes: tuple[Lane, ...]
    flights: tuple[Flight, ...]  # the least time left first
    notes: tuple[str, ...]  # doubts, walls, refusals: what stands in the way
    next: tuple[str, ...]  # one sentence for each workload that is not at rest
    alerts: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def known_workloads(desk: Desk, loaded: Iterable[Workload]) -> dict[str, Workload]:
    """The definition of each workload that the ledger knows, from the folders or from the file it was last read from."""
    by_name = {workload.name: workload for workload in loaded}
    for name, source in desk.ledger.sources().items():
        if name not in by_name and source is not None:
            try:
                by_name[name] = read_workload(Path(source))
            except ClaudePipelineError:  # it is gone, or wrong by now: its figures are shown without its budget
                continue
    return by_name


def look_at(desk: Desk, workloads: Mapping[str, Workload]) -> Live:
    """Read everything that is shown."""
    ledger, now = desk.ledger, desk.clock()
    names = ledger.workloads()
    situations = {name: survey(desk, workloads[name]) for name in names if name in workloads}
    flying = ledger.chunks(states=[ChunkState.LIVE])
    return Live(
        at=now,
        stopped=standing(ledger, now) or (stop.sentence if (stop := ledger.stop()) else None),
        ways=tuple(way for name in names for way in _ways(desk, name, workloads.get(name))),
        lanes=tuple(lanes(flying, ledger.asking(at=now), rates(ledger, now))),
        flights=tuple(_flights(desk, names, workloads, now)),
        notes=tuple(_notes(desk, situations)),
        next=tuple(f"{name}: {next_of(s, now)}" for name, s in situations.items() if not s.at_rest),
        alerts=tuple(
            f"{alert.noted_at:%m-%d %H:%M} {alert.kind}: {alert.sentence}"
            for alert in ledger.last_alerts(since=now - ALERTS_FOR, limit=ALERTS_SHOWN)
        ),
    )


def _ways(desk: Desk, name: str, workload: Workload | None) -> list[Way]:
    """Those with work left, else the newest."""
    rounds = workload.max_rounds if workload else 1
    open_ones = desk.ledger.progress(name, max_rounds=rounds)
    shown = open_ones or desk.ledger.progress(name, max_rounds=rounds, all_merged=True)[-1:]
    return [_way(progress, workload, at_rest=not open_ones) for progress in shown]


def _way(progress: SnapshotProgress, workload: Workload | None, *, at_rest: bool) -> Way:
    s = progress.snapshot
    return Way(
        workload=s.workload,
        snapshot=s.id,
        state=s.state.value,
        records=s.records,
        requests=sum(progress.requests.values()),
        done=progress.requests.get(ChunkState.DONE, 0),
        chunks={state.value: count for state, count in progress.chunks.items()},
        cost_usd=progress.cost_units / UNITS_PER_USD,
        budget_usd=workload.budget_usd if workload else None,
        at_rest=at_rest,
    )


def lanes(flying: Iterable[ChunkRow], asking: Iterable[AskingRow], found: Iterable[Rate]) -> list[Lane]:
    """In flight and rates, joined by workload, lane and model."""
    flights: dict[tuple[str, str, str], tuple[int, int]] = {}
    for chunk in flying:
        key = (chunk.workload, "batch", chunk.model)
        batches, requests = flights.get(key, (0, 0))
        flights[key] = (batches + 1, requests + chunk.requests)
    in_flight = {row.workload: row.in_flight for row in asking}
    rate_of = {(rate.workload, rate.lane, rate.model): rate for rate in found}
    joined = []
    for key in sorted({*flights, *rate_of}):
        workload, lane, model = key
        rate = rate_of.get(key)
        batches, requests = flights.get(key, (0, in_flight.get(workload, 0) if lane == REALTIME else 0))
        joined.append(
            Lane(
                workload, lane, model, batches, requests,
                rate.requests if rate else None, rate.input_tokens if rate else None,
                rate.output_tokens if rate else None, estimated=bool(rate and rate.estimated),
            )
        )  # fmt: skip
    return joined


def _flights(desk: Desk, names: list[str], workloads: Mapping[str, Workload], now: datetime) -> list[Flight]:
    hour = timedelta(hours=1)
    found = []
    for batch in desk.ledger.watched(names, since=now):
        if batch.ended_at is None:
            share = workloads[batch.workload].sla_warn_share if batch.workload in workloads else 0.75
            left = (batch.expires_at - now) / hour if batch.expires_at else None
            place = f"{batch.snapshot}|{batch.key}"
            age = max(0.0, (now - batch.created_at) / hour)  # the API's clock may be ahead of ours
            found.append(Flight(batch.id, batch.workload, place, batch.requests, age, left, sla_of(batch, share, now)))
    return sorted(found, key=lambda flight: (flight.hours_left is None, flight.hours_left))


def _notes(desk: Desk, situations: Mapping[str, Situation]) -> list[str]:
    notes = [f"in doubt: {i.tag} since {i.doubt_at or i.created_at:%H:%M:%S}: {i.doubt_reason or 'a process is at it, or died'}"
             for i in desk.ledger.unsettled_intents()]  # fmt: skip
    notes += [f"paid twice: {b.id}, {b.requests:,} requests" for b in desk.ledger.paid_twice()]
    for name, situation in situations.items():
        if situation.held:
            notes.append(f"{name}: {held_sentence(situation)}")
        if situation.failed:
            notes.append(f"{name}: {plural(situation.failed, 'chunk', 'chunks')} refused by the API")
    for name, snapshot, lost in desk.ledger.lost():
        notes.append(
            f"{name} {snapshot}: {plural(lost, 'answer', 'answers')} in real time may have been paid and were lost"
        )
    notes += [
        f"the API asked to wait until {rate.paused_until:%H:%M:%S} UTC with {rate.pool}"
        for rate in desk.ledger.rates().values()
        if rate.paused_until is not None and rate.paused_until > desk.clock()
    ]
    return notes


def next_of(situation: Situation, now: datetime) -> str:
    """The next thing that happens to a workload, and who or what it waits for."""
    actions = decide(situation)
    if situation.asking_told:
        return situation.asking_told
    if actions:
        amount = {
            Kind.SUBMIT: plural(situation.sendable + situation.held_that_fit, "chunk", "chunks"),
            Kind.ASK: plural(situation.askable, "chunk", "chunks"),
            Kind.COLLECT: plural(situation.ended, "ended batch", "ended batches"),
            Kind.FINALIZE: "a snapshot",
        }
        return "; ".join(f"{amount[a.kind]} {NEXT[a.kind]}" for a in actions) + ", by the sensor or by `run`"
    if situation.in_flight:
        waits = plural(situation.in_flight, "batch", "batches")
        if situation.next_expiry is None:
            return f"waits for {waits} at the API"
        minutes = max(0, int((situation.next_expiry - now).total_seconds() // 60))
        return f"waits for {waits} at the API; the oldest has {minutes // 60} h {minutes % 60} min left"
    if situation.stopped is not None:
        return "waits for the account"
    if situation.doubtful:
        return f"waits for the API's list to show {plural(situation.doubtful, 'create', 'creates')} without an answer"
    if situation.wall is not None:
        return "waits for the budget's wall"
    if situation.waiting_for_room or situation.waiting_for_primer:
        return f"{plural(situation.waiting_for_room + situation.waiting_for_primer, 'chunk waits', 'chunks wait')} for room"
    return "waits for another snapshot's answers" if any(p.waits_on for p in situation.progress) else "about to merge"
