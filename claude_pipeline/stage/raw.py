"""Raw result lines, kept small once they are read: parsing can be done again for nothing."""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path

from claude_pipeline.home import written

PIECE_BYTES = 1 << 20
BROKEN = (gzip.BadGzipFile, EOFError, zlib.error)  # what `unpack` raises of a damaged file


def packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def pack(path: Path) -> None:
    """Compress a file of raw lines; the plain one goes."""
    with (
        written(packed(path)) as temporary,
        path.open("rb") as source,
        gzip.open(temporary, "wb", compresslevel=1) as target,
    ):
        shutil.copyfileobj(source, target, PIECE_BYTES)
    path.unlink()


def unpack(path: Path) -> None:
    """Bring back a file that `pack` made small, where there is no plain one: a restored ledger may ask for it again."""
    if path.exists() or not packed(path).exists():
        return
    with written(path) as temporary, gzip.open(packed(path)) as source, temporary.open("wb") as target:
        shutil.copyfileobj(source, target, PIECE_BYTES)
