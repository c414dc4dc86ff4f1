"""The command line in this process: what a person reads, and the exit code."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from claude_pipeline.cli import main
from claude_pipeline_tests.factory import attributes, note, write_dataset


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The sentence that the command ended with: one line, behind its progress."""
        return self.err.rstrip("\n").rpartition("\n")[2]


@dataclass
class CommandLine:
    """`said = line("run", "notes.yaml")`; the home and the simulator stand in the environment."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *words: str) -> Said:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["claude-pipeline", *words])
        before = signal.getsignal(signal.SIGTERM)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            signal.signal(signal.SIGTERM, before)
        told = self.capsys.readouterr()
        return Said(code, told.out, told.err)


def workload_file(folder: Path, *, records: int = 20, chunk: int = 10, **changes: object) -> Path:
    """A workload of its own with its dataset, as a user writes it."""
    write_dataset(folder / "notes.jsonl", [note(n) for n in range(records)])
    file = folder / "notes.yaml"
    fields = attributes(chunk={"requests": chunk}, **changes)
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))
    return file
