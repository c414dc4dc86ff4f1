"""pyarrow does without pandas until somebody imports it, and then knows its classes as ever.

In a Python of its own each: this one may have imported it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = """
import sys
import pyarrow as pa
from claude_pipeline.pandas_later import acquaint_later
acquaint_later()
acquaint_later()
assert pa.array([1, None]).null_count == 1
assert pa.array(__import__("numpy").arange(3)).to_pylist() == [0, 1, 2]
assert "pandas" not in sys.modules
"""
KNOWN = """
import pandas
values = pandas.Series([1.0, float("nan")])
assert pa.array(values).null_count == 1  # of a list it would be a number that is none
assert isinstance(pa.array(pandas.Categorical(["a", "b"])), pa.DictionaryArray)
assert pa.Table.from_pandas(pandas.DataFrame({"n": values})).column("n").null_count == 1
assert pa.table({"n": [1, 2]}).to_pandas()["n"].tolist() == [1, 2]
"""


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import pandas", id="the-package"),
        pytest.param("from pandas.core.frame import DataFrame", id="a-module-of-it"),
        pytest.param("frame = pa.table({'n': [1]}).to_pandas()", id="by-pyarrow-which-is-asked-for-a-frame"),
        pytest.param(
            "import threading\n"
            "def work(): import pandas\n"
            "threads = [threading.Thread(target=work) for _ in range(4)]\n"
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]",
            id="in-threads",
        ),
    ],
)
def test_who_imports_pandas_has_both_know_each_other(imports: str) -> None:
    subprocess.run([sys.executable, "-c", f"{LATER}\n{imports}\n{KNOWN}"], check=True, timeout=60)


def test_where_pandas_is_imported_already_nothing_changes() -> None:
    code = """
import sys
import pandas
import pyarrow as pa
from claude_pipeline.pandas_later import acquaint_later
before = list(sys.meta_path)
acquaint_later()
assert sys.meta_path == before
"""
    subprocess.run([sys.executable, "-c", code + KNOWN], check=True, timeout=60)


def test_without_pandas_at_all_pyarrow_does_as_it_does() -> None:
    """A machine on which somebody took it away."""
    code = f"""{LATER}
import importlib.util
for finder in list(sys.meta_path):
    if type(finder).__module__ != "claude_pipeline.pandas_later":
        sys.meta_path.remove(finder)
sys.path[:] = []
sys.path_importer_cache.clear()
assert importlib.util.find_spec("pandas") is None
assert pa.array([1, 2]).to_pylist() == [1, 2]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
