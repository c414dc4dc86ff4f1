"""The simulator stands apart from the rest of the product and from the SDK."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import claude_pipeline.simulator

FOLDER = Path(claude_pipeline.simulator.__file__).parent
ALLOWED = {"starlette", "uvicorn", "orjson", "yaml", "jsonschema_rs", "anyio"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_it_imports_nothing_of_the_product_nor_the_sdk() -> None:
    foreign = {
        (path.name, name)
        for path in FOLDER.glob("*.py")
        for name in imported(path)
        if not name.startswith("claude_pipeline.simulator")
        and name.split(".")[0] not in ALLOWED | sys.stdlib_module_names
    }
    assert foreign == set()
