"""What a template may say, and whether its cost is linear in the record."""

from __future__ import annotations

import re

from jinja2 import Environment, nodes

from claude_pipeline.errors import PromptInvalid

TEMPLATE_CHARACTERS_MAX = 1_000_000
NODES_MAX = 20_000  # of a template; compiling takes 0.1 ms each
NESTING_MAX = 45  # Jinja folds constants again at each level, and what that costs doubles with every few
PLAIN_NODES_MAX = 2_000
PLAIN_JOINS_MAX = 2  # each may make a text as many times as long as
PLAIN_JOIN_CHARACTERS_MAX = 10
PLAIN_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const, nodes.If,
    nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand, nodes.Test, nodes.Filter,
    nodes.Keyword, nodes.List, nodes.Tuple, nodes.Call, nodes.Concat,
)  # fmt: skip
PLAIN_FILTERS = frozenset(
    {"abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "last", "length", "list",
     "lower", "string", "striptags", "title", "tojson", "trim", "truncate", "upper", "wordcount"}
)  # fmt: skip
PLAIN_METHODS = frozenset(
    {"capitalize", "endswith", "get", "isoformat", "items", "keys", "lower", "lstrip", "removeprefix", "removesuffix",
     "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper", "values"}
)  # fmt: skip
_PRIVATE_FIELD = re.compile(r"\{[^{}]*[.\[]_")  # of str.format


def parsed(source: str, place: str) -> nodes.Template:
    """The syntax tree, without what is not allowed."""
    if len(source) > TEMPLATE_CHARACTERS_MAX:
        raise PromptInvalid(
            f"{place}: is {len(source):,} characters; a template has at most {TEMPLATE_CHARACTERS_MAX:,}"
        )
    tree = Environment().parse(source)
    count = sum(1 for _ in tree.find_all(nodes.Node))
    if count > NODES_MAX:
        raise PromptInvalid(f"{place}: has {count:,} parts; a template has at most {NODES_MAX:,}")
    if _is_deeper(tree, NESTING_MAX):
        raise PromptInvalid(f"{place}: is nested more than {NESTING_MAX} deep; write it flatter")
    for node in tree.find_all(nodes.Node):
        refused = _refused(node)
        if refused is not None:
            raise PromptInvalid(f"{place} line {node.lineno}: {refused}")
    return tree


def _is_deeper(node: nodes.Node, most: int) -> bool:
    """Whether parts stand in each other more than `most` deep, level by level."""
    level = [node]
    for _ in range(most):
        level = [inner for outer in level for inner in outer.iter_child_nodes()]
        if not level:
            return False
    return True


def _refused(node: nodes.Node) -> str | None:
    """Why a part of a template is not allowed; None where it is."""
    private = "is not allowed: it reads what is no part of a record"
    match node:
        case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
            return f"{type(node).__name__.lower()} is not allowed: a prompt is one template"
        case nodes.Getattr(attr=str(name)) if name.startswith("_"):
            return f"{name!r} {private}"
        case nodes.Getitem(arg=nodes.Const(value=str(name))) if name.startswith("__"):
            return f"{name!r} {private}"
        case nodes.Filter(name="attr", args=[nodes.Const(value=str(name)), *_]) if name.startswith("_"):
            return f"{name!r} {private}"
        case nodes.Const(value=str(text)) if _PRIVATE_FIELD.search(text):
            return f"a field of format that begins with _ {private}"
        case nodes.Filter(name="random"):
            return "random is not allowed: a record must be the same question each time"
    return None


def looked_at(tree: nodes.Template) -> frozenset[str]:
    """Names used for more than to print them: of what is blank in them the template has a mind of its own."""
    printed = set()
    for output in tree.find_all(nodes.Output):
        for node in output.nodes:
            while isinstance(node, nodes.Filter) and node.node is not None and node.name not in ("default", "d"):
                node = node.node
            printed.add(id(node))
    return frozenset(node.name for node in tree.find_all(nodes.Name) if id(node) not in printed)


def is_plain(tree: nodes.Template) -> bool:
    """Whether a template's cost is linear in the record."""
    parts = list(tree.find_all(nodes.Node))
    joins = sum(1 for part in parts if isinstance(part, nodes.Filter) and part.name == "join")
    return len(parts) <= PLAIN_NODES_MAX and joins <= PLAIN_JOINS_MAX and all(_is_plain_part(part) for part in parts)


def _is_plain_part(part: nodes.Node) -> bool:
    match part:
        case nodes.Filter(name="tojson", args=[], kwargs=[]):
            return True
        case nodes.Filter(name="join", args=[nodes.Const(value=str(between))], kwargs=[]):
            return len(between) <= PLAIN_JOIN_CHARACTERS_MAX
        case nodes.Filter(name="replace", args=[nodes.Const(value=str(old)), nodes.Const(value=str(new))], kwargs=[]):
            return bool(old) and len(new) <= len(old)
        case nodes.Filter(name="round", args=[] | [nodes.Const(value=0 | 1 | 2 | 3)], kwargs=[]):
            return True
        case nodes.Filter(name=name):
            return name in PLAIN_FILTERS and name != "tojson"
        case nodes.Call(node=nodes.Getattr(attr=name), dyn_args=None, dyn_kwargs=None):
            return name in PLAIN_METHODS
        case nodes.Getitem(arg=arg):
            return isinstance(arg, nodes.Const)
        case nodes.List(items=items) | nodes.Tuple(items=items):
            return all(isinstance(item, nodes.Const) for item in items)
    return isinstance(part, PLAIN_NODES) and not isinstance(part, nodes.Call)
