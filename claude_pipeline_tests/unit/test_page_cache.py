"""Files that are let go of are what they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_pipeline.page_cache import let_go


@pytest.mark.parametrize("span", [{}, {"first": 0, "count": 4_096}, {"first": 1 << 40}], ids=["all", "some", "beyond"])
def test_a_file_that_is_let_go_of_reads_as_ever(tmp_path: Path, span: dict[str, int]) -> None:
    path = tmp_path / "file"
    content = os.urandom(100_000)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        let_go(file.fileno(), **span)
        file.write(b"more")
    let_go(path, **span)
    assert path.read_bytes() == content + b"more"


def test_what_cannot_be_let_go_of_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go(tmp_path / "nothing there")
    let_go(tmp_path)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)  # as on macOS
    let_go(tmp_path / "nothing there")
