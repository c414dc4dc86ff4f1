"""Names, lifecycles, tiers and limits; every value with its source; a user's file on top."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS
from anthropic.types.model_param import ModelParam

from claude_pipeline import workload
from claude_pipeline.catalog import Catalog, Usage, load
from claude_pipeline.errors import CatalogMissing, SettingInvalid

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    return tmp_path / "prices of our contract.yaml"


def test_every_value_has_a_source_and_the_day_it_was_read(catalog: Catalog) -> None:
    facts = list(catalog.facts())
    assert len(facts) > 400
    assert [fact.key for fact in facts if not fact.source or fact.read is None] == []


def test_every_name_called_assumed_is_a_value(catalog: Catalog) -> None:
    keys = {fact.key.split(".", 2)[2] for fact in catalog.facts()}
    named = {name for model in catalog.models for name in model.assumed}
    named |= {name for tier in catalog.tiers for name in tier.assumed}
    assert {name for name in named if not any(key == name or key.startswith(f"{name}.") for key in keys)} == set()


def test_each_model_that_the_sdk_names_is_known(catalog: Catalog) -> None:
    literal, _ = ModelParam.__args__  # type: ignore[attr-defined]
    assert [name for name in literal.__args__ if not catalog.model(name)] == []


def test_retirement_days_are_those_of_the_sdk(catalog: Catalog) -> None:
    ours = {name: m.retires_at for m in catalog.models for name in (m.id, *m.aliases) if m.retires_at}
    day = {name: DEPRECATED_MODELS[name].replace("th,", ",") for name in ours}
    assert {name: datetime.strptime(day[name], "%B %d, %Y").date() for name in ours} == ours  # noqa: DTZ007


@pytest.mark.parametrize(
    ("name", "day", "stage"),
    [
        ("claude-haiku-5-5", date(2026, 11, 22), "active"),
        ("claude-sonnet-4-5", date(2026, 11, 29), "deprecated"),
        ("claude-sonnet-4-5", date(2026, 11, 30), "retired"),
        ("claude-opus-4-0", date(2026, 11, 22), "retired"),
    ],
)
def test_a_model_ages(catalog: Catalog, name: str, day: date, stage: str) -> None:
    assert catalog.model(name).lifecycle(day) == stage


def test_an_unknown_model_is_answered_with_the_nearest_and_the_way_out(catalog: Catalog) -> None:
    with pytest.raises(CatalogMissing, match=r"claude-haiku-5.*did you mean claude-haiku-5-5.*models: and prices:"):
        catalog.model("claude-haiku-5")


@pytest.mark.parametrize("written", ["tier1", "Tier 1", "tier-1", "1"])
def test_a_tier_is_found_however_it_is_spelt(catalog: Catalog, written: str) -> None:
    assert catalog.tier(written).name == "tier1"


def test_an_unknown_tier_is_answered_with_the_known_ones(catalog: Catalog) -> None:
    with pytest.raises(CatalogMissing, match="start, build, scale, custom, evaluation, tier1"):
        catalog.tier("platinum")


def test_a_tier_gives_each_model_its_rates(catalog: Catalog) -> None:
    start = catalog.tier("start")
    sonnet, fable = start.rate(catalog.model("claude-sonnet-5-5")), start.rate(catalog.model("claude-fable-5-2"))
    assert sonnet is not None
    assert fable is not None
    assert (sonnet.requests_per_minute, sonnet.input_tokens_per_minute) == (1_000, 2_000_000)
    assert (fable.input_tokens_per_minute, fable.output_tokens_per_minute) == (500_000, 100_000)
    assert start.rate(catalog.model("claude-mythos-5")) is None
    assert (start.batch.requests_per_minute, start.batch.queued_requests) == (1_000, 200_000)


def test_the_workload_checks_the_same_limits(catalog: Catalog) -> None:
    assert catalog.limits.requests_per_batch == workload.REQUESTS_PER_BATCH_MAX
    assert catalog.limits.bytes_per_batch == workload.BYTES_PER_BATCH_MAX


def test_importing_reads_no_yaml() -> None:
    code = "import sys, claude_pipeline.catalog; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_catalogue_is_read_once() -> None:
    assert load() is load()


def test_an_own_file_adds_a_model_with_its_price(own_file: Path) -> None:
    own_file.write_text(
        """
models:
  claude-nova-9: {line: opus, aliases: [nova], context_tokens: 500_000}
prices:
  nova:
    - from: 2026-11-01
      usd_per_mtok: {input: 1.5, cache_write_5m: 2, cache_write_1h: 3, cache_read: 0.1, output: 7.5}
"""
    )
    catalog = load(own_file)
    assert catalog.model("nova").id == "claude-nova-9"
    assert catalog.price("nova", NOW).cost_units(Usage(10, 1), lane="realtime") == 10 * 15_000 + 75_000


def test_an_own_file_overrides_single_values_and_keeps_the_rest(own_file: Path) -> None:
    own_file.write_text(
        """
