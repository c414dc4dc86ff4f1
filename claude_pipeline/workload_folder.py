"""Find workloads: every folder with a workload's defs.yaml, each read by itself.

One that cannot be read takes no other down: it is reported beside those that can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from claude_pipeline.errors import ClaudePipelineError, WorkloadInvalid
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import is_workload, read_workload

PACKAGE_DEFS = Path(__file__).parent / "defs"


@dataclass
class Loaded:
    """What the folders gave."""

    workloads: list[Workload] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)  # file, sentence


def load_workloads(folders: Sequence[Path]) -> Loaded:
    """Read every `<folder>/<name>/defs.yaml` that is a workload, in the order of their names."""
    loaded = Loaded()
    names: dict[str, Path] = {}
    for file in workload_files(folders):
        try:
            workload = read_workload(file)
            if workload.name in names:
                raise WorkloadInvalid(f"name: {workload.name!r} is taken by {names[workload.name]}", place=str(file))
            workload.template()
        except ClaudePipelineError as error:
            loaded.broken.append((file, str(error)))
            continue
        names[workload.name] = file
        loaded.workloads.append(workload)
    return loaded


def workload_files(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for file in sorted(folder.glob("*/defs.yaml")):
            if is_workload(file):
                yield file
