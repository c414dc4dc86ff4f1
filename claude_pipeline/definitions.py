"""The code location that workspace.yaml names: every workload, the warehouse, the controller.

Workloads are the folders under `claude_pipeline/defs/` and under `$CLAUDE_PIPELINE_DEFS`; anything
else in `claude_pipeline/defs/` (assets in Python, other components) is loaded as Dagster does.
"""

from pathlib import Path

import dagster as dg

from claude_pipeline.components.compose import compose
from claude_pipeline.settings import Settings
from claude_pipeline.workload_file import is_workload
from claude_pipeline.workload_folder import PACKAGE_DEFS, load_workloads


def other_definitions() -> list[dg.Definitions]:
    """What users put under `defs/` beside workloads."""
    others = [
        path
        for path in sorted(PACKAGE_DEFS.iterdir())
        if not path.name.startswith(("_", ".")) and path.suffix in ("", ".py") and not is_workload(path / "defs.yaml")
    ]
    if not others:
        return []
    tree = dg.ComponentTree.for_project(Path(__file__).parent)
    return [tree.build_defs_at_path(path) for path in others]


@dg.definitions
def defs() -> dg.Definitions:
    outside = Settings.from_environment().defs
    loaded = load_workloads([PACKAGE_DEFS, *([outside] if outside else [])])
    return dg.Definitions.merge(compose(loaded.workloads, broken=loaded.broken), *other_definitions())
