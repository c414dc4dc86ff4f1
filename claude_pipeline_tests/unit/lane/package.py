"""A package of a few lines on the path, for as long as a test lasts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


def on_the_path(name: str, files: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The whole of a fixture: `files` are the texts of the package's modules; none stays imported."""
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]