prices:
  claude-haiku-4-5:
    - {from: 2026-11-20, usd_per_mtok: {input: "0.8", cache_write_5m: "1", cache_write_1h: "1.6", output: "4"}}
tiers:
  custom: {batch: {queued_requests: 2_000_000}, source: our contract, read: 2026-11-01}
models:
  claude-opus-5-5: {min_cacheable_tokens: 1_024}
limits:
  concurrent_batches: {value: 20}
"""
    )
    base, catalog = load(), load(own_file)
    earlier = datetime(2026, 11, 19, tzinfo=UTC)
    assert catalog.price("claude-haiku-4-5", NOW).cost_units(Usage(1, 0), lane="realtime") == 8_000
    assert catalog.price("claude-haiku-4-5", earlier) == base.price("claude-haiku-4-5", earlier)
    assert catalog.tier("custom").batch.queued_requests == 2_000_000
    assert catalog.tier("custom").batch.requests_per_batch == base.tier("custom").batch.requests_per_batch
    assert catalog.limits.concurrent_batches == 20
    facts = {fact.key: fact for fact in catalog.facts()}
    assert facts["tiers.custom.batch.queued_requests"].source == "our contract"
    assert facts["limits.concurrent_batches.value"].source == f"user file {own_file}"
    assert not facts["models.claude-opus-5-5.min_cacheable_tokens"].assumed
    assert facts["models.claude-opus-5-5.context_tokens"].source == base.model("claude-opus-5-5").source


def test_a_changed_own_file_is_read_again(own_file: Path) -> None:
    own_file.write_text("limits: {concurrent_batches: {value: 7}}")
    assert load(own_file) is load(own_file)
    before = load(own_file).limits.concurrent_batches
    own_file.write_text("limits: {concurrent_batches: {value: 12}}")
    assert (before, load(own_file).limits.concurrent_batches) == (7, 12)


ROW = "usd_per_mtok: {input: 1, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 1}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("modles: {}", "modles: unknown section .did you mean models", id="section-misspelt"),
        pytest.param("- 1", "must hold sections", id="a-list"),
        pytest.param("a: [", "is not YAML", id="not-yaml"),
        pytest.param("limits: {}\nlimits: {}", "line 1: the key limits stands there twice", id="key-twice"),
        pytest.param(
            "models: {m: {contxt_tokens: 1}}", r"models\.m\.contxt_tokens: unknown key .did you mean", id="key"
        ),
        pytest.param("models: {m: {context_tokens: big}}", r"models\.m\.context_tokens: must be a whole", id="type"),
        pytest.param("models: {m: {aliases: [claude-opus-5]}}", "claude-opus-5 belongs to", id="name-taken"),
        pytest.param("models: {m: {line: gnome}}", "'gnome' is no line", id="line-unknown"),
        pytest.param("models: {m: 3}", r"models\.m: must be a mapping", id="no-mapping"),
        pytest.param("prices: {claude-opus-9: []}", r"prices\.claude-opus-9: there is no such model", id="no-model"),
        pytest.param("prices: {claude-opus-5: {}}", "must be a list of price rows", id="no-rows"),
        pytest.param(f"prices: {{claude-opus-5: [{{from: soon, {ROW}}}]}}", "from: must be a day", id="no-day"),
        pytest.param(
            f"prices: {{claude-opus-5: [{{from: 2027-01-01, {ROW}}}, {{from: 2027-01-01, {ROW}}}]}}",
            "one day",
            id="day-twice",
        ),
        pytest.param(
            "prices: {claude-opus-5: [{from: 2027-01-01, usd_per_mtok: {input: 1, output: 2}}]}",
            "cache_write_5m is missing",
            id="class-missing",
        ),
        pytest.param(
            f"prices: {{claude-opus-5: [{{from: 2027-01-01, {ROW.replace('output: 1', 'output: 0.00001')}}}]}}",
            r"usd_per_mtok\.output: 0.00001 USD per MTok is no whole number",
            id="price-too-fine",
        ),
        pytest.param(
            f"prices: {{claude-opus-5: [{{from: 2027-01-01, {ROW.replace('output: 1', 'output: -1')}}}]}}",
            "zero or more",
            id="price-negative",
        ),
        pytest.param("tiers: {gold: {ladder: golden}}", r"tiers\.gold\.ladder: must be current or guide", id="ladder"),
        pytest.param("limits: {speed_limit: {value: 1}}", r"limits\.speed_limit: unknown limit", id="limit-unknown"),
        pytest.param(
            "limits: {bytes_per_batch: {value: 2.5}}", r"bytes_per_batch\.value: must be a whole", id="limit-type"
        ),
    ],
)
def test_a_mistake_in_an_own_file_names_the_file_and_the_key(own_file: Path, text: str, says: str) -> None:
    own_file.write_text(text)
    with pytest.raises(SettingInvalid, match=says) as caught:
        load(own_file)
    assert str(own_file) in str(caught.value)


def test_a_missing_own_file_is_named(own_file: Path) -> None:
    with pytest.raises(SettingInvalid, match="cannot be read: No such file"):
        load(own_file)
