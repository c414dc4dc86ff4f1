"""Which files a dataset's `path` means, in which order, and how each is packed.

A path that exists is taken as it is written, whatever characters it holds; only then is it a
glob. Folders are read recursively; files and folders starting with `.` or `_` are skipped, unless
the pattern names them. Folders named `key=value` below the path add a text column `key`.

What a user names may be a link. What a folder holds may not lead out of it: whoever may put a file
there must not choose what else of this machine is read, and sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.whereabouts import roots
from claude_pipeline.workload import Workload

Format = Literal["csv", "jsonl", "parquet"]
Compression = Literal["gzip", "zstd", "bz2"]

_FORMATS: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_COMPRESSIONS: Mapping[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_PARTITION = re.compile(r"([^=/]+)=([^=/]*)")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """One file to read. `name` is its path below the dataset's own folder; `partitions` are the columns that the
    names of its folders add."""

    path: Path
    name: str
    format: Format
    compression: Compression | None
    tabs: bool = False
    partitions: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return shown(self.path)


def shown(path: Path) -> str:
    """A path as people know it: relative where it lies under the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def find_files(workload: Workload) -> list[SourceFile]:
    """The files of `dataset.path`, sorted by name; never empty.

    Raises:
        DatasetInvalid: nothing matches, formats are mixed or unknown, partition folders disagree.
    """
    dataset = workload.dataset
    assert dataset.path is not None
    try:
        base = workload.find(dataset.path)
        found = sorted(_expanded(base), key=lambda pair: pair[0].parts)
    except ValueError:  # pathlib refuses patterns such as 'a**b'
        raise DatasetInvalid(f"path: {dataset.path!r} is no glob: '**' must stand alone between slashes") from None
    if not found:
        raise DatasetInvalid(_nothing(workload, base), place=workload.place)
    single = base.is_file()
    within = base if base.is_dir() else _split(base)[0]
    files = []
    for path, below in found:
        name_format, compression, tabs = _packing(path)
        chosen = dataset.format or name_format
        if chosen is None:
            if not single:
                continue
            raise DatasetInvalid(_unknown_format(path), place=shown(path))
        _check_readable(path, None if single else within)
        partitions = {} if single else _partitions(below)
        files.append(SourceFile(path, str(below), chosen, dataset.compression or compression, tabs, partitions))
    if not files:
        raise DatasetInvalid(
            "has no .csv, .tsv, .jsonl, .ndjson or .parquet file; name the files so, or set format:", place=shown(base)
        )
    _check_alike(files)
    return files


def _check_readable(path: Path, within: Path | None) -> None:
    """Refuse what cannot be read, would never end, or leads out of the folder `within` it was found."""
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise DatasetInvalid("its name is no UTF-8, so nothing could tell of it; rename it", place=shown(path))
    if not path.exists():  # a link in a circle neither
        raise DatasetInvalid("is a link that leads nowhere; mend or remove it", place=shown(path))
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        raise DatasetInvalid(
            f"is a link out of the folder {shown(within)}; copy the file there, or name it alone in path:",
            place=shown(path),
        )
    if not path.is_file():
        raise DatasetInvalid("is no file but a pipe, socket or device; write its data to a file", place=shown(path))
    if not os.access(path, os.R_OK):
        raise DatasetInvalid(
            f"cannot read it: permission denied (mode {path.stat().st_mode & 0o777:04o}); chmod it, or run as its owner",
            place=shown(path),
        )


def _expanded(base: Path) -> Iterator[tuple[Path, Path]]:
    """Files, each with its path below the fixed part of `base` (where partition folders count)."""
    if base.is_file():
        yield base, Path(base.name)
    elif base.is_dir():
        for path in _walked(base):
            yield path, path.relative_to(base)
    else:
        anchor, pattern = _split(base)
        if anchor is None:
            return
        named = {part[0] for part in pattern.parts if part[0] in "._"}
        seen = set()
        for match in anchor.glob(str(pattern)):
            below = match.relative_to(anchor)
            if any(part[0] in "._" and part[0] not in named for part in below.parts):
                continue
            for path in _walked(match) if match.is_dir() else [match]:
                if path not in seen:
                    seen.add(path)
                    yield path, path.relative_to(anchor)


def _split(base: Path) -> tuple[Path | None, Path]:
    """The deepest existing folder of a glob, and the pattern below it; None without wildcards."""
    anchor = base.parent
    while not anchor.is_dir():
        if anchor == anchor.parent:
            return None, base
        anchor = anchor.parent
    pattern = base.relative_to(anchor)
    return (anchor if any(c in str(pattern) for c in "*?[") else None), pattern


def _walked(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise DatasetInvalid(
            f"cannot list the folder ({error.strerror}); chmod it, or run as its owner",
            place=shown(Path(error.filename)),
        )

    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if name[0] not in "._"]
        yield from (Path(parent, name) for name in names if name[0] not in "._")


def _packing(path: Path) -> tuple[Format | None, Compression | None, bool]:
    """Format, compression and whether tabs separate the fields, as the name says."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return _FORMATS.get(last), compression, last == ".tsv"


def _partitions(below: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in below.parts[:-1]:
        if match := _PARTITION.fullmatch(part):
            value = unquote(match[2])
            found[unquote(match[1])] = None if value == _HIVE_NULL else value
    return found


def _check_alike(files: list[SourceFile]) -> None:
    first = files[0]
    for file in files:
        if file.format != first.format:
            raise DatasetInvalid(
                f"is {file.format}, but {first.place} is {first.format}; one dataset has one format: "
                f"narrow path:, as in 'folder/*.{first.format}'",
                place=file.place,
            )
        if list(file.partitions) != list(first.partitions):
            raise DatasetInvalid(
                f"lies in folders that name the columns ({', '.join(file.partitions) or 'none'}), but {first.place} in "
                f"({', '.join(first.partitions) or 'none'}); lay all files out alike",
                place=file.place,
            )


def _nothing(workload: Workload, base: Path) -> str:
    path = workload.dataset.path or ""
    if Path(path).expanduser().is_absolute():
        looked = [_split(base)[0] or base.parent]
    else:
        looked = roots(workload.source) if workload.source else [Path.cwd()]
    if base.is_dir():
        return f"path: the folder {base} holds no file to read"
    if "://" in path:
        return f"path: {path} is an address, and only files of this machine are read; copy them here"
    if base.is_symlink():
        return f"path: {base} is a link that leads nowhere; mend it, or correct dataset.path"
    if base.exists():
        return f"path: {base} is no file but a pipe, socket or device; write its data to a file"
    places = ", ".join(dict.fromkeys(str(folder) for folder in looked))
    return f"path: no file matches {path} (looked in {places}); correct dataset.path"


def _unknown_format(path: Path) -> str:
    if path.suffix.lower() == ".json":
        return "'.json' can mean two things: if each line holds one object set format: jsonl, else write it so"
    return "its name does not say the format; set format: csv, jsonl or parquet"
