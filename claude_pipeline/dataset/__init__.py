"""CSV, JSONL, Parquet or a query -> one snapshot file with stable record ids.

    source      which files a path means, and how each is packed
    plain       compressed or differently encoded text -> a plain UTF-8 file
    csv_table, csv_strict        CSV: the fast reader, and the one that knows lines
    jsonl_table, json_shape      JSON lines: the reader, and the types over the whole file
    parquet_table, query_table, database_table      the other sources
    table       what every source becomes: a schema and a stream of batches
    origin      which file and line each row came from, and which could not be read whole
    identity    record ids: a column of the dataset, or a digest of the content
    watermark   the column by which new records are told from old ones: its kinds, its order, its text
    increment   keeps the new records alone; row_group, bound: how Parquet and SQL leave the others unread
    snapshot    dataset -> snapshot; snapshot_file: how its records are written, all or what differs from a full one
    records     reads a snapshot row group by row group; differential: what the file of one says of the full one
    alike       which records are the same, bit for bit
    predicate   conditions that users write in SQL, checked and evaluated apart from everything else

Reading rules, in short. CSV cells are text, all of them: `007` stays `007`, `NA` stays `NA`, and
an empty cell is an empty text, quoted or not; blank lines are skipped. JSONL columns get one type
each over the whole file: text, boolean, 64-bit integer, double, list or struct; what mixes them
is text. Dates in text stay text. Parquet and SQL columns keep their types.
A value that nothing here can hold (half a character, NaN in JSON, bytes that are no UTF-8 in Parquet)
is null in the snapshot and a fault of its record, which is then never asked.
"""

from claude_pipeline.dataset.alike import Mask, alike, is_comparable
from claude_pipeline.dataset.increment import Base
from claude_pipeline.dataset.origin import Origin
from claude_pipeline.dataset.predicate import check_predicate, first_true, guarded
from claude_pipeline.dataset.records import Records, one_batch, taken
from claude_pipeline.dataset.snapshot import SnapshotFile, columns_of, record_batches, take_snapshot
from claude_pipeline.dataset.snapshot_file import Full
from claude_pipeline.dataset.watermark import Mark, lies_ahead

__all__ = [
    "Base",
    "Full",
    "Mark",
    "Mask",
    "Origin",
    "Records",
    "SnapshotFile",
    "alike",
    "check_predicate",
    "columns_of",
    "first_true",
    "guarded",
    "is_comparable",
    "lies_ahead",
    "one_batch",
    "record_batches",
    "take_snapshot",
    "taken",
]
