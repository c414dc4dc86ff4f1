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
                raise WorkloadInvalid(
                    f"name: {workload.name!r} is taken by {names[workload.name]}; choose another", place=str(file)
                )
        except ClaudePipelineError as error:
            loaded.broken.append((file, str(error)))
            continue
        except Exception as error:  # not its message: it may carry what stands in the file
            loaded.broken.append((file, f"{file}: cannot be read ({type(error).__name__}); compare it with the README"))
            continue
        names[workload.name] = file
        loaded.workloads.append(workload)
    return loaded


def workload_files(folders: Sequence[Path]) -> Iterator[Path]:
    """The files that are workloads, or may be: one that cannot be read is its reader's to tell."""
    for folder in folders:
        for sub in sorted(folder.iterdir()) if folder.is_dir() else ():
            file = sub / "defs.yaml"
            if is_workload(file):
                yield file
