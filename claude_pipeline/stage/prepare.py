"""Dataset -> snapshot -> plan -> chunks: everything before the first request is sent.

Two passes over the snapshot, so that memory holds a batch of records and never the dataset: the
first renders each record and writes its fingerprint into the plan; DuckDB then says which rows ask
something that is neither answered nor on its way; the second renders just those into chunks.
Materializing again with nothing new registers nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.catalog import Price
from claude_pipeline.chunk import Chunk, ChunkLimit, cut_chunks
from claude_pipeline.crash import crash_point
from claude_pipeline.dataset import columns_of, record_batches, take_snapshot
from claude_pipeline.errors import DatasetInvalid, LedgerDamaged, WorkloadInvalid
from claude_pipeline.home import sha256_of, written
from claude_pipeline.ledger import ChunkRow, ChunkState, NewChunk, PlanCounts, SnapshotId, SnapshotRow
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.request import Rejection, Request, RequestMaker
from claude_pipeline.result import check_names, connection
from claude_pipeline.sql import file_literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

PLAN = pa.schema(
    [
        ("row", pa.int64()),  # in the snapshot, from 0
        ("record_id", pa.string()),
        ("fingerprint", pa.binary(32)),  # null: rejected
        ("reject_code", pa.string()),
        ("reject_detail", pa.string()),
    ]
)
BATCH_ROWS = 5_000


@dataclass(frozen=True)
class Prepared:
    """A snapshot with its current plan."""

    snapshot: SnapshotRow
    chunks: list[ChunkRow]  # all of the snapshot
    new_chunks: int  # registered by this call
    new_requests: int


def prepare(desk: Desk, workload: Workload, partition: str) -> Prepared:
    """Load, render, plan and cut one partition of a workload; idempotent.

    Raises:
        WorkloadInvalid, DatasetInvalid, PromptInvalid, CatalogMissing: before anything is registered.
    """
    price = check_model(desk, workload)
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):
        desk.ledger.register_workload(workload.name, source=workload.source, cadence=workload.cadence, at=desk.clock())
        snapshot = _load(desk, workload, partition)
        known = len(desk.ledger.chunks(workload.name, snapshot=snapshot.id))
        _plan(desk, workload, snapshot, price)
        chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
        new = chunks[known:]
        found = desk.ledger.snapshot(workload.name, snapshot.id)
        assert found is not None
        return Prepared(found, chunks, len(new), sum(chunk.requests for chunk in new))


def check_model(desk: Desk, workload: Workload) -> Price:
    """The model's price today; refuses what the API would refuse for each request.

    Raises:
        CatalogMissing: unknown model or price.
        WorkloadInvalid: retired, not for batches, or max_tokens over the model's.
    """
    now = desk.clock()
    model = desk.catalog.model(workload.model)
    if model.lifecycle(now.date()) == "retired":
        raise WorkloadInvalid(f"model: {workload.model} is retired since {model.retires_at}", place=workload.place)
    if model.max_output_tokens is not None and workload.max_tokens > model.max_output_tokens:
        raise WorkloadInvalid(
            f"max_tokens: {workload.max_tokens:,} is over what {workload.model} gives at most ({model.max_output_tokens:,})",
            place=workload.place,
        )
    desk.catalog.tier(desk.settings.tier)
    return desk.catalog.price(model.id, now)


def _load(desk: Desk, workload: Workload, partition: str) -> SnapshotRow:
    """Take a snapshot; equal records to the partition's last one are that one."""
    pattern = desk.home.snapshot(workload.name, "{id}")
    fresh = desk.home.snapshot(workload.name, f".{partition}.fresh")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    taken = take_snapshot(workload, fresh, scratch=desk.home.scratch())
    try:
        check_names(workload, [name for name in taken.columns if name != "record_id"])
        snapshot = desk.ledger.snapshot_loaded(
            workload.name,
            partition,
            path=desk.home.relative(pattern),
            digest=taken.digest,
            records=taken.records,
            at=desk.clock(),
        )
        crash_point("prepare.after_snapshot")
        path = desk.path(snapshot.path)
        if not path.exists():
            fresh.replace(path)
        elif sha256_of(path) != snapshot.digest:
            raise LedgerDamaged(f"{snapshot.path} is not what was loaded (sha256 differs); restore it from a backup")
    finally:
        fresh.unlink(missing_ok=True)
    return snapshot


