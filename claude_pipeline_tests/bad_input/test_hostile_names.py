"""Texts full of quotes, backticks, pipes, tags and line ends, wherever a user or a row may put a text.

They go through the run, the summary, the report, Dagster's metadata and the copies of the warehouse: as text, in each.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from claude_pipeline.cli.dagster_home import open_instance
from claude_pipeline.markdown import code, plain
from claude_pipeline.sql import identifier
from claude_pipeline_tests.bad_input.ground import CANARY, Ground, Reason

TAG = "<img src=x onerror=alert(1)>"
HOSTILE = f"{TAG}|`\"'; DROP SCHEMA notes; --\n**b** [l](javascript:x) {{{{ 7*7 }}}} \\"
SEEN = f"{CANARY} {HOSTILE}"
COLUMN = f"c {HOSTILE}"
LABEL = f"l {HOSTILE}"
PROPERTY = f"p {HOSTILE}"
NEITHER = f"neither \x1b[31m\u202e{HOSTILE}"  # what a terminal would obey
VALUES = [f"v {HOSTILE}", f"w {HOSTILE}"]
FILE = "d [x]'\"`|<b>.jsonl"


@pytest.fixture(scope="module")
def delivered(standing: Ground) -> Ground:
    """A workload of hostile names was run: one record is rejected, two are answered, one of them wrongly at least."""
    ground = standing
    ground.rows(FILE, [
        {"id": f"1 {HOSTILE}", "text": SEEN, COLUMN: SEEN, LABEL: NEITHER},
        {"id": f"2 {HOSTILE}", "text": f"{SEEN} 2", COLUMN: SEEN, LABEL: VALUES[0]},
        {"id": f"3 {HOSTILE}", "text": None, COLUMN: SEEN, LABEL: VALUES[0]},
    ])  # fmt: skip
    output = {"type": "object", "properties": {PROPERTY: {"type": "string", "enum": VALUES}}, "required": [PROPERTY]}
    said = ground.run(
        ground.workload(
            dataset={"path": FILE, "id": "id"},
            system=HOSTILE.replace("{{", "{ {"),
            prompt="| `{{ text }}` <b>",
            output=output,
            labels=LABEL,
            max_reject_ratio=0.5,
        )
    )
    assert "neither" in said.out
    assert not {"\x1b", "\u202e"} & set(said.out + said.err)
    place = re.escape(f"{FILE}, line 3: column text is null")
    ground.quarantined(said, delivered=2, rejected={f"3 {HOSTILE}": Reason("missing_text", place, "line 3")})
    return ground


def test_hostile_names_are_text_in_the_warehouse_and_its_copies(delivered: Ground, tmp_path: Path) -> None:
    assert delivered.line("publish", "--to", str(tmp_path / "copy '`\".duckdb")).code == 0
    assert delivered.line("publish", "--to", f"{tmp_path}/copy '`\"/").code == 0

    query = f"SELECT record_id, text, {identifier(COLUMN)}, {identifier(LABEL)} FROM TABLE_HERE WHERE text = ?"
    expected = [(f"1 {HOSTILE}", SEEN, SEEN, NEITHER)]
    with duckdb.connect(str(tmp_path / "copy '`\".duckdb"), read_only=True) as duck:
        assert duck.execute(query.replace("TABLE_HERE", "notes.latest"), [SEEN]).fetchall() == expected
        answered = duck.execute(f"SELECT DISTINCT {identifier(PROPERTY)} FROM notes.latest WHERE outcome = 'succeeded'")
        assert {value for (value,) in answered.fetchall()} <= set(VALUES)
        parquet = f"read_parquet('{str(tmp_path).replace(chr(39), chr(39) * 2)}/copy ''`\"/notes/latest.parquet')"
        assert duck.execute(query.replace("TABLE_HERE", parquet), [SEEN]).fetchall() == expected
    delivered.unchanged()


class _Page(HTMLParser):
    """The tags of a page, and what a browser would show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_text_in_the_report(delivered: Ground) -> None:
    assert delivered.line("report", "notes.yaml").code == 0
    for file in delivered.home.root.glob("reports/notes/*.html"):
        page = _Page()
        page.feed(file.read_text(encoding="utf-8"))
        assert not page.handlers
        assert not page.tags & {"img", "script", "iframe", "object", "a"} - {"a"}
        assert "javascript:" not in re.findall(r'href="([^"]*)"', file.read_text(encoding="utf-8"))
    snapshot = next(p for p in delivered.home.root.glob("reports/notes/*.html") if p.name != "index.html")
    page = _Page()
    page.feed(snapshot.read_text(encoding="utf-8"))
    for shown in (SEEN, PROPERTY, LABEL, VALUES[0], f"3 {HOSTILE}", f"{FILE}, line 3: column text is null"):
        assert shown in page.text, shown


def test_hostile_names_are_text_in_dagsters_markdown(delivered: Ground) -> None:
    """A table keeps its rows and columns, and no tag of a row's reaches the page."""
    texts = []
    with open_instance(delivered.home) as instance:
        for asset in ("requests", "merged", "summary"):
            event = instance.get_latest_materialization_event(dg.AssetKey(["notes", asset]))
            assert event is not None
            materialization = event.asset_materialization
            assert materialization is not None
            found = materialization.metadata.values()
            texts += [value.value for value in found if isinstance(value, dg.MarkdownMetadataValue)]
    summary = next(text for text in texts if "dead letters" in text)
    assert plain(NEITHER) in summary
    for text in texts:
        without_pictures = re.sub(r"!\[[^\]]*\]\(data:[^)]*\)|<svg.*?</svg>", "", text or "", flags=re.DOTALL)
        assert TAG not in without_pictures
        for table in re.findall(r"(?:^\|.*\n?)+", without_pictures, flags=re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain words, 12 %: a_b (c) 'd'", "plain words, 12 %: a_b (c) 'd'", id="plain"),
        pytest.param("a|b\nc", r"a\|b c", id="table"),
        pytest.param("<b>&amp;", "&lt;b&gt;&amp;amp;", id="tags"),
        pytest.param("**b** _i_ `c` ~s~ # h", r"\*\*b\*\* \_i\_ \`c\` \~s\~ \# h", id="marks"),
        pytest.param(r"\[l](u)", r"\\\[l\](u)", id="links"),
        pytest.param("a\u202eb\x1bc", r"a\\u202eb\\x1bc", id="unseen"),
    ],
)
def test_markdown_shows_foreign_text_as_it_is(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"), [("a|b", "`a|b`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("a\nb", "`a b`")]
)
def test_code_holds_backticks(text: str, shown: str) -> None:
    assert code(text) == shown
