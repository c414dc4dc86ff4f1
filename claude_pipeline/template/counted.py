"""The sandbox that counts what a record costs."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from functools import wraps
from typing import Any, cast

from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro

from claude_pipeline.template.growth import formatted, growth
from claude_pipeline.template.plain import Joining, Plain, called, listed, passed
from claude_pipeline.template.unusable import too_much_work

WORK_MAX = 50_000_000  # units for one record: a unit is a character looked at or copied
STEP = 250  # units of one step of a loop, of an operator, of a filter or of a call
MACRO = 2_000  # units of one call of a macro
ITEM = 200  # units of one item of a list or a mapping that is looked at
POWER_BITS_MAX = 4_000  # of an integer power; Python writes no longer ones
SCOPE = ("_loop_vars", "_block_vars")  # what Jinja gives a call beside its arguments
# These look at no more than one item, or at none: paid as a step.
GLANCES = frozenset({"attr", "count", "d", "default", "first", "get", "items", "keys", "last", "length", "values"})
TEST_GLANCES = frozenset({"callable", "defined", "mapping", "none", "number", "sequence", "string", "undefined"})
# Statements that gather text before it reaches the prompt.
BUFFERED = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.FilterBlock, nodes.For)
AnyCall = Callable[..., Any]


class Counted(Plain):
    """The sandbox that counts: `left` is what remains of a record's budget. While it is compiled, nothing is left."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, finalize: Callable[[Any], Any], tree: nodes.Template) -> None:
        def counted(value: Any) -> Any:  # called most of all, so what is usual costs no call
            kind = type(value)
            if kind is str and not buffered:  # it goes straight into the prompt, which has its own bound
                return value
            self.left -= len(value) if kind is str else ITEM if kind in (int, float, bool) else self.size(value)
            if self.left < 0:
                raise too_much_work()
            return finalize(value)

        super().__init__(counted)
        buffered = any(not isinstance(node, nodes.For) or node.recursive for node in tree.find_all(BUFFERED))
        self.data_size = sum(len(data.data) for data in tree.find_all(nodes.TemplateData))
        self.filters = {
            name: self._bounded(name, cast(AnyCall, function), GLANCES) for name, function in self.filters.items()
        }
        self.filters |= {"~": self.joined, "~steps": self.steps, "~seen": self.seen}
        self.tests |= {
            name: self._bounded(name, cast(AnyCall, function), TEST_GLANCES) for name, function in self.tests.items()
        }

    def rewrite(self, tree: nodes.Template) -> None:
        Counting().visit(tree)

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise too_much_work()

    def size(self, *values: Any) -> int:
        """Units of looking at values, with all that they hold; stops where nothing is left."""
        total, waiting = 0, list(values)
        while waiting and total <= self.left:
            value = waiting.pop()
            if isinstance(value, str | bytes):
                total += len(value)
            elif isinstance(value, dict):
                total += ITEM * len(value)
                waiting += value.keys()
                waiting += value.values()
            elif isinstance(value, list | tuple | set | frozenset):
                total += ITEM * len(value)
                waiting += value
            elif isinstance(value, int):
                total += value.bit_length() // 8
            else:
                total += ITEM * (len(value) if isinstance(value, range | KeysView | ValuesView | ItemsView) else 1)
        return total

    # What a tree asks for once `Counting` went over it: filters, whose names nobody can write.

    def steps(self, items: Iterable[Any], data_size: int = 0) -> Iterator[Any]:
        cost = STEP + data_size
        for item in items:
            self.left -= cost
            if self.left < 0:
                raise too_much_work()
            yield item

    def seen(self, value: Any) -> Any:
        self.spend(len(value) if type(value) is str else self.size(value))
        return value

    def joined(self, *parts: Any) -> str:
        self.spend(STEP + 2 * self.size(*parts))
        return super().joined(*parts)

    # What Jinja's sandboxed code calls.

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        scope = {name: kwargs.pop(name) for name in SCOPE if name in kwargs} if kwargs else kwargs
        name = getattr(__obj, "__name__", "")
        if isinstance(__obj, LoopContext):
            args = (__self.steps(args[0]), *args[1:]) if args else args
        if isinstance(__obj, LoopContext | Macro):
            __self.spend(MACRO + __self.data_size)
        elif isinstance(owner, str | bytes | int):
            args = listed(name, (owner, *args))[1:]
            __self.spend(growth(name, (owner, *args), kwargs, __self.size))
        elif name == "range":
            __self.spend(growth(name, (None, *args), {}, __self.size))
        glance = name in GLANCES
        __self.spend(STEP if glance else STEP + __self.size(owner, *args, *kwargs.values()))
        value = super().call(__context, __obj, *args, **kwargs, **scope)
        return value if glance else __self._born(value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.spend(STEP + self.size(left, right))
        match operator, left, right:
            case "*", int(), int():
                self.spend(left.bit_length() * right.bit_length() // 1_000)
            case "*", _, int():
                self.spend(self.size(left) * max(right, 0))
            case "*", int(), _:
                self.spend(self.size(right) * max(left, 0))
            case "**", int(), int() if right > 0 and left.bit_length() * right > POWER_BITS_MAX:
                raise too_much_work()
            case "%", str() | bytes(), _:
                self.spend(formatted(left, right if isinstance(right, tuple) else (right,), self.size))
        return self._born(super().call_binop(context, operator, left, right))

    def _bounded(self, name: str, function: AnyCall, glances: frozenset[str]) -> AnyCall:
        """A filter or a test that pays for what it looks at and for what it makes."""
        skipped = passed(function)

        @wraps(function)
        def glance(*args: Any, **kwargs: Any) -> Any:
            self.spend(STEP)
            return function(*args, **kwargs)

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            own = listed(name, args[skipped:])
            self.spend(STEP + self.size(*own, *kwargs.values()))
            self.spend(growth(name, own, kwargs, self.size))
            return self._born(function(*args[:skipped], *own, **kwargs))

        return glance if name in glances else bounded

    def _born(self, value: Any) -> Any:
        """A new value, paid for: so no later look at it can cost more than the budget."""
        if isinstance(value, Iterator) and not isinstance(value, LoopContext):
            return self.steps(value)
        self.spend(self.size(value))
        return value


class Counting(Joining):
    """Makes a tree pay for what the sandbox does not ask about: loops, `~`, comparisons, slices, lists and mappings."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        size = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = called("~steps", cast(nodes.Expr, node.iter), nodes.Const(size))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = called("~seen", node.expr)
        for operand in node.ops:
            operand.expr = called("~seen", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = called("~seen", node.node)
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else called("~seen", node)

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return called("~seen", node)

    visit_Dict = visit_List
