"""The code location that workspace.yaml names: every workload, the warehouse, the controller.

Workloads are the folders under `claude_pipeline/defs/` and under `$CLAUDE_PIPELINE_DEFS`; anything
else in `claude_pipeline/defs/` (assets in Python, other components) is loaded as Dagster does.
"""

from pathlib import Path

import dagster as dg

from claude_pipeline.garbage import no_search

with no_search():  # 0.2 s less of each process of Dagster: what is imported here lives to its end
    from claude_pipeline.components.compose import compose
    from claude_pipeline.settings import Settings
    from claude_pipeline.workload_file import is_workload
    from claude_pipeline.workload_folder import PACKAGE_DEFS, load_workloads


def other_definitions() -> tuple[list[dg.Definitions], list[tuple[Path, str]]]:
    """What users put under `defs/` beside workloads, and what of it cannot be loaded."""
    others = [
        path
        for path in sorted(PACKAGE_DEFS.iterdir())
        if not path.name.startswith(("_", ".")) and path.suffix in ("", ".py") and not is_workload(path / "defs.yaml")
    ]
    if not others:
        return [], []
    tree = dg.ComponentTree.for_project(Path(__file__).parent)
    found: list[dg.Definitions] = []
    broken: list[tuple[Path, str]] = []
    for path in others:
        try:
            found.append(tree.build_defs_at_path(path))
        except Exception as error:  # one folder's fault, whatever it is, takes no other down
            first = next(iter(str(error).strip().splitlines()), "")
            broken.append(
                (
                    path / "defs.yaml",
                    f"{path}: Dagster cannot load it: {type(error).__name__}: {first}; `dg check defs` says more",
                )
            )
    return found, broken


@dg.definitions
def defs() -> dg.Definitions:
    outside = Settings.from_environment().defs
    loaded = load_workloads([PACKAGE_DEFS, *([outside] if outside else [])])
    others, broken = other_definitions()
    return dg.Definitions.merge(compose(loaded.workloads, broken=[*loaded.broken, *broken]), *others)
