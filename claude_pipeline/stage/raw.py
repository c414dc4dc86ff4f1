"""Raw result lines, kept small once they are read: parsing can be done again for nothing."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import pyarrow as pa

from claude_pipeline.home import READ_BYTES, written

COMPRESSION = "zstd"  # a quarter of the CPU of gzip's quickest level, and smaller
# Arrow writes no checksum of what a frame holds. It follows in a frame that every reader of zstd passes over (RFC 8878,
# 3.1.2): magic number, size, crc32.
_CHECKSUM, _MAGIC = Struct("<III"), 0x184D2A50


class PackBroken(Exception):
    """A packed file is damaged."""


def packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.zst")


def packed_before(path: Path) -> Path:
    """What older versions made of it."""
    return path.with_name(f"{path.name}.gz")


def pack(path: Path) -> None:
    """Make a file small in place of the plain one; it is only read again to be parsed again."""
    checksum = 0
    with written(packed(path)) as temporary:
        with path.open("rb") as source, pa.output_stream(str(temporary), compression=COMPRESSION) as target:
            while piece := source.read(READ_BYTES):
                checksum = zlib.crc32(piece, checksum)
                target.write(piece)
        with temporary.open("ab") as target:
            target.write(_CHECKSUM.pack(_MAGIC, 4, checksum))
    path.unlink()


def unpack(path: Path) -> None:
    """Bring back a file that `pack` made small, where there is no plain one: a restored ledger may ask for it again.

    Raises:
        PackBroken: it is not what was packed.
    """
    if path.exists() or not (packed(path).exists() or packed_before(path).exists()):
        return
    pieces = _pieces(packed(path)) if packed(path).exists() else _pieces_before(packed_before(path))
    with written(path) as temporary, temporary.open("wb") as target:
        target.writelines(pieces)


def _pieces(path: Path) -> Iterator[bytes]:
    checksum = 0
    try:
        with pa.input_stream(str(path), compression=COMPRESSION) as source:
            while piece := source.read(READ_BYTES):
                checksum = zlib.crc32(piece, checksum)
                yield piece
    except OSError as problem:
        if problem.errno is not None:  # the disk's, not Arrow's word on what it read
            raise
        raise PackBroken(f"{path}: {problem}") from None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _CHECKSUM.size))
        told = file.read()
    if told != _CHECKSUM.pack(_MAGIC, 4, checksum):
        raise PackBroken(f"{path}: its checksum differs")


def _pieces_before(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as source:
            while piece := source.read(READ_BYTES):
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise PackBroken(f"{path}: {problem}") from None
