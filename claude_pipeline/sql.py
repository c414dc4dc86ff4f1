"""Names and values inside SQL text: the two helpers through which every one of them goes.

DuckDB takes no parameters where a table, a column or a file is named, so these are spliced in.
"""

from __future__ import annotations

import re

__all__ = ["QUIET", "file_literal", "identifier", "literal"]

# After each connect: DuckDB would print a progress bar into our output when a query takes seconds.
QUIET = "SET enable_progress_bar = false"

_GLOB = re.compile(r"[*?\[]")


def identifier(name: str) -> str:
    """`name` as a quoted identifier: `6" pipe` becomes `"6"" pipe"`.

    Raises:
        ValueError: the name is empty or holds a NUL, which no SQL text can carry.
    """
    if not name or "\0" in name:
        raise ValueError("an identifier needs at least one character and no NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """`value` as a text literal: `it's` becomes `'it''s'`.

    Raises:
        ValueError: the value holds a NUL, which no SQL text can carry.
    """
    if "\0" in value:
        raise ValueError("a literal cannot hold a NUL")
    return "'" + value.replace("'", "''") + "'"


def file_literal(path: object) -> str:
    """A path as the literal that DuckDB's readers take for exactly that file.

    They expand `*`, `?` and `[`; a character class of the one character stands for itself.
    """
    return literal(_GLOB.sub(lambda match: f"[{match[0]}]", str(path)))
