"""Run Claude over whole tables: half price, no row lost, none paid twice.

    from claude_pipeline import Workload, query

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claude_pipeline.components.claude_workload import ClaudeWorkload, build_workload_defs
    from claude_pipeline.components.warehouse_resource import WarehouseResource
    from claude_pipeline.errors import ClaudePipelineError
    from claude_pipeline.lane.call import realtime
    from claude_pipeline.settings import Settings
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.warehouse.read import connect, query
    from claude_pipeline.workload import Workload
    from claude_pipeline.workload_file import read_workload

__version__ = "0.1.0"

# The threads of numpy's algebra library look for work for a tenth of a second each before they sleep, and nothing here has
# any: 0.13 s CPU of each process with two processors (2026-11-28). Those who have work wait no longer for it.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

_HOMES = {
    "ClaudePipelineError": "claude_pipeline.errors",
    "ClaudeWorkload": "claude_pipeline.components.claude_workload",
    "Settings": "claude_pipeline.settings",
    "WarehouseResource": "claude_pipeline.components.warehouse_resource",
    "Workload": "claude_pipeline.workload",
    "build_workload_defs": "claude_pipeline.components.claude_workload",
    "connect": "claude_pipeline.warehouse.read",
    "open_desk": "claude_pipeline.stage.desk",
    "query": "claude_pipeline.warehouse.read",
    "read_workload": "claude_pipeline.workload_file",
    "realtime": "claude_pipeline.lane.call",
}

__all__ = [
    "ClaudePipelineError",
    "ClaudeWorkload",
    "Settings",
    "WarehouseResource",
    "Workload",
    "__version__",
    "build_workload_defs",
    "connect",
    "open_desk",
    "query",
    "read_workload",
    "realtime",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # dg looks for components here; without it the lazy ClaudeWorkload would not be found.
    return __all__
