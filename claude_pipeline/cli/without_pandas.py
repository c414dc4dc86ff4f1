"""A command without pandas.

pyarrow imports it with the first list that becomes an array, to know its classes when it meets one: 0.3 to 0.5 s CPU of
a run that meets none (2026-11-27).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out here", name=fullname)


def without_pandas() -> None:
    """Have pyarrow find none where it looks for pandas unasked, which it does once a process.

    Who asks for it is served as ever (`Table.to_pandas`), and from then on pyarrow knows its classes. For a process of
    our own: in another's somebody might hand pyarrow a Series.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)
