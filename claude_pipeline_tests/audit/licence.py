"""The licence of everything that is installed with the package, from each distribution's own metadata."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).parent / "LICENCES.md"
EXTRAS = ("postgres", "metrics")  # those that users install
# Without a duty beyond keeping the notice; MPL-2.0 asks to publish changes of its own files, and none is changed.
PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0",
     "Unlicense", "Zlib"}
)  # fmt: skip
# Distribution -> why its licence will do all the same.
ACCEPTED = {
    "psycopg": "LGPL-3.0-only: in the extra `postgres` only, a library of its own that is used unchanged",
    "psycopg-binary": "as psycopg",
}
# What metadata without an SPDX expression says, and what it means.
SPOKEN = {
    "apache 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd license": "BSD",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
_LICENCE_CHARACTERS_MAX = 60  # more is the licence's text and not its name
_HEAD = """# Licences

Of what `pip install claude-pipeline[postgres,metrics]` brings on Linux, from each distribution's own metadata; versions
are in `constraints.txt`. Written by `make audit`; a test keeps it true.

| distribution | licence |
|---|---|
"""


class Licence(NamedTuple):
    """`name` is None where the metadata says nothing that is known here."""

    distribution: str
    version: str
    name: str | None

    @property
    def problem(self) -> str | None:
        if self.name is None:
            return f"{self.distribution} {self.version}: its metadata names no licence"
        words = {word for word in re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", self.name) if word}
        if words <= PERMISSIVE or canonicalize_name(self.distribution) in ACCEPTED:
            return None
        return f"{self.distribution} {self.version}: {self.name} is not among the licences that are taken"


def licences() -> list[Licence]:
    """Of every dependency, and theirs, sorted by name. Raises PackageNotFoundError where one is not installed."""
    found = {canonicalize_name(each.metadata["Name"]): each for each in _closure()}
    return [Licence(each.metadata["Name"], each.version, licence_of(each)) for _, each in sorted(found.items())]


def _closure() -> Iterator[Distribution]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    waiting = [Requirement(line) for line in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        found = distribution(requirement.name)
        yield found
        for line in found.requires or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in requirement.extras or {""}):
                waiting.append(inner)


def licence_of(found: Distribution) -> str | None:
    """The SPDX expression, else what the classifiers say, else the short text under `License`."""
    metadata = found.metadata
    if expression := metadata["License-Expression"]:
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    named = sorted({SPOKEN.get(name.lower(), name) for name in classifiers if name != "OSI Approved"})
    if named:
        return " OR ".join(named)
    said = str(metadata["License"] or "").strip()
    return SPOKEN.get(said.lower(), said) if 0 < len(said) <= _LICENCE_CHARACTERS_MAX else None


def table(found: list[Licence]) -> str:
    """The list as a file."""
    return _HEAD + "".join(f"| {each.distribution} | {each.name} |\n" for each in found)


__all__ = ["LIST", "Licence", "PackageNotFoundError", "licence_of", "licences", "table"]
