"""Text files as plain UTF-8: unpacked and transcoded into scratch where they are not already.

Also says what a file really is when its bytes contradict its name.
"""

from __future__ import annotations

import codecs
import secrets
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa

from claude_pipeline.dataset.source import SourceFile
from claude_pipeline.errors import DatasetInvalid

PIECE_BYTES = 1 << 20
HEAD_BYTES = 4096
LINE_BYTES_MAX = 64_000_000  # a longer one cannot be sent anyway, and is mostly an unclosed quote
UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "is gzip data; name it .gz or set compression: gzip"),
    (b"\x28\xb5\x2f\xfd", "is zstd data; name it .zst or set compression: zstd"),
    (b"BZh91AY&SY", "is bzip2 data; name it .bz2 or set compression: bz2"),
    (b"PAR1", "is a Parquet file; name it .parquet or set format: parquet"),
    (b"PK\x03\x04", "is a zip archive (a spreadsheet?); unpack it, or export it as CSV"),
    (b"%PDF-", "is a PDF; export its text as CSV or JSONL"),
)


@contextmanager
def plain_text(file: SourceFile, *, encoding: str, scratch: Path) -> Iterator[Path]:
    """The file itself, or a copy in `scratch` that is unpacked and UTF-8; the copy is removed after.

    Raises:
        DatasetInvalid: the encoding is unknown or does not fit, the data cannot be unpacked, the bytes
            are of another kind, or the file changes while it is read.
    """
    codec = _codec(encoding, file.place)
    with unchanged(file), _copied(file, codec, scratch) as path:
        if codec is None:
            _refuse_other_kinds(_head(path), file.place)
        yield path


@contextmanager
def unpacked(file: SourceFile, *, scratch: Path) -> Iterator[Path]:
    """The file itself, or an uncompressed copy in `scratch`, removed after."""
    with _copied(file, None, scratch) as path:
        yield path


@contextmanager
def unchanged(file: SourceFile) -> Iterator[None]:
    """Refuse a file that another program changes while it is read."""
    before = _state(file.path)
    yield
    if _state(file.path) != before:
        raise DatasetInvalid("changed while it was read; run again when its writer is done", place=file.place)


@contextmanager
def _copied(file: SourceFile, codec: codecs.CodecInfo | None, scratch: Path) -> Iterator[Path]:
    if file.compression is None and codec is None:
        yield file.path
        return
    copy = scratch / f"plain-{secrets.token_hex(8)}"
    try:
        with copy.open("wb") as target, closing(_bytes(file)) as pieces:
            for piece in _utf8(pieces, codec, file.place):
                target.write(piece)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def not_utf8(path: Path, place: str, line: int, byte: int) -> DatasetInvalid:
    """The error for bytes that are no UTF-8: a text in another encoding, or no text at all."""
    zero = _head(path).find(0)
    if zero >= 0:
        return DatasetInvalid(
            f"does not look like text (byte 0x00 at offset {zero}); is its format named right?", place=place
        )
    return DatasetInvalid(
        f"not valid UTF-8 (byte 0x{byte:02X}); set encoding: to what it is, as in latin-1, or convert it to UTF-8",
        place=f"{place}, line {line}",
    )


def too_long(place: str, line: int) -> DatasetInvalid:
    """The error for a line that is longer than any request can be."""
    return DatasetInvalid(
        f"longer than {LINE_BYTES_MAX:,} bytes, which no request can hold; shorten or split the record, or take it out "
        "(a quote that is not closed makes such a line too)",
        place=f"{place}, line {line}",
    )


def _codec(encoding: str, place: str) -> codecs.CodecInfo | None:
    try:
        codec = codecs.lookup(encoding)
        b"a\xff".decode(encoding, "replace")  # a LookupError too where the codec is not one of text
    except (LookupError, ValueError):  # the latter of a name that holds a NUL, and of codecs of names, as idna
        raise DatasetInvalid(
            f"encoding: {encoding!r} is unknown; write it as in latin-1, cp1252, utf-16", place=place
        ) from None
    return None if codec.name in {"utf-8", "utf-8-sig", "ascii"} else codec


def _bytes(file: SourceFile) -> Generator[bytes, None, None]:
    try:
        if file.compression is None:
            with file.path.open("rb") as source:
                while piece := source.read(PIECE_BYTES):
                    yield piece
        elif file.path.stat().st_size:
            with pa.CompressedInputStream(pa.OSFile(str(file.path)), file.compression) as stream:
                while piece := stream.read(PIECE_BYTES):
                    yield piece
    except (OSError, pa.ArrowException):
        raise DatasetInvalid(
            f"cannot be unpacked: it is not {file.compression} data, or is cut", place=file.place
        ) from None


def _utf8(pieces: Iterator[bytes], codec: codecs.CodecInfo | None, place: str) -> Iterator[bytes]:
    if codec is None:
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(codec.name)("strict")
    line = 1
    try:
        for piece in pieces:
            text = decoder.decode(piece)
            line += text.count("\n")
            yield text.encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        # What comes before the broken byte is sound, so its lines can be counted.
        line += error.object[: error.start].decode(codec.name, "replace").count("\n")
        raise DatasetInvalid(
            f"not valid {codec.name} (byte 0x{error.object[error.start]:02X}); set encoding: to what the file is",
            place=f"{place}, line {line}",
        ) from None
    except UnicodeError:
        raise DatasetInvalid(f"not valid {codec.name}; set encoding: to what the file is", place=place) from None


def _refuse_other_kinds(head: bytes, place: str) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise DatasetInvalid(what, place=place)
    if head.startswith(_UTF16_BOMS):
        raise DatasetInvalid("is UTF-16; set encoding: utf-16, or convert it to UTF-8", place=place)
    odd, even = head[1::2], head[0::2]
    for zeros, others, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if len(head) >= 16 and zeros.count(0) > len(zeros) * 0.6 and others.count(0) == 0:
            raise DatasetInvalid(f"looks like UTF-16 without its mark; set encoding: {name}", place=place)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns
