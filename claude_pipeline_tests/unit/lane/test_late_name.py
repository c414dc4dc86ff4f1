"""What a module imports from its own library waits until the module uses it, and is what it would be."""

from __future__ import annotations

import importlib
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from types import ModuleType

import pytest

from claude_pipeline.lane.late_name import late, names_can_wait
from claude_pipeline.lane.reexport import touched_later
from claude_pipeline_tests.unit.lane.package import on_the_path

PACKAGE = "late_naming"
FILES = {
    "__init__.py": "",
    "one.py": "class One: pass\nclass Other: pass\n",
    "user.py": """from __future__ import annotations
import json
from .one import One, Other
from .broken import Never
Either = One | Other
BY_NAME: dict[str, type] = {"one": One, "other": Other}
def made(): return One()
def named(name: str) -> One: return BY_NAME[name]()
def known(value: Either) -> bool: return isinstance(value, Either)
def hidden(One): return One
def never(): return Never
def nothing(): return nowhere
def plain(): return json.dumps([len("two")])
""",
    "broken.py": "import a_module_that_is_not_there\n",
    "eager.py": "from .one import One\nclass Mine(One): pass\n",
    "stars.py": "from .user import *\n",
}


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from on_the_path(PACKAGE, FILES, tmp_path, monkeypatch)


def imported(name: str = "user") -> ModuleType:
    with touched_later(PACKAGE, modules=(f"{PACKAGE}.",)):
        return importlib.import_module(f"{PACKAGE}.{name}")


def there(name: str) -> bool:
    return f"{PACKAGE}.{name}" in sys.modules


@pytest.mark.parametrize(
    ("source", "waits"),
    [
        pytest.param("from .a import A, B as C", ["A", "C"], id="imports"),
        pytest.param("from ..a.b import A", ["A"], id="of anywhere in the library"),
        pytest.param("from .a import A\ndef f(): return A\nclass C(A): pass", ["A"], id="whoever uses them"),
        pytest.param("from .a import A\nB = A | None\nC: object = {1: [B]}", ["A", "B", "C"], id="aliases of aliases"),
        pytest.param("from .a import A\nB = A()", ["A"], id="a call is none"),
        pytest.param("from .a import A\nB, C = A", ["A"], id="nor is what is taken apart"),
        pytest.param("B = int | None", [], id="nor is one of what has not to wait"),
        pytest.param("from .a import A\nx = 1\nB = {A: x}\nx = 2", ["A"], id="nor is one of what changes"),
        pytest.param("from .a import A\nB = A | int\nB = 2", ["A"], id="nor is what does itself"),
        pytest.param("from .a import A\nA = 1", [], id="bound again"),
        pytest.param("from .a import A, B\ndel A", [], id="taken away; the statement is kept whole"),
        pytest.param("from .a import A\nif True:\n    class A: pass", [], id="bound again, a level below"),
        pytest.param("from .a import A\ntry: pass\nexcept OSError as A: pass", [], id="bound by an error"),
        pytest.param("from .a import A\nmatch 1:\n    case {1: A, **B}: pass", [], id="bound by a match"),
        pytest.param("from .a import B\nmatch 1:\n    case {**B}: pass", [], id="bound by the rest of a match"),
        pytest.param("from .a import A\nfrom .b import A", [], id="imported again"),
        pytest.param("from .a import A\ndef f(A):\n    A = 1", ["A"], id="a function's own is another"),
        pytest.param("from .a import A\nclass C:\n    A = 1", ["A"], id="a class's own as well"),
        pytest.param("from .a import A\ndef f():\n    global A\n    A = 1", [], id="a function binds it"),
        pytest.param("from .a import *\nfrom . import a\nfrom a import A\nimport a.b", [], id="others do not"),
        pytest.param("try:\n    from .a import A\nexcept ImportError: A = None", [], id="one that may fail"),
    ],
)
def test_what_waits(source: str, waits: list[str]) -> None:
    found = late(source.encode())
    assert sorted([*found.imports, *found.aliases]) == waits


def test_a_module_is_imported_when_a_function_comes_to_its_name() -> None:
    user = imported()
    assert user.plain() == "[3]"
    assert user.hidden(1) == 1
    assert not there("one")
    assert type(user.made()).__module__ == f"{PACKAGE}.one"
    assert {type(user.made()) for _ in range(100)} == {sys.modules[f"{PACKAGE}.one"].One}
    assert not there("broken")


def test_an_alias_is_made_when_it_is_used_and_once() -> None:
    user = imported()
    assert not there("one")
    assert user.known(user.named("other"))
    assert user.BY_NAME is user.__dict__["BY_NAME"] is user.BY_NAME
    assert [user.known(1) for _ in range(100)] == [False] * 100


def test_it_is_one_for_all_threads() -> None:
    user, found, together = imported(), [], Barrier(8)

    def touch() -> None:
        together.wait()
        found.append(user.BY_NAME)

    threads = [Thread(target=touch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(each) for each in found} == {id(user.BY_NAME)}


def test_others_find_its_names_as_ever() -> None:
    user = imported()
    assert {"One", "Either", "BY_NAME", "made"} <= set(dir(user))
    assert typing.get_type_hints(user.named)["return"] is user.One
    sys.modules[f"{PACKAGE}.broken"] = mended = ModuleType("broken")
    vars(mended)["Never"] = "never"
    assert {"One", "Either", "BY_NAME", "made", "Never"} <= set(vars(imported("stars")))


def test_what_is_not_there_is_said_as_ever() -> None:
    user = imported()
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        _ = user.nowhere
    with pytest.raises(NameError, match="name 'nowhere' is not defined"):
        user.nothing()
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        user.never()


def test_what_is_executed_at_once_finds_it_at_once() -> None:
    mine = imported("eager").Mine
    assert mine.__mro__[1].__module__ == f"{PACKAGE}.one"


def test_only_the_modules_that_were_named() -> None:
    with touched_later(PACKAGE, modules=(f"{PACKAGE}.user",)):
        importlib.import_module(f"{PACKAGE}.eager")
        assert there("one")
    assert "__getattr__" not in vars(sys.modules[f"{PACKAGE}.eager"])


def test_this_interpreter_bears_it() -> None:
    assert names_can_wait()
