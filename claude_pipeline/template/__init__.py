"""A prompt's template: Jinja in its sandbox, with a bound on what one record may cost.

The sandbox keeps a template from files, from attributes of Python and from changing data. It does not keep it
from `'a' * 10**9`, from loops in loops, from `**` or from huge widths: these take memory or hours inside one call.

Three kinds of templates, told apart once:

joined    text and columns alone, which need no Jinja where their values are text or whole numbers (of many records at once: any numbers)
plain     columns, conditions and filters that give about as much text as they get: cost is linear in the
          record, nothing is counted
counted   all else. Each step of a loop, each call, and each value that is made or looked at is paid from a budget
          of work before it happens; a record that has spent it is refused as `too_much_work`

Work is counted and not timed, so that a record has one outcome on every machine and in both passes over a snapshot.
The whole budget takes about a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateError, TemplateSyntaxError, is_undefined, meta, nodes
from jinja2.exceptions import UndefinedError

from claude_pipeline.errors import PromptInvalid
from claude_pipeline.template.counted import WORK_MAX, Counted
from claude_pipeline.template.joined import Joined
from claude_pipeline.template.plain import Plain
from claude_pipeline.template.syntax import TEMPLATE_CHARACTERS_MAX, is_plain, looked_at, parsed
from claude_pipeline.template.unusable import NULL, RejectCode, Unusable, too_much_work

PROMPT_CHARACTERS_MAX = 20_000_000  # one rendered prompt; far over any model's context, far under memory


class Template:
    """A compiled template; `finalize` sees each value that is put into the prompt, and may raise Unusable.

    `names` are those that it looks up in the record, `looked_at` those used for more than to print them. It belongs to
    one thread at a time: the budget is its own.

    Raises:
        PromptInvalid: syntax, a statement or a name that is not allowed, more than anybody writes.
    """

    def __init__(self, source: str, finalize: Callable[[Any], Any], *, place: str = "prompt") -> None:
        try:
            tree = parsed(source, place)
            self.looked_at = looked_at(tree)
            self._joined = Joined.of(tree)
            self._environment = Plain(finalize) if is_plain(tree) else Counted(finalize, tree)
            self._environment.rewrite(tree)
            tree.set_environment(self._environment)
            self.names = frozenset(meta.find_undeclared_variables(tree))
            # What a record may have instead of Jinja's own `range`, `dict`, …
            self.overridable = frozenset(
                node.name for node in tree.find_all(nodes.Name) if node.ctx == "load"
            ) & frozenset(self._environment.globals)
            self._compiled = self._environment.from_string(tree)
            # Jinja keeps a chain of mappings, which it goes through twice for each record: a quarter of the whole.
            self._compiled.globals = dict(self._compiled.globals)
        except TemplateSyntaxError as error:
            raise PromptInvalid(f"{place} line {error.lineno}: {error.message}") from None
        except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
            raise PromptInvalid(
                f"{place}: cannot be compiled ({type(error).__name__}); nest less, and write shorter numbers"
            ) from None

    def render(self, record: dict[str, Any]) -> str:
        """The prompt of a record.

        Raises:
            Unusable: why there is none.
        """
        text = self._joined.text(record) if self._joined is not None else None
        return self._by_jinja(record) if text is None else _joined([text])

    def render_texts(self, columns: Mapping[str, Sequence[object]]) -> list[str] | None:
        """The prompts of many records, whose values are printed as they are; longer ones than `render` allows as well.
        None where the template does more than print columns: `render` each.
        """
        return self._joined.texts(columns) if self._joined is not None else None

    def _by_jinja(self, record: dict[str, Any]) -> str:
        environment, compiled = self._environment, self._compiled
        environment.left = WORK_MAX
        try:
            return _joined(compiled.root_render_func(compiled.new_context(record)))
        except UndefinedError:
            raise Unusable("missing_text", "a field that the prompt asks for is missing") from None
        except MemoryError:
            raise too_much_work() from None
        except (
            TemplateError,  # SecurityError as well
            ArithmeticError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            RuntimeError,  # RecursionError as well
        ) as error:
            raise Unusable("template_failed", f"the template failed ({type(error).__name__})") from None


def check_template(source: str, *, place: str) -> None:
    """What can be wrong with a template whatever the columns are. Raises as `Template`."""
    Template(source, str, place=place)


def constant_head(source: str) -> str:
    """What a template begins with before its first column or statement; the same in every prompt."""
    body = Environment().parse(source).body
    first = body[0].nodes if body and isinstance(body[0], nodes.Output) else []
    head = ""
    for node in first:
        if not isinstance(node, nodes.TemplateData):
            break
        head += node.data
    return head


def _joined(pieces: Iterable[str]) -> str:
    """The pieces as one text; stops as soon as it is too long."""
    taken = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > PROMPT_CHARACTERS_MAX:
            raise Unusable("too_large", f"the prompt is over {PROMPT_CHARACTERS_MAX:,} characters")
        taken.append(piece)
    return "".join(taken)


__all__ = [
    "NULL",
    "PROMPT_CHARACTERS_MAX",
    "TEMPLATE_CHARACTERS_MAX",
    "RejectCode",
    "Template",
    "Unusable",
    "check_template",
    "constant_head",
    "is_undefined",
]
