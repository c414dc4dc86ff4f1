"""A differential snapshot: a file of the records that differ from those of a full one, row for row.

It is a Parquet file of these records, in order, with the columns of any snapshot. What it says of the others stands in its
footer: the name of the full snapshot's file, which lies in the same folder, the digest of that one's footer, how many
records there are in all, and in which rows its own stand. All other rows are those of the full snapshot; beyond its last
row every record is an own one. A full snapshot rests on no other, so that nobody follows a chain of files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

Rows = npt.NDArray[np.int64]
_KEY = "claude_pipeline.differs"


@dataclass(frozen=True)
class Difference:
    """What a differential snapshot's footer says. `rows` ascend, from 0; they are those of its own records."""

    full: str
    footer_sha256: str
    count: int  # of all records
    rows: Rows

    def metadata(self) -> dict[str, str]:
        """To be put into the footer: rows as the steps between them, which take a fifth of a byte to three bytes each."""
        steps = np.diff(self.rows, prepend=np.int64(0)).astype("<i8").tobytes()
        said = {
            "full": self.full,
            "footer_sha256": self.footer_sha256,
            "count": self.count,
            "steps": base64.b64encode(zlib.compress(steps)).decode(),
        }
        return {_KEY: json.dumps(said | {"sha256": _sha256_of(said)})}


def difference_of(file: pq.FileMetaData) -> Difference | None:
    """None of a full snapshot.

    Raises:
        ValueError: it is not what was written.
    """
    written = (file.metadata or {}).get(_KEY.encode())
    if written is None:
        return None
    said = json.loads(written)
    if not isinstance(said, dict) or said.pop("sha256", None) != _sha256_of(said):
        raise ValueError("what it says of its rows is not what was written")
    steps = np.frombuffer(zlib.decompress(base64.b64decode(said["steps"])), "<i8")
    return Difference(said["full"], said["footer_sha256"], said["count"], np.cumsum(steps, dtype=np.int64))


def _sha256_of(said: dict[str, Any]) -> str:
    """A footer has no checksum of its own."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
