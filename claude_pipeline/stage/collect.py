"""Ended batches -> result rows and merged rows on disk, chunk by chunk."""

from __future__ import annotations

from collections.abc import Container, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import pyarrow as pa

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import ApiRefused, ApiUnclear, ResultsIncomplete
from claude_pipeline.home import READ_BYTES, written
from claude_pipeline.lane.cancel import cancel_live
from claude_pipeline.lane.poll import Look, poll
from claude_pipeline.ledger import BatchId, BatchRow, ChunkRow, ChunkState, Collected
from claude_pipeline.progress import told
from claude_pipeline.result import AskedFacts, Parsed
from claude_pipeline.stage.answers import index_of, keep, read_answers
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.raw import PackBroken, pack, unpack
from claude_pipeline.stage.reserve import kept_units
from claude_pipeline.workload import Workload

_End = Collected | ApiUnclear | ApiRefused  # of collecting one chunk


@dataclass
class Collection:
    """What one collection did."""

    done: list[tuple[ChunkRow, Collected]] = field(default_factory=list)
    unclear: list[tuple[ChunkRow, str]] = field(default_factory=list)  # to be tried again
    gone: list[tuple[ChunkRow, str]] = field(default_factory=list)  # their results can never be had

    @property
    def stop(self) -> str | None:
        """What the API said of the account in result lines; the ledger holds the stop by then."""
        return next((collected.stop for _, collected in self.done if collected.stop), None)


def look(desk: Desk) -> Look:
    """Ask the API once about everything in flight, and to cancel what a person canceled. Raises as `lane.poll.poll`."""
    found = poll(desk.ledger, desk.client, clock=desk.clock)
    cancel_live(desk.ledger, desk.client, clock=desk.clock)
    return found


def collect(desk: Desk, workload: Workload, keys: Container[str] | None = None) -> Collection:
    """Collect every ended batch of a workload, or those of the chunks `keys`. Safe to repeat.

    One process collects a workload at a time; a second one finds what is left. As many batches as the desk has
    collectors are collected side by side, so that one is downloaded while another is parsed or written.
    """
    found = Collection()
    with desk.ledger.lock(f"collect-{workload.name}", wait=True), desk.ledger.many_reads():
        ended = [
            chunk
            for chunk in desk.ledger.chunks(workload.name, states=[ChunkState.ENDED])
            if keys is None or chunk.partition_key in keys
        ]
        told("collecting", 0, total=len(ended), unit="batches")
        with closing(_side_by_side(desk, workload, ended)) as ends:
            for done, (chunk, end) in enumerate(ends, start=1):
                match end:
                    case Collected():
                        found.done.append((chunk, end))
                    case ResultsIncomplete():
                        way_out = f"`claude-pipeline reconcile --as-is {chunk.batch_id}` takes what can be read"
                        found.unclear.append((chunk, f"{end}; if it stays so: {way_out}"))
                    case ApiUnclear():
                        found.unclear.append((chunk, str(end)))
                    case ApiRefused():
                        _without_results(desk, chunk, end, found)
                    case _:
                        assert_never(end)
                told("collecting", done, total=len(ended), unit="batches")
    return found


def _side_by_side(
    desk: Desk, workload: Workload, chunks: Sequence[ChunkRow]
) -> Generator[tuple[ChunkRow, _End], None, None]:
    """Each chunk with how collecting it ended, in order. Another error of one lets those that have begun end, begins no
    other, and is raised."""
    if desk.collectors == 1 or len(chunks) < 2:
        yield from ((chunk, _end_of(desk, workload, chunk)) for chunk in chunks)
        return
    desk.client.connected()  # its client is made once, here
    threads = ThreadPoolExecutor(desk.collectors, "collect")
    try:
        running = [threads.submit(_end_of, desk, workload, chunk) for chunk in chunks]
        for chunk, future in zip(chunks, running, strict=True):
            yield chunk, future.result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _end_of(desk: Desk, workload: Workload, chunk: ChunkRow) -> _End:
    try:
        with desk.ledger.many_reads():
            return collect_chunk(desk, workload, chunk)
    except (ApiUnclear, ApiRefused) as problem:
        return problem


