"""Read the catalogue's YAML files, lay a user's file over them, and take values out with their place.

A `Block` is one mapping of the YAML with its path; its methods return a value of the asked type or
raise `Problem`, which knows the path. `read_documents` turns that path into the right file's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from claude_pipeline.errors import SettingInvalid

FOLDER = Path(__file__).parent
FILE_OF_SECTION = {
    "lines": "models.yaml",
    "models": "models.yaml",
    "prices": "prices.yaml",
    "tiers": "tiers.yaml",
    "limits": "limits.yaml",
}
DESCRIPTION_KEYS = ("source", "read", "assumed", "note")

KeyPath = tuple[str, ...]


class Problem(Exception):
    """Something is wrong at `path`; becomes an error that names the file."""

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


@dataclass(frozen=True)
class Documents:
    """All sections, a user's file laid over ours; `overridden` holds (section, name, key) of the user's values."""

    sections: Mapping[str, Mapping[str, Any]]
    user_file: Path | None = None
    overridden: Mapping[KeyPath, tuple[str, date | None]] = field(default_factory=dict)

    def blocks(self, section: str) -> Iterable[tuple[str, Block]]:
        for name, content in self.sections[section].items():
            yield name, Block(content, (section, name))

    def error(self, problem: Problem) -> SettingInvalid:
        """The problem as an error for people: file, key, what is wrong."""
        section, name = (*problem.path, "", "")[:2]
        ours = FILE_OF_SECTION.get(section, "")
        theirs = self.user_file and any(path[:2] == (section, name) for path in self.overridden)
        return SettingInvalid(f"{self.user_file if theirs else ours}: {'.'.join(problem.path)}: {problem.message}")


class Block:
    """One mapping of the YAML and where it stands."""

    def __init__(self, content: Any, path: KeyPath) -> None:
        if not isinstance(content, Mapping):
            raise Problem(path, f"must be a mapping of keys to values, got {content!r}")
        self.content, self.path = content, path

    def only(self, *known: str) -> None:
        """Refuse keys that nobody reads: most are misspelt."""
        allowed = (*known, *DESCRIPTION_KEYS)
        for key in self.content:
            if key not in allowed:
                raise Problem((*self.path, str(key)), f"unknown key{did_you_mean(str(key), allowed)}")

    def block(self, key: str) -> Block:
        return Block(self.content.get(key) or {}, (*self.path, key))

    def required(self, key: str) -> Any:
        if self.content.get(key) is None:
            raise Problem(self.path, f"{key} is missing")
        return self.content[key]

    def text(self, key: str) -> str | None:
        value: str | None = self._typed(key, str, "text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._typed(key, list, "a list") or []
        if not all(isinstance(value, str) for value in values):
            raise Problem((*self.path, key), f"must be a list of names, got {values!r}")
        return tuple(values)

    def whole(self, key: str) -> int | None:
        value: int | None = self._typed(key, int, "a whole number")
        if value is not None and value < 0:
            raise Problem((*self.path, key), f"must not be negative, got {value}")
        return value

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._typed(key, bool, "true or false")
        return value

    def day(self, key: str) -> date | None:
        value: date | None = self._typed(key, date, "a day such as 2026-11-22")
        return value

    def decimal(self, key: str) -> Decimal | None:
        value = self.content.get(key)
        return None if value is None else decimal(value, (*self.path, key))

    def assumed(self) -> frozenset[str]:
        """Names of the fields nobody official states; `*` stands for all of them."""
        value = self.content.get("assumed", [])
        return frozenset({"*"} if value is True else self.texts("assumed") if value else ())

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self.content.get(key)
        # bool is an int and datetime a date to isinstance; neither is meant here.
        wrong = isinstance(value, bool) != (kind is bool) or isinstance(value, datetime)
        if value is not None and (wrong or not isinstance(value, kind)):
            raise Problem((*self.path, key), f"must be {name}, got {value!r}")
        return value


def decimal(value: Any, path: KeyPath) -> Decimal:
    """An exact number; a float means what its shortest spelling says."""
    try:
        if isinstance(value, bool):
            raise InvalidOperation
        number = Decimal(str(value))
    except InvalidOperation:
        raise Problem(path, f"must be a number such as '2.50', got {value!r}") from None
    if not number.is_finite() or number < 0:
        raise Problem(path, f"must be a number, zero or more, got {value!r}")
    return number


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(near)}?)" if near else otherwise


def read_documents(user_file: Path | None) -> Documents:
    """Our files, with the user's laid over them: fields of models, lines and tiers one by one, a limit's
    value, and price rows by their `from` day.

    Raises:
        SettingInvalid: a file cannot be read, is not YAML, or has a key twice or out of place.
    """
    sections: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(FILE_OF_SECTION.values()):
        sections.update(_parse(FOLDER / name, shown=name))
    if user_file is None:
        return Documents(sections)
    overridden: dict[KeyPath, tuple[str, date | None]] = {}
    documents = Documents(sections, user_file, overridden)
    try:
        # Prices last: they may go by an alias that the same file adds.
        content = _parse(user_file, shown=str(user_file))
        for section, names in sorted(content.items(), key=lambda item: item[0] == "prices"):
            if section not in FILE_OF_SECTION:
                hint = did_you_mean(str(section), FILE_OF_SECTION, otherwise=f" (known: {', '.join(FILE_OF_SECTION)})")
                raise SettingInvalid(f"{user_file}: {section}: unknown section{hint}")
            for name, block in Block(names or {}, (section,)).content.items():
                overridden[section, str(name)] = (f"user file {user_file}", None)
                _overlay(documents, (section, str(name)), block, overridden)
    except Problem as problem:
        raise documents.error(problem) from None
    return documents


def _overlay(documents: Documents, path: KeyPath, content: Any, overridden: dict[KeyPath, Any]) -> None:
    section, name = path
    target = cast(dict[str, Any], documents.sections[section])  # ours to change while reading
    if section == "prices":
        _overlay_prices(documents, path, content, target)
        return
    block = Block(content, path)
    origin = (block.text("source") or f"user file {documents.user_file}", block.day("read"))
    for key in block.content:
        if key not in DESCRIPTION_KEYS:
            overridden[section, name, str(key)] = origin
    if name not in target or section == "limits":
        below = {key: value for key, value in target.get(name, {}).items() if key == "value"}
        target[name] = {"source": origin[0], "read": origin[1], **_merged(below, block.content)}
        return
    # Fields that stay keep the source they had; a field said anew is no longer assumed unless the user says so.
    above = {key: value for key, value in block.content.items() if key not in ("source", "read")}
    was = target[name].get("assumed", [])
    above.setdefault("assumed", [field for field in was if field.split(".")[0] not in block.content])
    target[name] = _merged(target[name], above)


def _overlay_prices(documents: Documents, path: KeyPath, content: Any, target: dict[str, Any]) -> None:
    """A row replaces the one of the same day; an alias stands for its model."""
    if not isinstance(content, list):
        raise Problem(path, f"must be a list of price rows, got {content!r}")
    models = documents.sections["models"].items()
    name = next((model for model, block in models if path[1] in (block.get("aliases") or ())), path[1])
    rows = [{"source": f"user file {documents.user_file}", **Block(row, path).content} for row in content]
    days = {row.get("from") for row in rows}
    target[name] = [row for row in target.get(name, []) if row.get("from") not in days] + rows


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            both[key] = _merged(below[key], value)
    return both


def _parse(path: Path, *, shown: str) -> dict[str, Any]:
    import yaml  # here: importing the catalogue stays cheap

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either has the same methods
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise SettingInvalid(
                    f"{shown}, line {node.start_mark.line + 1}: the key {twice} stands there twice; keep one"
                )
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # derived from the safe loader
    except OSError as error:
        raise SettingInvalid(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingInvalid(f"{shown}: is not UTF-8; convert it") from None
    except yaml.YAMLError as error:
        raise SettingInvalid(f"{shown}: is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingInvalid(
            f"{shown}: must hold sections ({', '.join(FILE_OF_SECTION)}), got {type(content).__name__}"
        )
    return content