def _plan(desk: Desk, workload: Workload, snapshot: SnapshotRow, price: Price) -> None:
    """Decide how each record is answered, and cut what must be asked; nothing when the plan is as it was."""
    records = desk.path(snapshot.path)
    maker = RequestMaker.of(workload, columns_of(records))
    number = snapshot.plan_number + 1
    plan = desk.home.requests(workload.name, snapshot.id, f"plan-{number}.parquet")
    with written(plan) as temporary:
        rejected = _write_plan(records, maker, temporary)
        digest = sha256_of(temporary)
        unchanged = digest == snapshot.plan_sha256
        if rejected > workload.max_reject_ratio * snapshot.records:
            raise DatasetInvalid(_too_many(temporary, rejected, snapshot.records, workload), place=workload.place)
    if unchanged:
        plan.unlink()
        return
    crash_point("prepare.after_plan")
    own = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    superseded = [chunk for chunk in own if chunk.state in (ChunkState.READY, ChunkState.HELD)]
    asked = [chunk for chunk in own if chunk not in superseded and chunk.state is not ChunkState.CANCELED]
    rows, counts, waits_on = _decide(desk, workload, snapshot, plan, rejected, asked)
    requests = requests_of(records, maker, rows)
    chunks = cut(desk, workload, snapshot, requests, price, round_number=1, plan_number=number)
    crash_point("prepare.after_chunks")
    desk.ledger.snapshot_planned(
        snapshot,
        plan_path=desk.home.relative(plan),
        plan_sha256=digest,
        counts=counts,
        chunks=chunks,
        waits_on=waits_on,
        superseded=[chunk.id for chunk in superseded],
        at=desk.clock(),
    )


def _write_plan(records: Path, maker: RequestMaker, path: Path) -> int:
    """Write one row per record; returns how many cannot become a request."""
    rejected = 0
    with pq.ParquetWriter(path, PLAN, compression="zstd", write_page_checksum=True) as writer:
        for batch in _made(records, maker):
            columns: list[list[object]] = [[], [], [], [], []]
            for made in batch:
                refused = isinstance(made, Rejection)
                rejected += refused
                values = (
                    (made.row, made.record_id, None, made.code, made.detail)
                    if isinstance(made, Rejection)
                    else (made.row, made.record_id, made.fingerprint, None, None)
                )
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, PLAN.types, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=PLAN))
    return rejected


def _made(records: Path, maker: RequestMaker) -> Iterator[list[Request | Rejection]]:
    """Every record's request or rejection, a batch at a time."""
    row = 0
    for batch in record_batches(records, columns=_columns(maker), rows=BATCH_ROWS):
        made = [maker.make(row + i, record_id, record) for i, (record_id, record) in enumerate(_rows(batch))]
        row += batch.num_rows
        yield made


def requests_of(records: Path, maker: RequestMaker, rows: Iterable[pa.Array]) -> Iterator[Request]:
    """The requests of chosen rows, given in ascending order, in pieces."""
    wanted = _Ascending(rows)
    row = 0
    for batch in record_batches(records, columns=_columns(maker), rows=BATCH_ROWS):
        chosen = wanted.below(row + batch.num_rows)
        if chosen:
            picked = batch.take(pa.array([r - row for r in chosen], pa.int64()))
            for number, (record_id, record) in zip(chosen, _rows(picked), strict=True):
                made = maker.make(number, record_id, record)
                if isinstance(made, Request):
                    yield made
        row += batch.num_rows
        if wanted.over:
            return