def _without_results(desk: Desk, chunk: ChunkRow, refused: ApiRefused, found: Collection) -> None:
    """The API has no results (any more): archived ones never come back; deleted ones a person decides on."""
    assert chunk.batch_id is not None
    batch = desk.ledger.batch(chunk.batch_id)
    if batch is None or batch.archived_at is None:
        batch = _seen_now(desk, chunk.batch_id)  # it may have been archived since its end was seen
    if batch is None or batch.archived_at is None:
        way_out = f"if it was deleted: `claude-pipeline reconcile --gone {chunk.batch_id}`"
        found.unclear.append((chunk, f"{refused}; {way_out}"))
        return
    reason = f"the results of {chunk.batch_id} were archived at the API ({batch.archived_at:%Y-%m-%d}) before they were"
    reason += " collected; what it answered was paid"
    desk.ledger.batch_gone(chunk, reason, at=desk.clock())
    found.gone.append((chunk, reason))


def _seen_now(desk: Desk, batch_id: BatchId) -> BatchRow | None:
    try:
        desk.ledger.batch_seen(desk.client.retrieve(batch_id), at=desk.clock())
    except (ApiUnclear, ApiRefused):
        return None
    return desk.ledger.batch(batch_id)


def collect_chunk(desk: Desk, workload: Workload, chunk: ChunkRow) -> Collected:
    """Download, parse, join, write, then one transaction moves the chunk to `done`.

    Raises:
        ApiUnclear, ApiRefused: no results now; the chunk stays as it is.
        LedgerDamaged: the chunk's index is not what was written.
    """
    assert chunk.batch_id is not None
    index = index_of(desk, chunk)
    raw = _raw_of(desk, chunk)
    with written(raw) as temporary:
        desk.client.download(chunk.batch_id, temporary)
        crash_point("collect.after_download")
        parsed = _parse(desk, workload, chunk, temporary, index)
    kept = keep(desk, workload, chunk, parsed)
    pack(raw)
    collected = kept.collected(parsed, kept_units=kept_units(index, parsed.table, chunk), stop=True)
    crash_point("collect.before_record")
    desk.ledger.chunk_collected(chunk, collected, kept.parts, at=desk.clock())
    crash_point("collect.after_record")
    return collected


def collected_again(desk: Desk, workload: Workload, chunk: ChunkRow) -> None:
    """Write the files of a collected chunk anew, from its raw lines where they are kept, else from the API.

    Raises:
        ApiUnclear, ApiRefused: they are not kept, and the API has no results now, or no more.
    """
    raw = _raw_of(desk, chunk)
    try:
        unpack(raw)
        parsed = _parse(desk, workload, chunk, raw, index_of(desk, chunk))
    except (FileNotFoundError, PackBroken, ResultsIncomplete):  # gone, or damaged as well
        collect_chunk(desk, workload, chunk)
        return
    keep(desk, workload, chunk, parsed)
    pack(raw)


def _raw_of(desk: Desk, chunk: ChunkRow) -> Path:
    return desk.home.download(chunk.workload, chunk.snapshot, f"{chunk.key}.jsonl")


def _parse(desk: Desk, workload: Workload, chunk: ChunkRow, download: Path, index: pa.Table) -> Parsed:
    import orjson

    assert chunk.batch_id is not None
    batch = desk.ledger.batch(chunk.batch_id)
    assert batch is not None
    facts = AskedFacts(
        snapshot=chunk.snapshot,
        chunk=chunk.key,
        attempt=chunk.round,
        tag=batch.tag or "",
        batch_id=batch.id,
        model=chunk.model,
        max_tokens=chunk.max_tokens,
        answered_at=batch.ended_at,
        counts=orjson.loads(batch.counts or "{}"),
        billed_at=batch.created_at,
    )
    with download.open("rb", buffering=READ_BYTES) as raw:
        return read_answers(desk, workload, raw, index, facts, as_is=desk.ledger.is_taken_as_is(batch.id))
