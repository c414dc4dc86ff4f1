"""Workload files and environments that are not what they should be: cases C01 to C28 of the catalogue, and further ones.

Where the product does otherwise than the catalogue asks:

C04  http to another machine is refused; a real key may go to a server on this machine, where proxies listen.
C12  no budget is no wall: `plan` says what a run would cost, so a missing budget is accepted.
C13  a chunk that would pass the wall is held; a run of several chunks spends what the wall allows and never more.
C14  `con` is a name like any other where the product runs.
C23  the key of another workspace is refused: `integration/test_reconcile.py`.
C24  a clock that is off is told by `doctor`, not by each run: `integration/test_doctor.py`.
C25  two submitters on one ledger: `integration/test_submit_protocol.py`, `integration/test_ledger_lock.py`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline_tests.bad_input.ground import CANARY, KEY, Ground, Refusal, good_rows

IDS = [f"C{number:02}" for number in range(1, 29)]
NOT_BUILT = {
    "C27": "how much a run needs is known once it is rendered: `doctor` judges the disk, and a full one loses nothing (G02)",
}
ELSEWHERE = {"C23", "C24", "C25"}
MADE: set[str] = set()
FILE = r"notes\.yaml"
SECRET = "sk-ant-api03-" + "Ab1-_" * 8


def case(ident: str, *values: Any) -> Any:
    MADE.add(ident[:3])
    return pytest.param(*values, id=ident)


def schema(**words: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"ok": words}, "required": ["ok"]}


FIELDS: list[Any] = [
    case("C03", {"api_key": SECRET}, Refusal(FILE, "unknown field api_key", "read from ANTHROPIC_API_KEY only")),
    case("C03-in-params", {"params": {"api_key": SECRET}}, Refusal(FILE, "params.api_key: holds an API key", "take it out")),
    case("C03-in-system", {"system": f"use {SECRET}"}, Refusal(FILE, "system: holds an API key", "take it out, and revoke")),
    case("C03-in-model", {"model": SECRET}, Refusal(FILE, "model: holds an API key", "take it out, and revoke")),
    case("C05", {"chunk_sise": 5}, Refusal(FILE, "unknown field chunk_sise", r"did you mean chunk\?")),
    case("C05-inner", {"chunk": {"request": 5}}, Refusal(FILE, "unknown field chunk.request", r"did you mean requests\?")),
    *(
        case(f"C06-{name}", {"chunk": {"requests": value}}, Refusal(FILE, rf"chunk\.requests: .*got {value!r}", words))
        for name, value, words in (
            ("zero", 0, "greater than or equal to 1"),
            ("negative", -1, "greater than or equal to 1"),
            ("over", 100_001, "less than or equal to 100000"),
            ("fraction", 1.5, "valid integer"),
            ("words", "10k", "valid integer"),
            ("truth", True, "valid integer"),
        )
    ),
    case("C07-zero", {"max_tokens": 0}, Refusal(FILE, "max_tokens: .*got 0", "greater than or equal to 1")),
    case("C07-negative", {"max_tokens": -5}, Refusal(FILE, "max_tokens: .*got -5", "greater than or equal to 1")),
    case("C08", {"params": {"stream": True}}, Refusal(FILE, "stream cannot be used: a batch cannot", "leave it out")),
    case("C08-speed", {"params": {"speed": "fast"}}, Refusal(FILE, "speed cannot be used: a batch has no", "leave it out")),
    case("C11", {"params": {"temperature": 0.2}}, Refusal(FILE, "temperature cannot be used: the API", "leave it out")),
    case("C11-nan", {"params": {"temperature": float("nan")}}, Refusal(FILE, "temperature", "leave it out|JSON cannot")),
    *(
        case(f"C12-{name}", {"budget_usd": value}, Refusal(FILE, "budget_usd: ", words))
        for name, value, words in (
            ("zero", 0, "greater than 0"),
            ("negative", -3, "greater than 0"),
            ("words", "10$", "valid number"),
            ("truth", True, "must be a number, got true"),
            ("nan", float("nan"), "finite number"),
            ("infinite", float("inf"), "finite number"),
        )
    ),
    *(
        case(f"C14-{name}", {"name": value}, Refusal(FILE, "name: ", words))
        for name, value, words in (
            ("path", "../../etc", "as in 'support_tickets'"),
            ("slash", "a/b", "as in 'support_tickets'"),
            ("empty", "", "as in 'support_tickets'"),
            ("long", "n" * 200, "as in 'support_tickets'"),
            ("sql", 'x"; DROP TABLE t; --', "as in 'support_tickets'"),
            ("line", "notes\nnotes", "as in 'support_tickets'"),
            ("dot", "..", "as in 'support_tickets'"),
            ("own", "ops", "choose another"),
            ("catalog", "system", "choose another"),
        )
    ),
    case("C28", {"schedule": "61 2 * * *"}, Refusal(FILE, "schedule: '61 2 .* is no cron line", r"as in '0 2 \* \* \*'")),
    case("C28-day", {"schedule": "0 0 30 2 *"}, Refusal(FILE, "schedule: '0 0 30 2 .* is no cron", r"as in '0 2 \* \* \*'")),
    case("C28-alias", {"schedule": "@hourly"}, Refusal(FILE, "schedule: '@hourly' is no cron", r"as in '0 2 \* \* \*'")),
    # Not in the catalogue.
    case("C29-bare-yes", {"output": schema(type="string", enum=[True, False])},
         Refusal(FILE, "output: has the value true where only string may stand", "quote it")),
    case("C29-const", {"output": schema(type="integer", const="1")},
         Refusal(FILE, 'output: has the value "1" where only integer may stand', "quote it")),
    case("C30-truth", {"max_reject_ratio": True}, Refusal(FILE, "max_reject_ratio: must be a number", "got true")),
    case("C30-nan", {"max_reject_ratio": float("nan")}, Refusal(FILE, "max_reject_ratio: ", "finite number")),
    case("C31-for-ever", {"deadline_hours": float("inf")}, Refusal(FILE, "deadline_hours: ", "finite number")),
    case("C31-eons", {"deadline_hours": 1e300}, Refusal(FILE, "deadline_hours: ", "less than or equal to 8784")),
    case("C32", {"start_date": "0001-01-01"}, Refusal(FILE, "start_date: ", "greater than or equal to 2000-01-01|2000")),
    case("C33-stop", {"params": {"stop_sequences": [False]}}, Refusal(FILE, "stop_sequences takes texts", "quote each")),
    case("C33-blank", {"params": {"stop_sequences": [" "]}}, Refusal(FILE, "stop_sequences takes texts", "not blank")),
    case("C33-metadata", {"params": {"metadata": {"job": "x"}}}, Refusal(FILE, "metadata takes user_id alone", "as in")),
    case("C33-tier", {"params": {"service_tier": "fast"}}, Refusal(FILE, "service_tier must be", "auto or standard_only")),
    case("C33-thinking", {"params": {"thinking": {"budget": 5}}}, Refusal(FILE, "thinking has a type", "as in")),
    case("C33-tools", {"params": {"tools": [1]}}, Refusal(FILE, "tools takes mappings", "as in")),
    case("C34-nul", {"system": "a\0b"}, Refusal(FILE, "system: holds a NUL", "take it out")),
    case("C34-half", {"system": "a\ud800b"}, Refusal(FILE, "system: holds .* surrogate", "take it out")),
    case("C34-digits", {"params": {"metadata": {"user_id": 10**30}}}, Refusal(FILE, "user_id|63 bits", "quote it|as in")),
    case("C35-zone", {"timezone": "../../etc/passwd"}, Refusal(FILE, "timezone: .* is no time zone", "Europe/Berlin")),
    case("C36-owners", {"owners": "a@b.c"}, Refusal(FILE, "owners: must be a list", "as in")),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "refusal"), FIELDS)
def test_a_field_that_cannot_be_is_refused_when_the_file_is_read(
    ground: Ground, fields: dict[str, Any], refusal: Refusal
) -> None:
    said = ground.run(ground.workload(**fields))
    assert SECRET not in said.err
    ground.refused(said, refusal)


HEAD = "type: claude_pipeline.ClaudeWorkload\nattributes:\n"
BODY = f"{HEAD}  name: notes\n  dataset: {{path: notes.jsonl}}\n  model: claude-haiku-5-5\n  prompt: 'Sort: {{{{ text }}}}'\n"

TEXTS: list[Any] = [
    case("C16", BODY + "  system: !!python/object/apply:os.system ['id']\n", Refusal(f"{FILE} line 7", "constructor", "tag")),
    case("C17", BODY + "  model: other\n", Refusal(f"{FILE} line 7", "key 'model' given twice", r"first in line 5")),
    case("C18-no", BODY.replace("notes\n", "no\n", 1), Refusal(FILE, "name: .*got False", "quote it")),
    case("C18-octal", BODY + "  max_tokens: 010\n", Refusal(f"{FILE} line 7", "reads 010 as another number", "quote it")),
    case("C18-sixty", BODY + "  deadline_hours: 12:30:45\n", Refusal(f"{FILE} line 7", "reads 12:30:45 as", "quote it")),
    case("C18-date", BODY + "  labels: 2026-01-01\n", Refusal(FILE, "labels: .*valid string", "quote it")),
    case("C18-day", BODY + "  start_date: 2026-13-45\n", Refusal(FILE, "this is no timestamp", "quote it")),
    case("C19", BODY + "  params: &a {}\n", Refusal(f"{FILE} line 7", "anchors are not allowed", "not allowed")),
    case("C19-size", BODY + "#" * 1_000_001, Refusal(FILE, "is 1,000,.* bytes", "at most 1,000,000")),
    case("C19-deep", BODY + "  output: " + "[" * 3000, Refusal(f"{FILE} line 7", "nested", "more than 100 deep")),
    case("C20-tab", BODY + "\tmax_tokens: 5\n", Refusal(f"{FILE} line 7", "tabs", "YAML wants spaces")),
    case("C20-list", "- a\n", Refusal(FILE, "is no workload", "a YAML mapping with type:")),
    case("C20-empty", "", Refusal(FILE, "is no workload", "a YAML mapping with type:")),
    case("C20-text", "hello", Refusal(FILE, "is no workload", "a YAML mapping with type:")),
    case("C37-brace", BODY.replace("'Sort: {{ text }}'", "{{ text }}"), Refusal(f"{FILE} line 6", "brace", "quote text")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "refusal"), TEXTS)
def test_a_text_that_is_no_workload_is_refused_with_its_line(ground: Ground, text: str, refusal: Refusal) -> None:
    ground.refused(ground.run(ground.yaml(text)), refusal)


CATALOG = "models:\n  claude-new-1: {context_tokens: 200000, max_output_tokens: 64000, pool: haiku, source: x, read: 2026-11-01}\n"

BEFORE_ASKING: list[Any] = [
    case("C07-over", {"max_tokens": 128_001}, Refusal(FILE, "max_tokens: 128,001 is over what claude-haiku", "at most")),
    case("C09", {"model": "claude-haiku-9"}, Refusal("model 'claude-haiku-9'", "is not in the catalogue", "did you mean")),
    case("C09-retired", {"model": "claude-opus-4-20250514"}, Refusal(FILE, "model: .*retired", "use|instead")),
    case("C10", {"model": "claude-mythos-5-1"}, Refusal("claude-mythos-5-1", "has no price", "add it to .* under prices")),
    case("C13", {"budget_usd": 0.000001}, Refusal("notes: 1 chunk", "held by the budget: would pass budget_usd", "raise budget_usd", 3)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "refusal"), BEFORE_ASKING)
def test_what_cannot_be_asked_or_paid_is_refused_before_it_is(
    ground: Ground, fields: dict[str, Any], refusal: Refusal
) -> None:
    ground.rows("notes.jsonl", good_rows(2))
    ground.refused(ground.run(ground.workload(**fields)), refusal)


ENVIRONMENTS: list[Any] = [
    case("C01", {"ANTHROPIC_API_KEY": None}, Refusal("ANTHROPIC_API_KEY", "is not set", "export it, or start", 3)),
    case("C01-empty", {"ANTHROPIC_API_KEY": ""}, Refusal("ANTHROPIC_API_KEY", "is not set", "export it, or start", 3)),
    case("C02", {"ANTHROPIC_API_KEY": KEY + "\n"}, Refusal("ANTHROPIC_API_KEY", r"white space .*length \d+", "set it without")),
    case("C02-inside", {"ANTHROPIC_API_KEY": f"{KEY[:5]} {KEY[5:]}"}, Refusal("ANTHROPIC_API_KEY", "white space", "without")),
    case("C02-quotes", {"ANTHROPIC_API_KEY": f"“{KEY}”"}, Refusal("ANTHROPIC_API_KEY", "other than ASCII", "set it without")),
    case("C04", {"ANTHROPIC_BASE_URL": "http://10.0.0.5"}, Refusal("ANTHROPIC_BASE_URL", "travel in clear", "use https://")),
    case("C04-scheme", {"ANTHROPIC_BASE_URL": "ftp://x"}, Refusal("ANTHROPIC_BASE_URL", "must start with", "https://")),
    case("C21", {"DAGSTER_HOME": "/proc/none/dagster"}, Refusal("/proc/none", "No such file", "name another place|mend")),
    case("C38-tier", {"CLAUDE_PIPELINE_TIER": "gigantic"}, Refusal("tier 'gigantic'", "is not in the catalogue", "known|did you")),
    case("C38-budget", {"CLAUDE_PIPELINE_BUDGET_USD": "nan"}, Refusal("CLAUDE_PIPELINE_BUDGET_USD", "finite", "must be")),
    case("C38-catalog", {"CLAUDE_PIPELINE_CATALOG": "/none.yaml"}, Refusal("/none.yaml", "", "CLAUDE_PIPELINE_CATALOG|read")),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "refusal"), ENVIRONMENTS)
def test_an_environment_that_cannot_work_is_refused_before_anything_is_sent(
    ground: Ground, variables: dict[str, str | None], refusal: Refusal
) -> None:
    ground.rows("notes.jsonl", good_rows(2))
    ground.env(**variables)
    said = ground.run(ground.workload())
    ground.env(ANTHROPIC_BASE_URL=ground.simulator.base_url)
    ground.refused(said, refusal)


PLACES: list[Any] = [
    case("C39-partition", ("run", "FILE", "--partition", "../../etc"), Refusal("notes", "has no partition '../../etc'", "there are")),
    case("C39-plan", ("plan", "FILE", "--partition", "2026-11-26/x"), Refusal("notes", "has no partition", "there are")),
    case("C39-report", ("report", "FILE", "--snapshot", "../../etc"), Refusal("notes", "snapshot", "none|there|known|run")),
    case("C39-retry", ("retry", "FILE", "--snapshot", "../../etc"), Refusal("notes", "snapshot", "none|there|known|run")),
    case("C39-cancel", ("cancel", "FILE", "../../etc"), Refusal("notes", "snapshot", "none|there|known|run")),
]  # fmt: skip


@pytest.mark.parametrize(("words", "refusal"), PLACES)
def test_a_name_that_would_be_a_path_is_refused(ground: Ground, words: tuple[str, ...], refusal: Refusal) -> None:
    ground.rows("notes.jsonl", good_rows(1))
    file = ground.workload()
    ground.refused(ground.line(*(file if word == "FILE" else word for word in words)), refusal)


@pytest.mark.parametrize("ident", [case("C15", "C15")])
def test_two_workloads_of_one_name_clash(ground: Ground, ident: str) -> None:
    first, second = ground.workload("defs/a/defs.yaml"), ground.workload("defs/B/defs.yaml", name="Notes")
    third = ground.workload("defs/c/defs.yaml")
    ground.env(CLAUDE_PIPELINE_DEFS=str(ground.folder / "defs"))
    ground.refused(ground.run("notes"), Refusal(f"{third}: ", f"'notes' is taken by .*{first}", "choose another"))
    ground.refused(ground.run("B"), Refusal(f"{second}: ", "name: 'Notes' must match", "as in 'support_tickets'"))


@pytest.mark.parametrize("ident", [case("C22", "C22")])
def test_a_ledger_of_a_newer_version_is_refused(ground: Ground, ident: str) -> None:
    with sqlite3.connect(ground.home.ledger) as ledger:
        ledger.execute("UPDATE setting SET value = '99' WHERE key = 'schema_version'")
    ledger.close()
    ground.rows("notes.jsonl", good_rows(1))
    said = ground.run(ground.workload())
    ground.refused(
        said, Refusal("the ledger", r"has schema 99, this version of claude_pipeline knows \d+", "upgrade", said.code)
    )
    assert said.code != 0


@pytest.mark.parametrize("ident", [case("C26", "C26")])
def test_the_clients_debug_log_holds_no_prompt_and_no_key(
    ground: Ground, ident: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    ground.env(ANTHROPIC_LOG="debug")
    ground.rows("notes.jsonl", good_rows(2))
    with caplog.at_level("DEBUG", logger="anthropic"):
        ground.accepted(ground.run(ground.workload()), delivered=2)
    assert CANARY not in caplog.text
    assert KEY not in caplog.text


def test_every_case_of_the_catalogue_is_here() -> None:
    assert sorted((MADE | NOT_BUILT.keys() | ELSEWHERE) & set(IDS)) == IDS
