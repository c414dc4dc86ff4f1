"""The results of a batch as a stream of bytes, whole or spoiled as the faults say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import orjson

from claude_pipeline.simulator.dice import falls_on
from claude_pipeline.simulator.error import Dropped
from claude_pipeline.simulator.fault import Rule

_CHUNK_BYTES = 1 << 18
_LINE_KINDS = frozenset(
    (
        "blank_lines",
        "malformed_lines",
        "duplicate_lines",
        "foreign_lines",
        "missing_lines",
        "unknown_result",
        "line_separator",
    )
)


async def stream(path: Path, rules: Sequence[Rule]) -> AsyncIterator[bytes]:
    """The file; opened before the first byte goes out, so that a later delete does not cut it.

    `cut_results` ends it after `share` of its bytes: by a broken connection, with `form: reset` by a
    reset of it, or with `form: clean` as if it were whole. `empty_results` sends nothing.
    """
    if any(rule.kind == "empty_results" for rule in rules):
        return
    cut = next((rule for rule in rules if rule.kind == "cut_results"), None)
    spoiling = [rule for rule in rules if rule.kind in _LINE_KINDS]
    with path.open("rb") as file:
        left = round(path.stat().st_size * _kept_share(cut)) if cut else None
        for data in _spoiled(file, spoiling) if spoiling else _chunks(file):
            if left is not None:
                data = data[:left]
                left -= len(data)
            yield data
            if left == 0:
                break
    if cut is not None and cut.form != "clean":
        raise Dropped(abruptly=cut.form == "reset")


def _kept_share(cut: Rule) -> float:
    return cut.share if cut.share < 1 else 0.5


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(_CHUNK_BYTES):
        yield data


def _spoiled(file: BinaryIO, rules: Sequence[Rule]) -> Iterator[bytes]:
    for number, line in enumerate(file):
        for rule in rules:
            if falls_on(rule.share, rule.kind, rule.seed, number):
                line = _spoil(line, rule.kind, rule.form)
        if line:
            yield line


def _spoil(line: bytes, kind: str, form: str | None) -> bytes:
    match kind, form:
        case "blank_lines", _:
            return b"\n" + line
        case "malformed_lines", "scalar":
            return b"42\n"
        case "malformed_lines", "list":
            return b"[" + line.strip() + b"]\n"
        case "malformed_lines", "no_id":
            entry = orjson.loads(line)
            return orjson.dumps({"result": entry["result"]}, option=orjson.OPT_APPEND_NEWLINE)
        case "malformed_lines", _:
            return line[: len(line) // 2] + b"\n"
        case "duplicate_lines", "other":
            entry = orjson.loads(line) | {"result": {"type": "expired"}}
            return line + orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        case "duplicate_lines", _:
            return line + line
        case "missing_lines", _:
            return b""
        case "line_separator", _:
            return line.replace(b"[sha256:", "\u2028\u0085[sha256:".encode())
    entry = orjson.loads(line)
    if kind == "foreign_lines":
        entry["custom_id"] = f"foreign-{entry['custom_id']}"[:64]
    else:
        entry["result"] = {"type": "teleported"}
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