class _Ascending:
    """Ascending row numbers that arrive in pieces, taken up to a bound."""

    def __init__(self, pieces: Iterable[pa.Array]) -> None:
        self._pieces = iter(pieces)
        self._held: list[int] = []
        self.over = False

    def below(self, bound: int) -> list[int]:
        taken: list[int] = []
        while not self.over:
            if not self._held:
                piece = next(self._pieces, None)
                if piece is None:
                    self.over = True
                    break
                self._held = piece.to_pylist()
                continue
            if self._held[-1] < bound:
                taken += self._held
                self._held = []
                continue
            split = next(i for i, value in enumerate(self._held) if value >= bound)
            taken += self._held[:split]
            self._held = self._held[split:]
            break
        return taken


def _columns(maker: RequestMaker) -> list[str]:
    return ["record_id", *(name for name in maker.prompt.columns if name != "record_id")]


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, dict[str, object]]]:
    """(record_id, the columns that the prompt asks for) of each row."""
    names = batch.schema.names
    ids = batch.column("record_id").to_pylist()
    columns = [batch.column(name).to_pylist() for name in names]
    for record_id, *values in zip(ids, *columns, strict=True):
        yield record_id, dict(zip(names, values, strict=True))


def _decide(
    desk: Desk, workload: Workload, snapshot: SnapshotRow, plan: Path, rejected: int, own: Sequence[ChunkRow]
) -> tuple[Iterator[pa.Array], PlanCounts, list[SnapshotId]]:
    """Which rows to ask (ascending), how the rest is answered, and which snapshots are waited on."""
    duck = connection(desk.home.scratch())
    duck.execute(
        f"""CREATE TEMP TABLE question AS
            SELECT fingerprint, min(row) AS row, count(*) AS records FROM read_parquet({file_literal(plan)})
            WHERE fingerprint IS NOT NULL GROUP BY fingerprint"""
    )
    others = desk.ledger.chunks(workload.name, states=ON_ITS_WAY) if workload.reuse else []
    answered = desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=None if workload.reuse else snapshot.id)
    _known(duck, "answered", [desk.path(p.path) for p in answered], "WHERE outcome = 'succeeded'")
    # What this snapshot asked before has its outcome or is on its way: never asked again by itself.
    _known(duck, "asked", [desk.path(c.index_path) for c in own], "")
    away = [c for c in others if c.snapshot != snapshot.id]
    _known(duck, "away", [desk.path(c.index_path) for c in away], "")
    duck.execute(
        """CREATE TEMP TABLE choice AS SELECT q.row, q.records,
               CASE WHEN q.fingerprint IN (FROM asked) THEN 'asked'
                    WHEN q.fingerprint IN (FROM answered) THEN 'reused'
                    WHEN q.fingerprint IN (FROM away) THEN 'awaited' ELSE 'ask' END AS how
           FROM question q"""
    )
    counted = {how: (questions, records) for how, questions, records in duck.sql(
        "SELECT how, count(*), sum(records)::BIGINT FROM choice GROUP BY how").fetchall()}  # fmt: skip
    asked = counted.get("ask", (0, 0))[0] + counted.get("asked", (0, 0))[0]
    of_asked = counted.get("ask", (0, 0))[1] + counted.get("asked", (0, 0))[1]
    counts = PlanCounts(
        asked=asked,
        duplicates=of_asked - asked,
        reused=counted.get("reused", (0, 0))[1],
        awaited=counted.get("awaited", (0, 0))[1],
        rejected=rejected,
    )
    waits_on = sorted({c.snapshot for c in away}) if counts.awaited else []
    reader = duck.sql("SELECT row FROM choice WHERE how = 'ask' ORDER BY row").to_arrow_reader(50_000)
    return _pieces(reader, duck), counts, waits_on


def _pieces(reader: pa.RecordBatchReader, duck: object) -> Iterator[pa.Array]:
    """Row numbers as they come; keeps the connection alive until the last."""
    for batch in reader:
        yield batch.column(0)
    duck.close()  # type: ignore[attr-defined]


