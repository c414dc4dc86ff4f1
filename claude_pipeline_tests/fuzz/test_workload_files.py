"""Any file as a workload: one that can be run, or a sentence of ours; never a stack trace."""

from __future__ import annotations

import json
import tempfile
import warnings
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from claude_pipeline.cadence import longest_gap
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.request import RequestMaker
from claude_pipeline.result import OutputReader, output_fields
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import COMPONENT_TYPE, read_workload
from claude_pipeline.workload_folder import load_workloads
from claude_pipeline_tests.factory import attributes
from claude_pipeline_tests.fuzz.claim import claim
from claude_pipeline_tests.fuzz.value import FLOATS, JSON, SCALARS, TEXTS, WIDE, deep, spoiled

MESSAGE_CHARACTERS_MAX = 3_000
VALID = yaml.safe_dump({"type": COMPONENT_TYPE, "attributes": attributes(
    output={"type": "object", "properties": {"a": {"type": "string"}}}, schedule="0 2 * * *", budget_usd=5, timezone="Europe/Berlin",
)}).encode()  # fmt: skip
DEEP = deep((20, 520))
FIELDS = (*Workload.model_fields, "samples", "chunk_size", "api_key", 5, None, True)

_ODD = st.one_of(
    SCALARS, WIDE, FLOATS, JSON, st.text(min_size=1, max_size=3),
    st.sampled_from([float("inf"), float("-inf"), float("nan"), date(2026, 1, 1), b"x", "x" * 5_000, "\n", "{{ text }}", "{% if"]),
    st.sampled_from(["0 2 * * *", "* * 31 2 *", "9999999999 * * * *", "*/0 * * * *", "² * * * *", "@daily", "1-2-3 * * * *", "L L L L L"]),
    st.sampled_from(["UTC", "Europe", "America", "../UTC", "/etc/localtime", "a\0b", "z" * 300, "posix/UTC", ".", "right", "é"]),
    st.sampled_from(["~nobody-7/p", "a\0b", "p" * 300, "/", ".", "*.txt", "**x", "/dev/null/x"]),
    st.sampled_from([["a@b.c"], ["team:x"], [[]], [{}], [{"when": "x", "model": "m"}, {"model": "n"}], ["m", "n"], [{"model": 5}]]),
    st.dictionaries(st.sampled_from(["path", "sql", "id", "requests", "bytes", "days", "tools", "tool_choice", "output_config", "type", "properties"]), SCALARS | JSON, max_size=3),
)  # fmt: skip


@st.composite
def _changed(draw: st.DrawFn) -> bytes:
    """A workload with a few fields of any value."""
    document: dict[Any, Any] = {"type": COMPONENT_TYPE, "attributes": dict(attributes())}
    for name in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        document["attributes"][name] = draw(_ODD)
    if draw(st.integers(0, 9)) == 0:
        document[draw(st.sampled_from(["type", "attributes", 5, None, "requirements", (1, 2)]))] = draw(_ODD)
    return yaml.dump(document, allow_unicode=True, Dumper=_Plain).encode()


class _Plain(yaml.SafeDumper):
    """Without anchors, which are refused before anything is looked at."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_TAGS = st.sampled_from(["!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!null", "!!set", "!!omap", "!!pairs", "!!seq", "!!map", "!!str", "!x", "!!python/name:os.system", "!!merge"])  # fmt: skip
_PLAIN = st.sampled_from(["", "''", "x", "2026-99-99", "2026-01-01T99:99:99Z", "1:99", "0x", "0b2", "08", "_", "=", "<<", "~", "[]", "{}", "{a}", "1e999", "9" * 5_000, "190:20:30", ".inf", "&a x", "*a", "? x", "- x", "@", "`", "%", "|", ">", "\t"])  # fmt: skip


@st.composite
def _written(draw: st.DrawFn) -> bytes:
    """A workload as somebody might type it: tags, plain scalars that YAML reads otherwise, nests without end."""
    name = draw(
        st.sampled_from(
            [
                "name",
                "model",
                "max_tokens",
                "budget_usd",
                "params",
                "output",
                "dataset",
                "owners",
                "<<",
                "? x",
                "!!int y",
                "5",
            ]
        )
    )
    value = draw(st.one_of(st.builds("{} {}".format, _TAGS, _PLAIN), _PLAIN, DEEP, TEXTS))
    lines = [
        "type: claude_pipeline.ClaudeWorkload",
        "attributes:",
        *(f"  {key}: {json.dumps(value)}" for key, value in attributes().items() if key != name),
    ]
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(["", "  ", "\t", "    "])) + f"{name}: {value}")
    return "\n".join(lines).encode("utf-8", "replace")


DOCUMENTS = st.one_of(_changed(), _changed(), _written(), spoiled(VALID, (b"\t", b": ", b"- ", b"{", b"!!", b"&a ", b"*a", b"\xff", b"\x00", b"#", b"'")), st.binary(max_size=40), DEEP.map(str.encode))  # fmt: skip


@claim(120, document=DOCUMENTS)
def test_any_document_is_a_workload_or_a_sentence(document: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "notes" / "defs.yaml"
        path.parent.mkdir()
        path.write_bytes(document)
        try:
            workload = read_workload(path)
        except ClaudePipelineError as refused:
            said = str(refused)
            assert "\n" not in said
            assert len(said) <= MESSAGE_CHARACTERS_MAX, len(said)
        else:
            check_usable(workload)
        # Whatever it is, it takes no other workload down.
        other = Path(name) / "other" / "defs.yaml"
        other.parent.mkdir()
        other.write_bytes(yaml.safe_dump({"type": COMPONENT_TYPE, "attributes": attributes(name="other")}).encode())
        assert "other" in {found.name for found in load_workloads([Path(name)]).workloads}


def check_usable(workload: Workload) -> None:
    """What the first steps after loading make of it: done, or a sentence again."""
    assert workload.cadence
    if workload.schedule is not None:
        assert longest_gap(workload.schedule).total_seconds() > 0
    assert timedelta(hours=workload.deadline_hours)
    try:
        OutputReader(workload.output, output_fields(workload))
        RequestMaker.of(workload, ["id", "text"])
        workload.find(workload.dataset.path or ".")
    except ClaudePipelineError as refused:
        assert "\n" not in str(refused)


@claim(30, document=_changed())
def test_any_workload_becomes_assets_or_a_sentence(document: bytes) -> None:
    from claude_pipeline.components.compose import compose  # Dagster takes seconds to import

    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(name) / "defs.yaml"
        path.write_bytes(document)
        try:
            definitions = compose([read_workload(path)])
        except ClaudePipelineError as refused:
            assert "\n" not in str(refused)
        else:
            assert definitions.assets
