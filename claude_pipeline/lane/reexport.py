"""What a package's `__init__` re-exports, imported when it is touched and not when the package is.

The SDK's packages name in their `__init__` what each of their modules holds, some three thousand of them. Whoever
imports one error class imports them all, and a run touches a few. Here such a package is executed without the imports
that nothing else in its `__init__` uses; a name of theirs is imported when somebody asks for it, as Python 3.15 does
for `lazy from … import …` (PEP 810). No name and no class is another than it would be.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from claude_pipeline.lane.late_name import LateLoader, names_can_wait

NAMESPACES = {"locals", "globals", "vars", "eval", "exec"}  # who calls one may use any name


@dataclass(frozen=True)
class Split:
    """The text of an `__init__`, in two."""

    kept: ast.Module  # what is executed
    names: dict[str, tuple[str, str]]  # a name that waits: the module below the package, and the name there
    stars: tuple[str, ...]  # modules below the package whose public names wait

    @property
    def waits(self) -> bool:
        return bool(self.names or self.stars)


def split(source: str | bytes, siblings: Set[str]) -> Split:
    """Which imports of a package's `__init__` can wait: those of its own modules that the rest of the text does not use.

    `siblings` names the modules of the package: a name that is also a module's is not left to wait, since an import of
    the module would put the module in its place.
    """
    tree = ast.parse(source)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module]
    used = _used(
        [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.level == 1 and node.module)]
    )
    if used is None:
        return Split(tree, {}, ())
    stay = used | siblings
    waiting = [node for node in imports if not any(_bound(alias) in stay for alias in node.names)]
    names = {
        _bound(alias): (str(node.module), alias.name) for node in waiting for alias in node.names if alias.name != "*"
    }
    stars = tuple(str(node.module) for node in waiting if node.names[0].name == "*")
    apart = set(map(id, waiting))
    return Split(ast.Module([node for node in tree.body if id(node) not in apart], []), names, stars)


def _used(rest: Sequence[ast.stmt]) -> set[str] | None:
    """The names that statements read or bind; None where they may use any."""
    parts = [part for node in rest for part in ast.walk(node)]
    used = {part.id for part in parts if isinstance(part, ast.Name)}
    used |= {part.name for part in parts if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    used |= {_bound(part) for part in parts if isinstance(part, ast.alias)}
    if any(isinstance(part, ast.Name) and part.id == "__all__" and isinstance(part.ctx, ast.Load) for part in parts):
        # what goes through it uses what it names
        return used | {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return None if used & NAMESPACES else used


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


@contextmanager
def touched_later(library: str, *, modules: tuple[str, ...] = ()) -> Iterator[None]:
    """For as long as the `with` lasts, packages of the library are imported so; afterwards they stay as they are.

    Modules whose full names begin with one of `modules` have their own imports wait as well (`late_name.py`).
    """
    finder = _Finder(library, modules if names_can_wait() else ())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds the library's packages and modules where Python finds them, and gives them our loaders."""

    def __init__(self, library: str, modules: tuple[str, ...]) -> None:
        self._library, self._modules = library, modules

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != self._library:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            if spec.submodule_search_locations:
                spec.loader = _Loader(name, spec.loader.path)
            elif name.startswith(self._modules):
                spec.loader = LateLoader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        siblings = {entry.partition(".")[0] for entry in os.listdir(os.path.dirname(self.path))}
        found = split(self.get_data(self.path), siblings)
        if not found.waits:
            super().exec_module(module)
            return
        _give(module, found)
        exec(compile(found.kept, self.path, "exec", dont_inherit=True), module.__dict__)


def _give(module: ModuleType, found: Split) -> None:
    """The package's own `__getattr__` and `__dir__` (PEP 562), for what waits and for its modules."""
    package = module.__name__

    def touched(name: str) -> Any:
        if name in found.names:
            where, there = found.names[name]
            value = getattr(import_module(f"{package}.{where}"), there)
        elif name == "__all__":
            return sorted(name for name in directory() if not name.startswith("_"))
        elif name.startswith("__"):
            raise _missing(module, name)
        else:
            value = _below(module, name, found.stars)
        setattr(module, name, value)
        return value

    def directory() -> list[str]:
        starred = {name for where in found.stars for name in _public(import_module(f"{package}.{where}"))}
        return sorted({*module.__dict__, *found.names, *starred})

    module.__dict__.update(__getattr__=touched, __dir__=directory)


def _below(module: ModuleType, name: str, stars: Sequence[str]) -> Any:
    """A module of the package, which the imports that wait would have loaded, or what a star brings."""
    full = f"{module.__name__}.{name}"
    try:
        return import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
    for where in reversed(stars):
        starred = import_module(f"{module.__name__}.{where}")
        if name in _public(starred):
            return getattr(starred, name)
    raise _missing(module, name)


def _public(module: ModuleType) -> list[str]:
    """What `from module import *` brings."""
    names: list[str] | None = getattr(module, "__all__", None)
    return [name for name in vars(module) if not name.startswith("_")] if names is None else names


def _missing(module: ModuleType, name: str) -> AttributeError:
    return AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)
