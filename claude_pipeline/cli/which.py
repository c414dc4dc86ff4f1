"""Which workload and which home a command means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from claude_pipeline.settings import Settings
    from claude_pipeline.workload import Workload

home_option = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), help="Folder for everything a run writes."
)


def settings_of(home: Path | None) -> Settings:
    from claude_pipeline.settings import Settings

    return Settings.from_environment().with_home(home)


def workload_of(name_or_file: str, settings: Settings) -> Workload:
    """A workload by its name, or by a YAML file (or its folder) anywhere.

    Raises:
        WorkloadInvalid: the file is wrong.
        UsageError: there is no such name; says which there are.
    """
    from claude_pipeline.errors import UsageError, WorkloadInvalid
    from claude_pipeline.workload_file import read_workload
    from claude_pipeline.workload_folder import PACKAGE_DEFS, load_workloads

    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml") or path.is_dir() or "/" in name_or_file:
        return read_workload(path)
    loaded = load_workloads([PACKAGE_DEFS, *([settings.defs] if settings.defs else [])])
    for _file, sentence in loaded.broken:
        if f"name: {name_or_file!r} is taken" in sentence:
            raise WorkloadInvalid(sentence)
    for workload in loaded.workloads:
        if workload.name == name_or_file:
            return workload
    for file, sentence in loaded.broken:
        if file.parent.name == name_or_file:
            raise WorkloadInvalid(sentence)
    known = ", ".join(workload.name for workload in loaded.workloads) or "none"
    raise UsageError(f"there is no workload {name_or_file!r} (known: {known}); give its name, or its YAML file")


def check_partition(workload: Workload, partition: str) -> None:
    """Raises UsageError where a workload has no such snapshot partition; says which it has."""
    from claude_pipeline.components.partition import snapshot_partitions
    from claude_pipeline.errors import UsageError

    keys = snapshot_partitions(workload).get_partition_keys()
    if partition not in keys:
        there = f"from {keys[0]} to {keys[-1]}" if keys else f"none: start_date is {workload.start_date}"
        raise UsageError(f"{workload.name} has no partition {partition!r} (there are {there})")