def _known(duck: object, name: str, files: Sequence[Path], where: str) -> None:
    """A temporary table of the fingerprints in `files`."""
    source = "(SELECT NULL::BLOB AS fingerprint, '' AS outcome WHERE false)"
    if files:
        source = f"read_parquet([{', '.join(file_literal(path) for path in files)}], union_by_name = true)"
    duck.execute(f"CREATE TEMP TABLE {name} AS SELECT DISTINCT fingerprint FROM {source} {where}")  # type: ignore[attr-defined]


def cut(
    desk: Desk,
    workload: Workload,
    snapshot: SnapshotRow,
    requests: Iterable[Request],
    price: Price,
    *,
    round_number: int,
    plan_number: int,
) -> list[NewChunk]:
    """Cut requests into the files of new chunks; nothing is registered yet."""
    first = desk.ledger.last_number(workload.name, snapshot.id, round_number) + 1
    files = _places(desk, workload, snapshot, round_number)
    limit = ChunkLimit(workload.chunk.requests, workload.chunk.bytes)
    chunks = cut_chunks(requests, limit, reserve_units=reserve(workload, price), place=files, first_number=first)
    return [_new(desk, chunk, round_number, plan_number, workload.model) for chunk in chunks]


def _places(
    desk: Desk, workload: Workload, snapshot: SnapshotRow, round_number: int
) -> Callable[[int], tuple[Path, Path]]:
    def place(number: int) -> tuple[Path, Path]:
        key = chunk_key(round_number, number)
        folder = [desk.home.requests(workload.name, snapshot.id, f"{key}.{kind}") for kind in ("jsonl", "parquet")]
        return folder[0], folder[1]

    return place


def chunk_key(round_number: int, number: int) -> str:
    return f"r{round_number}-{number:04d}"


def reserve(workload: Workload, price: Price) -> Callable[[int], int]:
    """Upper bound of a request's cost by the bytes of its params, in 1e-10 USD."""
    geo = workload.params.get("inference_geo")
    cached = "cache_control" in str(workload.params)
    plain = workload.output is None and not workload.params

    def bound(size_bytes: int) -> int:
        return price.upper_bound_units(
            size_bytes=size_bytes,
            max_tokens=workload.max_tokens,
            lane="batch",
            geo=geo,
            cached=cached,
            plain=plain,
        )

    return bound


def _new(desk: Desk, chunk: Chunk, round_number: int, plan_number: int, model: str) -> NewChunk:
    return NewChunk(
        key=chunk_key(round_number, chunk.number),
        round=round_number,
        number=chunk.number,
        plan_number=plan_number,
        model=model,
        requests=chunk.requests,
        size_bytes=chunk.size_bytes,
        reserve_units=chunk.reserve_units,
        first_row=chunk.first_row,
        last_row=chunk.last_row,
        params_path=desk.home.relative(chunk.params_path),
        params_sha256=chunk.params_sha256,
        index_path=desk.home.relative(chunk.index_path),
        index_sha256=chunk.index_sha256,
    )


def _too_many(plan: Path, rejected: int, records: int, workload: Workload) -> str:
    codes = pq.read_table(plan, columns=["reject_code", "row", "reject_detail"])
    refused = codes.filter(pc.is_valid(codes.column("reject_code")))
    counted = ", ".join(
        f"{c['values']} {c['counts']}" for c in refused.column("reject_code").value_counts().to_pylist()
    )
    first = refused.slice(0, 1).to_pylist()[0]
    return (
        f"{rejected:,} of {records:,} records ({rejected / records:.1%}) cannot be asked ({counted}; the first: record "
        f"number {first['row'] + 1}, {first['reject_detail']}), and max_reject_ratio is {workload.max_reject_ratio:g}; mend "
        "the records or the prompt, or raise max_reject_ratio; nothing was sent"
    )


def spec_digest(workload: Workload) -> str:
    """Changes when what is asked, or how, changes; Dagster's code_version of the assets."""
    return hashlib.sha256(workload.model_dump_json().encode()).hexdigest()[:16]
