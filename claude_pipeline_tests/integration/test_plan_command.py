"""`plan` and `catalog` as a person meets them, and the plan beside the asset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from claude_pipeline.catalog import load
from claude_pipeline.home import Home
from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file


def test_a_plan_reads_like_an_offer(quick: Simulator, line: CommandLine, tmp_path: Path) -> None:
    said = line("plan", str(workload_file(tmp_path, records=40)))

    assert (said.code, said.err) == (0, "")
    for words in ("requests to send", "40 in 4 chunks", "count_tokens on a sample", "1 h a batch is assumed", "tier build instead",
                  "Alternatives", "claude-haiku-5-5 *", "claude-sonnet-5-5", "Send it in the batch lane",
                  "batch (lane: auto): half the price, and in time: about 1 h, 24 h left"):  # fmt: skip
        assert words in said.out
    assert quick.invoice()["accepted_requests"] == 0


LANES: list[Any] = [
    pytest.param({}, "batch", "half the price, and in time", id="auto"),
    pytest.param({"deadline_hours": 0.5}, "realtime", "a batch (1 h) misses the deadline (30 min left)", id="auto-and-late"),
    pytest.param({"deadline_hours": 0.5, "lane": "batch"}, "batch", "lane: batch asks for it", id="batch"),
    pytest.param({"lane": "realtime"}, "realtime", "lane: realtime asks for it", id="real-time"),
    pytest.param({"deadline_hours": 0.5, "budget_usd": 0.0005}, "batch", "but real time would pass budget_usd", id="budget"),
    pytest.param({"deadline_hours": 0.5, "max_tokens": 30_000}, "batch", "its max_tokens is too much", id="long-answers"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "lane", "why"), LANES)
def test_a_plan_says_which_lane_would_be_used_and_why(
    changes: dict[str, Any], lane: str, why: str, quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    found = json.loads(line("plan", str(workload_file(tmp_path, **changes)), "--json", "--offline").out)
    assert (found["lane"], why in found["lane_why"]) == (lane, True), found["lane_why"]
    assert found["cost_usd"] == found["batch_cost_usd" if lane == "batch" else "realtime_cost_usd"]


@pytest.mark.parametrize("budget_usd", [None, 0.0005])
def test_a_run_uses_the_lane_that_was_planned(
    budget_usd: float | None, quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    file = str(workload_file(tmp_path, deadline_hours=0.5, budget_usd=budget_usd))
    found = json.loads(line("plan", file, "--json", "--offline").out)
    line("run", file, "--poll-seconds", "0.1", "--quiet")
    invoice = quick.invoice()
    used = "realtime" if invoice["messages"]["succeeded"] else "batch"
    assert found["lane"] == used == ("batch" if budget_usd else "realtime")
    assert float(invoice["total_usd"]) <= found["reserve_usd"]


def test_the_worst_case_is_that_of_the_lane(quick: Simulator, line: CommandLine, tmp_path: Path) -> None:
    worst = [
        json.loads(line("plan", str(workload_file(tmp_path, lane=lane)), "--json", "--offline").out)["reserve_usd"]
        for lane in ("batch", "realtime")
    ]
    assert worst[1] == pytest.approx(2 * worst[0])


def test_the_json_of_a_plan_has_the_same_content(quick: Simulator, line: CommandLine, tmp_path: Path) -> None:
    said = line("plan", str(workload_file(tmp_path)), "--json", "--offline", "--tier", "Scale")
    found = json.loads(said.out)
    assert (said.code, found["requests"], found["chunks"], found["tier"], found["deadline"]) == (
        0,
        20,
        2,
        "scale",
        "met",
    )
    assert found["input_tokens"]["method"] == "characters"
    assert found["next_tier"]["name"] == "custom"
    assert {a["tier"] for a in found["alternatives"]} == {"start", "build", "scale"}
    assert quick.invoice()["calls"] == {}


def test_a_plan_needs_no_key(home: Home, line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_PIPELINE_HOME", str(home.root))
    said = line("plan", str(workload_file(tmp_path)))
    assert said.code == 0
    assert "WARNING: token counts could not be had (ANTHROPIC_API_KEY is not set" in said.out


@pytest.mark.parametrize(
    ("changes", "words", "says"),
    [
        pytest.param(
            {"model": "claude-opus-4-0"}, (), "is retired since 2026-06-15; use claude-opus-5-5", id="retired"
        ),
        pytest.param({"model": "claude-hiku-5-5"}, (), "did you mean claude-haiku-5-5", id="unknown-model"),
        pytest.param({"model": "claude-mythos-5-2"}, (), "never guessed", id="no-price"),
        pytest.param({}, ("--tier", "gold"), "tier 'gold' is not in the catalogue", id="unknown-tier"),
    ],
)
def test_what_is_not_known_is_said_before_anything_is_sent(
    changes: dict[str, str], words: tuple[str, ...], says: str, quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    said = line("plan", str(workload_file(tmp_path, **changes)), *words)
    assert (said.code, says in said.last) == (2, True)
    assert quick.invoice()["calls"] == {}


def test_a_deprecated_model_warns_in_plan_run_and_asset(
    quick: Simulator, line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home
) -> None:
    # A model of our own, so that no day of the calendar changes the test.
    own = tmp_path / "catalog.yaml"
    own.write_text(
        "models:\n  claude-haiku-4-5-20251001: {deprecated_at: 2026-01-01, retires_at: 2099-12-31, successor: claude-haiku-5-5}\n"
    )
    monkeypatch.setenv("CLAUDE_PIPELINE_CATALOG", str(own))
    file = str(workload_file(tmp_path, records=5, model="claude-haiku-4-5"))
    sentence = "claude-haiku-4-5-20251001 is deprecated and retires on 2099-12-31, in"

    assert f"WARNING: {sentence}" in line("plan", file, "--offline").out
    ran = line("run", file, "--poll-seconds", "0.1")

    assert ran.code == 0
    assert sentence in ran.err
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        made = instance.get_latest_materialization_event(dg.AssetKey(["notes", "requests"]))
        assert made is not None
        assert made.asset_materialization is not None
        metadata = made.asset_materialization.metadata
        logged = [
            event.user_message
            for event in instance.all_logs(made.run_id)
            if event.level == 30 and sentence in event.user_message
        ]
    assert sentence in str(metadata["warnings"].value)
    assert logged


def test_the_asset_shows_the_plan_and_numbers_that_plot(
    quick: Simulator, line: CommandLine, tmp_path: Path, home: Home
) -> None:
    line("run", str(workload_file(tmp_path)), "--poll-seconds", "0.1", "--quiet")
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        made = instance.get_latest_materialization_event(dg.AssetKey(["notes", "requests"]))
        assert made is not None
        assert made.asset_materialization is not None
        metadata = made.asset_materialization.metadata
    assert isinstance(metadata["plan"], dg.MarkdownMetadataValue)
    assert r"| claude-haiku-5-5 \* | batch |" in str(metadata["plan"].value)
    assert metadata["planned_requests"].value == 20
    assert isinstance(metadata["planned_cost_usd"], dg.FloatMetadataValue)
    assert "count_tokens" not in quick.invoice()["calls"]


# catalog


def test_the_catalog_shows_each_value_with_source_and_day(home: Home, line: CommandLine) -> None:
    said = line("catalog", "--home", str(home.root))
    assert said.code == 0
    for words in (
        "claude-haiku-5-5",
        "over 100,000",
        "tier4",
        "none known",
        "^[a-zA-Z0-9_-]{1,64}$",
        "[1] docs",
        "in the Console",
    ):
        assert words in " ".join(said.out.split())
    facts = json.loads(line("catalog", "--json", "--home", str(home.root)).out)["facts"]
    assert len(facts) == len(list(load().facts()))
    assert all(fact["source"] for fact in facts)


def test_refresh_says_what_differs_and_changes_nothing_by_itself(
    quick: Simulator, line: CommandLine, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "models:\n  claude-haiku-5-5: {context_tokens: 5}\n"
        "tiers:\n  start: {rates: {haiku: {requests_per_minute: 7}, fable: {requests_per_minute: 7}}}\n"
    )
    monkeypatch.setenv("CLAUDE_PIPELINE_CATALOG", str(own))

    said = line("catalog", "--refresh", "--json")

    found = {d["key"]: (d["catalog"], d["api"]) for d in json.loads(said.out)["differences"]}
    assert found["models.claude-haiku-5-5.context_tokens"] == (5, 1_000_000)
    written = yaml.safe_load(home.told_catalog.read_text())
    assert written["models"]["claude-haiku-5-5"]["context_tokens"] == 1_000_000
    assert "prices" not in written
    assert load(own).model("claude-haiku-5-5").context_tokens == 5
    assert load(home.told_catalog).model("claude-haiku-5-5").context_tokens == 1_000_000


def test_refresh_without_an_api_is_one_sentence(home: Home, line: CommandLine) -> None:
    said = line("catalog", "--refresh", "--home", str(home.root))
    assert said.code == 3
    assert "ANTHROPIC_API_KEY is not set" in said.last
