"""Foreign text inside Markdown: shown as it is, whatever it holds, on one line."""

from __future__ import annotations

import re

from claude_pipeline.errors import one_line

_MEANT = re.compile(r"[\\`*\[\]#|~]|(?<!\w)_|_(?!\w)")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def plain(text: str) -> str:
    """Also fit for a table's cell.

    >>> plain("a|b <i>_c_</i>")
    'a\\\\|b &lt;i&gt;\\\\_c\\\\_&lt;/i&gt;'
    """
    return _MEANT.sub(r"\\\g<0>", one_line(" ".join(text.split()))).translate(_HTML)


def code(text: str) -> str:
    """As code: between more backticks than it holds."""
    shown = one_line(" ".join(text.split()))
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


__all__ = ["code", "plain"]
