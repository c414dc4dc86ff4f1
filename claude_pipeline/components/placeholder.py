"""Stands in for a workload that cannot be loaded: visible in the UI, red, and it says why."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from claude_pipeline.workload import NAME


def build_placeholders(broken: Sequence[tuple[Path, str]]) -> tuple[list[Any], list[Any]]:
    """An asset and its failing check for each broken file."""
    assets: list[Any] = []
    checks: list[Any] = []
    taken: set[str] = set()
    for file, sentence in broken:
        key = dg.AssetKey(["broken_workload", _leaf(file.parent.name.lower(), taken)])
        assets.append(_asset(key, sentence))
        checks.append(_check(key, sentence))
    return assets, checks


def _leaf(folder: str, taken: set[str]) -> str:
    """A key of its own, whatever the folder is called: two may share a name, or differ in case only."""
    name = folder if NAME.fullmatch(folder) else "unnamed"
    leaf, number = name, 1
    while leaf in taken:
        number += 1
        leaf = f"{name}_{number}"
    taken.add(leaf)
    return leaf


def _asset(key: dg.AssetKey, sentence: str) -> dg.AssetsDefinition:
    @dg.asset(key=key, group_name="broken_workloads", description=f"This workload cannot be loaded.\n\n{sentence}")
    def broken() -> None:
        raise dg.Failure(sentence, allow_retries=False)

    return broken


def _check(key: dg.AssetKey, sentence: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=key, name="workload_loads", description="Fails as long as the workload cannot be loaded.")
    def workload_loads() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=sentence)

    return workload_loads
