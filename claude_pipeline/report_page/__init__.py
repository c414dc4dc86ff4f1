"""Reports for people who do not open a database: one self-contained HTML file for a snapshot, or for a workload.

    page = snapshot_page(read_snapshot(desk, workload, snapshot))

`read_*` asks the ledger and, through DuckDB, the files of rows; nothing of a dataset's size comes into Python.
`*_page` turns facts into HTML and does nothing else. Texts of records and answers are data: escaped, shortened, isolated.
"""

from claude_pipeline.report_page.fact import SnapshotFacts, WorkloadFacts
from claude_pipeline.report_page.page import snapshot_page, workload_page
from claude_pipeline.report_page.read import choose_other, choose_snapshot, read_snapshot
from claude_pipeline.report_page.read_workload import read_workload_facts

__all__ = [
    "SnapshotFacts",
    "WorkloadFacts",
    "choose_other",
    "choose_snapshot",
    "read_snapshot",
    "read_workload_facts",
    "snapshot_page",
    "workload_page",
]
