"""A package's re-exports are imported when they are touched, and are what they would be."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_pipeline.lane.reexport import split, touched_later
from claude_pipeline_tests.unit.lane.package import on_the_path

PACKAGE = "reexporting"
FILES = {
    "__init__.py": "from .one import One as One\nfrom .two import two\nfrom .many import *\n",
    "one.py": "class One: pass\n",
    "two.py": "two = 2\n",
    "many.py": "three = 3\n_hidden = 4\n",
    "broken.py": "import a_module_that_is_not_there\n",
}
# Every public name of each package of the SDK, and of the modules whose imports wait: where what stands behind it comes from.
NAMES = """
import json, pkgutil, sys, types
from importlib import import_module
from claude_pipeline.lane.sdk import LATE
if sys.argv[1] == "later":
    from claude_pipeline.lane.sdk import load_sdk
    load_sdk()
import anthropic

def origin(value):
    try:
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    except anthropic.AnthropicError:  # stands for a library that is not installed
        name = None
    return f"{getattr(value, '__module__', '')} {name}" if name else type(value).__name__

def bears(name):
    try:
        import_module(name)
    except ImportError:  # it wants a library that is not installed
        return False
    return True

asked = json.load(sys.stdin)
if not asked:
    found = pkgutil.walk_packages(anthropic.__path__, "anthropic.", onerror=lambda name: None)
    names = ["anthropic", *(module.name for module in found if module.ispkg or module.name.startswith(LATE))]
    packages = [sys.modules[name] for name in names if bears(name)]
    asked = {package.__name__: [name for name in dir(package) if not name.startswith("__")] for package in packages}
for package in asked:
    import_module(package)
print(json.dumps([[package, name, origin(getattr(import_module(package), name))]
                  for package, names in asked.items() for name in names]))
"""


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from on_the_path(PACKAGE, FILES, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("source", "waits"),
    [
        pytest.param("from .a import A as A, B", ["A", "B"], id="re-exports"),
        pytest.param("from .a import A\n__all__ = ['A']", ["A"], id="__all__ alone uses nothing"),
        pytest.param("from .a import A\nfor name in __all__: print(name)\n__all__ = ['A']", [], id="who reads it does"),
        pytest.param("from .a import A, B\nC = A", [], id="a statement is kept whole"),
        pytest.param("from .a import A\ndef f(): return A", [], id="a function looks names up"),
        pytest.param("from .a import A\nclass A: pass", [], id="bound again"),
        pytest.param("from .a import A\nif True:\n    from b import A", [], id="imported again"),
        pytest.param("from .a import A\nprint(locals())", [], id="may use any name"),
        pytest.param("from .a import sibling", [], id="a module has that name"),
        pytest.param("from a import A\nimport b\nfrom . import c\nfrom ..d import D", [], id="not of its own modules"),
    ],
)
def test_what_waits(source: str, waits: list[str]) -> None:
    found = split(source, {"a", "sibling"})
    assert sorted(found.names) == waits
    assert len(found.kept.body) == len(ast.parse(source).body) - bool(waits)


def test_a_star_waits() -> None:
    assert split("from .a import *", {"a"}).stars == ("a",)


def test_a_module_is_imported_when_a_name_of_it_is_touched() -> None:
    with touched_later(PACKAGE):
        package = importlib.import_module(PACKAGE)
    assert f"{PACKAGE}.one" not in sys.modules
    assert package.One.__module__ == f"{PACKAGE}.one"
    assert package.one.One is package.One
    assert f"{PACKAGE}.many" not in sys.modules
    assert package.three == 3
    assert package.two == 2, "the name, and not the module"


def test_dir_and_star_bring_everything() -> None:
    with touched_later(PACKAGE):
        package = importlib.import_module(PACKAGE)
    assert {"One", "two", "three"} <= set(dir(package))
    space: dict[str, object] = {}
    exec(f"from {PACKAGE} import *", space)
    assert {"One", "two", "three"} <= set(space)
    assert "_hidden" not in space


def test_what_is_not_there_is_said_as_ever() -> None:
    with touched_later(PACKAGE):
        package = importlib.import_module(PACKAGE)
    for name in ("four", "_hidden", "__wrapped__"):
        assert not hasattr(package, name)
    with pytest.raises(ImportError, match="cannot import name 'four'"):
        exec(f"from {PACKAGE} import four")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        _ = package.broken


def test_afterwards_packages_are_imported_as_they_stand() -> None:
    before = list(sys.meta_path)
    with touched_later(PACKAGE):
        pass
    assert sys.meta_path == before
    importlib.import_module(PACKAGE)
    assert f"{PACKAGE}.one" in sys.modules


def test_every_name_of_the_sdk_is_what_it_is_without() -> None:
    as_it_stands = _names("now", {})
    asked: dict[str, list[str]] = {}
    for package, name, _ in as_it_stands:
        asked.setdefault(package, []).append(name)
    assert len(as_it_stands) > 5_000
    assert _names("later", asked) == as_it_stands
    backwards = {package: names[::-1] for package, names in reversed(asked.items())}
    assert sorted(_names("later", backwards)) == sorted(as_it_stands)


def _names(when: str, asked: dict[str, list[str]]) -> list[list[str]]:
    command = [sys.executable, "-W", "ignore", "-c", NAMES, when]
    done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found
