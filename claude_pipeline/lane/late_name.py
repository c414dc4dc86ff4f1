"""What a module imports from its own library, imported when the module first uses it and not when it is executed.

`reexport.py` has a package's names wait, which nothing in the package uses. A module uses its own, but most of them
only inside functions that a run never calls. Here such imports are left out of the module's text, and so are aliases
made of them (`Body = Request | Batch`, a dictionary of classes); a name is made when the text comes to it. Python looks
for a name in the module, then among the builtins: a module that is executed so has builtins that know the rest. As for
`lazy from … import …` in Python 3.15 (PEP 810), no name and no class is another than it would be.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import resolve_name
from types import CodeType, ModuleType
from typing import Any

# An alias of these is the same whenever it is made: nothing is called, and nothing changed.
ALIAS = (
    ast.expr_context, ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.BitOr,
    ast.Tuple, ast.List, ast.Dict,
)  # fmt: skip
GLOBAL = re.compile(rb"^\s*global\s", re.MULTILINE)


@dataclass(frozen=True)
class Late:
    """The text of a module, without what can wait."""

    kept: ast.Module  # what is executed
    imports: dict[str, tuple[str, str]]  # a name that waits: its module, relative as in the text, and the name there
    aliases: dict[str, ast.expr]  # a name that waits, and what it stands for

    @property
    def waits(self) -> bool:
        return bool(self.imports or self.aliases)


def late(source: bytes) -> Late:
    """What of a module's text can wait: relative imports and aliases made of them, of names bound nowhere else in it."""
    tree = ast.parse(source)
    if GLOBAL.search(source):  # a function may bind any of them
        return Late(tree, {}, {})
    bound = Counter(name for node in _scope(tree) for name in _binds(node))
    found = Late(ast.Module([], []), {}, {})
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            names = [name for each in node.names for name in _binds(each)]
            if all(bound[name] == 1 and name != "*" for name in names):
                module = "." * node.level + node.module
                found.imports.update({name: (module, each.name) for name, each in zip(names, node.names, strict=True)})
                continue
        elif alias := _alias(node):
            name, value = alias
            used = {part.id for part in ast.walk(value) if isinstance(part, ast.Name)}
            if all(bound[each] <= 1 for each in {name, *used}) and used & {*found.imports, *found.aliases}:
                found.aliases[name] = value
                continue
        found.kept.body.append(node)
    return found


def _scope(tree: ast.Module) -> Iterator[ast.AST]:
    """The parts of a text that bind names of the module itself: not what stands inside its functions and classes."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _binds(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.alias():
            return [node.asname or node.name.partition(".")[0]]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
    return []


def _alias(node: ast.stmt) -> tuple[str, ast.expr] | None:
    match node:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            return (name, value) if all(isinstance(part, ALIAS) for part in ast.walk(value)) else None
    return None


class _Builtins(dict[str, Any]):
    """The builtins of one module, and the names that it has not come to yet."""

    def __init__(self, space: dict[str, Any], waiting: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__(vars(builtins))
        self._space, self._waiting = space, waiting

    def __missing__(self, name: str) -> Any:
        value = self._waiting[name]()
        return self._space.setdefault(name, value)  # the module has it from now on


def names_can_wait() -> bool:
    """Whether this interpreter asks a module's own builtins, as CPython does, for what it finds nowhere."""
    space: dict[str, Any] = {}
    space["__builtins__"] = _Builtins(space, {"waiting": lambda: True})
    try:
        return eval("(lambda: waiting)()", space) is True
    except NameError:
        return False


class LateLoader(SourceFileLoader):
    """Executes a module so."""

    def exec_module(self, module: ModuleType) -> None:
        found = late(self.get_data(self.path))
        if not found.waits:
            super().exec_module(module)
            return
        space, package = module.__dict__, module.__package__
        waiting: dict[str, Callable[[], Any]] = {
            name: _import(resolve_name(where, package), there) for name, (where, there) in found.imports.items()
        }
        waiting |= {
            name: _value(compile(ast.Expression(value), self.path, "eval", dont_inherit=True), space)
            for name, value in found.aliases.items()
        }
        space["__builtins__"] = known = _Builtins(space, waiting)

        def touched(name: str) -> Any:
            if name in waiting:
                return known[name]
            if name == "__all__":  # what a star brings of a module that does not say so
                return [name for name in directory() if not name.startswith("_")]
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)

        def directory() -> list[str]:
            return sorted({*space, *waiting})

        space.update(__getattr__=touched, __dir__=directory)
        exec(compile(found.kept, self.path, "exec", dont_inherit=True), space)


def _import(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(module), name)


def _value(code: CodeType, space: dict[str, Any]) -> Callable[[], Any]:
    return lambda: eval(code, space)
