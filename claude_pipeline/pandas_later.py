"""pyarrow and pandas, acquainted when somebody imports pandas, and not before.

pyarrow imports pandas with the first list that becomes an array, to know its classes when it meets one: 0.3 to 0.5 s CPU
of each process that meets none (2026-11-27), which is every run of ours.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

import pyarrow as pa

_guard = threading.Lock()


def acquaint_later() -> None:
    """Have pyarrow look for pandas now and find none; it knows its classes once anybody has imported it.

    Once a process; where pandas is imported already nothing happens.
    """
    with _guard:
        if "pandas" in sys.modules or any(isinstance(finder, _Finder) for finder in sys.meta_path):
            return
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        with finder:
            pa.array([])


class _Finder(MetaPathFinder):
    """Finds pandas where Python finds it, but not for whoever is within the `with`."""

    def __init__(self) -> None:
        self._within: int | None = None

    def __enter__(self) -> None:
        self._within = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._within = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "pandas":
            return None
        if self._within == threading.get_ident():
            raise ModuleNotFoundError("pandas is left for later", name=fullname)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        # It looks anew for whoever needs pandas, and knows its classes from now on.
        pa.table({}).to_pandas()
