"""The sandbox, in which a null never becomes the text "None"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.runtime import str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from claude_pipeline.template.unusable import null_text

# Of a null these make the text "None", which nobody means.
TEXT_FILTERS = frozenset(
    {"capitalize", "center", "e", "escape", "forceescape", "format", "indent", "lower", "replace", "string",
     "striptags", "title", "trim", "truncate", "upper", "urlencode", "urlize", "wordcount", "wordwrap"}
)  # fmt: skip
# A record must be the same question each time it is rendered.
CHANCE = frozenset({"random", "lipsum"})


class Plain(ImmutableSandboxedEnvironment):
    """The sandbox. No loader: include and import have nowhere to read from."""

    left = 0  # of a budget, which nobody looks at here

    def __init__(self, finalize: Callable[[Any], Any]) -> None:
        super().__init__(undefined=StrictUndefined, finalize=finalize, autoescape=False, keep_trailing_newline=False)
        for name in TEXT_FILTERS:
            self.filters[name] = without_null(self.filters[name])
        self.filters |= {"join": without_nulls(self.filters["join"]), "~": self.joined}
        for name in CHANCE:
            self.filters.pop(name, None)
            self.globals.pop(name, None)

    def rewrite(self, tree: nodes.Template) -> None:
        Joining().visit(tree)

    def joined(self, *parts: Any) -> str:
        """What `~` does, without nulls."""
        if None in parts:
            raise null_text()
        return str_join(parts)


class Joining(NodeTransformer):
    """Makes `~` refuse nulls."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return called("~", *node.nodes)


def called(filter_name: str, node: nodes.Expr, *arguments: nodes.Expr) -> nodes.Filter:
    made = nodes.Filter(node, filter_name, list(arguments), [], None, None)
    made.set_lineno(node.lineno)
    return made


def passed(function: Callable[..., Any]) -> int:
    """How many arguments Jinja puts before a filter's own: its context, or nothing."""
    return 0 if getattr(function, "jinja_pass_arg", None) is None else 1


def without_null(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of text that refuses a null."""
    skipped = passed(function)

    @wraps(function)
    def strict(*args: Any, **kwargs: Any) -> Any:
        if args[skipped] is None:
            raise null_text()
        return function(*args, **kwargs)

    return strict


def without_nulls(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter that joins items, which refuses a null among them."""
    skipped = passed(function)

    @wraps(function)
    def strict(*args: Any, **kwargs: Any) -> Any:
        own = listed("join", args[skipped:])
        refuse_nulls(own)
        return function(*args[:skipped], *own, **kwargs)

    return strict


def refuse_nulls(args: Iterable[Any]) -> None:
    if any(isinstance(items, list | tuple) and None in items for items in args):
        raise null_text()


def listed(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a join with its items at hand, whose number decides how long it gets."""
    if name != "join":
        return args
    return tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
