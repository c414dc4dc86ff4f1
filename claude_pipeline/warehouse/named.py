"""Which files the kept versions of the warehouse read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from claude_pipeline.home import Home
from claude_pipeline.sql import file_literal


def named_parts(home: Home) -> Callable[[Path], bool]:
    """Whether a view of a kept version reads that file; read from the versions themselves."""
    texts = []
    for version in sorted(home.warehouse_versions.glob("v*.duckdb")):
        with duckdb.connect(str(version), read_only=True) as duck:
            texts += [sql for (sql,) in duck.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()]
    every = "\n".join(texts)
    return lambda path: file_literal(path) in every
