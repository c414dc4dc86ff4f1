"""A workload's YAML file, read strictly: one document, no tags, no anchors, no key given twice.

The same file is a Dagster component (`type: claude_pipeline.ClaudeWorkload`), so what Dagster
reads and what `claude-pipeline run FILE` reads is one thing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from claude_pipeline.errors import WorkloadInvalid, quoted_value
from claude_pipeline.template import check_template
from claude_pipeline.workload import Workload

COMPONENT_TYPE = "claude_pipeline.ClaudeWorkload"
TYPES = (
    COMPONENT_TYPE,
    "claude_pipeline.components.ClaudeWorkload",
    "claude_pipeline.components.claude_workload.ClaudeWorkload",
)
SIZE_MAX_BYTES = 1_000_000
DEPTH_MAX = 100
_TYPE = re.compile(rb"^type:\s*[\"']?([\w.]+)", re.MULTILINE)
ODD_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses anchors, keys given twice (the plain one keeps the last silently), and numbers that
    YAML 1.1 reads otherwise than people do."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise yaml.constructor.ConstructorError(
                None, None, f"is nested more than {DEPTH_MAX} deep", event.start_mark
            )
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.constructor.ConstructorError(None, None, "anchors are not allowed", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.style is None and ODD_NUMBER.fullmatch(node.value):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"YAML reads {node.value} as another number (in base 8 or 60): write it in base 10, or quote it",
                node.start_mark,
            )
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):  # as of `!!int x`, or 2026-02-30
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"this is no {kind}, as YAML takes it: quote it to mean the text", node.start_mark
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, 'quote text that begins with a brace, as in prompt: "{{ text }}"', key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} given twice (first in line {seen[key]})", key_node.start_mark
                )
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def read_workload(path: Path) -> Workload:
    """Read and check one workload file; `path` may be the file or the folder that holds defs.yaml.

    Raises:
        WorkloadInvalid, PromptInvalid: with file, line where known, what is wrong and what would be right.
    """
    path = path / "defs.yaml" if path.is_dir() else path
    document = read_document(path)
    known = {"type", "attributes", "requirements", "post_processing", "template_vars_module"}
    unknown = [name for name in document if name not in known]
    if unknown:
        raise WorkloadInvalid(
            f"unknown top-level key {quoted_value(unknown[0])}; a workload's fields stand under attributes:",
            place=str(path),
        )
    if document.get("type") not in TYPES:
        raise WorkloadInvalid(
            f"type: must be {COMPONENT_TYPE}, got {quoted_value(document.get('type'))}", place=str(path)
        )
    attributes = document.get("attributes")
    if not isinstance(attributes, dict):
        raise WorkloadInvalid("attributes: is missing; it holds the workload's fields", place=str(path))
    workload = Workload.from_attributes(attributes, source=path)
    check_template(workload.template(), place=workload.template_place)
    return workload


def is_workload(path: Path) -> bool:
    """Whether a defs.yaml is one of ours, or was meant to be: all but those of another component's type.

    One that is empty, cannot be read or says no type is ours: who reads it says what is wrong.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError:
        return True
    named = _TYPE.search(data)
    return named is None or bool(difflib.get_close_matches(named[1].decode(), TYPES, n=1, cutoff=0.8))


def read_document(path: Path) -> dict[str, Any]:
    """The YAML mapping of a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkloadInvalid(f"cannot read it ({error.strerror})", place=str(path)) from None
    if len(data) > SIZE_MAX_BYTES:
        raise WorkloadInvalid(
            f"is {len(data):,} bytes; a workload file has at most {SIZE_MAX_BYTES:,}", place=str(path)
        )
    try:
        document = yaml.load(data.decode("utf-8"), Loader=_StrictLoader)
    except UnicodeDecodeError:
        raise WorkloadInvalid("is not UTF-8; convert it", place=str(path)) from None
    except RecursionError:
        raise WorkloadInvalid("is nested too deeply; write it flatter", place=str(path)) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        tab = " (YAML wants spaces, not tabs, for indentation)" if "'\\t'" in str(error.problem) else ""
        quote = " (quote the text, or begin it with |)" if "mapping values" in str(error.problem) else ""
        raise WorkloadInvalid(f"{error.problem}{tab}{quote}", place=f"{path} line {line}") from None
    except yaml.YAMLError as error:
        raise WorkloadInvalid(f"is no YAML: {str(error).splitlines()[0]}", place=str(path)) from None
    if not isinstance(document, dict):
        raise WorkloadInvalid(
            f"is no workload: a workload is a YAML mapping with type: {COMPONENT_TYPE} and attributes:", place=str(path)
        )
    return document
