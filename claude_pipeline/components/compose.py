"""Everything Dagster needs of a set of workloads, for the code location and the command line alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from claude_pipeline.components.claude_workload import build_workload_defs
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.json_io_manager import JsonIOManager
from claude_pipeline.components.placeholder import build_placeholders
from claude_pipeline.components.sensor import build_controller
from claude_pipeline.components.warehouse_asset import build_warehouse
from claude_pipeline.components.warehouse_resource import WarehouseResource
from claude_pipeline.home import Home
from claude_pipeline.workload import Workload


def compose(
    workloads: Sequence[Workload],
    *,
    broken: Sequence[tuple[Path, str]] = (),
    desk: DeskResource | None = None,
) -> dg.Definitions:
    """The workloads' definitions, and what they share: the warehouse (an asset and a resource), the controller, the resource `desk`."""
    per_workload: list[dg.Definitions] = []
    loaded: list[Workload] = []
    failed = list(broken)
    for workload in workloads:
        try:
            per_workload.append(build_workload_defs(workload))
        except Exception as error:  # one workload's fault, whatever it is, takes no other down
            failed.append((workload.source or Path(workload.name) / "defs.yaml", str(error)))
        else:
            loaded.append(workload)
    jobs = [job for defs in per_workload for job in defs.jobs or ()]
    assets, checks = build_placeholders(failed)
    used = desk or DeskResource()
    shared = dg.Definitions(
        assets=[build_warehouse(loaded), *assets],
        asset_checks=checks,
        sensors=[build_controller(loaded, jobs)] if jobs else [],
        resources={
            "desk": _fixed(used),
            "warehouse": _fixed(_warehouse(used)),
            "io_manager": _fixed(JsonIOManager(home=used.home)),
        },
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(*per_workload, shared)


def _fixed(resource: dg.ConfigurableResource[Any] | dg.ConfigurableIOManager) -> dg.ResourceDefinition:
    """The resource as it is, whatever a run's config says.

    Else whoever launches a run could name another home, whose ledger knows of no budget spent and of nothing sent.
    """
    values = {name: value for name, value in resource.model_dump().items() if value is not None}
    fixed: dg.ResourceDefinition = resource.get_resource_definition().configured(lambda _: values, config_schema={})
    return fixed


def _warehouse(desk: DeskResource) -> WarehouseResource:
    return WarehouseResource(database=str(Home(Path(desk.home)).warehouse) if desk.home else "")
