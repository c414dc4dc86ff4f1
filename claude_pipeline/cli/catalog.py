"""`claude-pipeline catalog`: what is known of models, prices, tiers and limits, with source and date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_pipeline.cli.which import home_option, settings_of

if TYPE_CHECKING:
    from claude_pipeline.catalog import Catalog, Fact, Tier
    from claude_pipeline.stage.told import Difference

OLD_DAYS = 90
MARK = "OLD"


@click.command("catalog")
@home_option
@click.option("--refresh", is_flag=True, help="Ask the API for its models and limits; say what differs.")
@click.option("--json", "as_json", is_flag=True, help="For machines: every value with source and date.")
def command(home: Path | None, refresh: bool, as_json: bool) -> None:
    """Show models, prices, tiers and limits, each with its source and the day it was read.

    Values read more than 90 days ago are marked OLD. With --refresh, what the API says otherwise is written to
    catalog.yaml in the home; it is used only where CLAUDE_PIPELINE_CATALOG names it, and it never holds prices.
    """
    from claude_pipeline.catalog import load
    from claude_pipeline.stage.desk import open_desk, utc_now

    settings = settings_of(home)
    catalog, today = load(settings.catalog), utc_now().date()
    differences = None
    if refresh:
        from claude_pipeline.stage.told import refresh as ask

        with open_desk(settings) as desk:
            differences = ask(desk)
    if as_json:
        click.echo(json.dumps(document(catalog, today, differences), indent=2, default=str))
        return
    show(catalog, today)
    if differences is not None:
        show_differences(differences, str(settings.home.told_catalog))


def document(catalog: Catalog, today: date, differences: list[Difference] | None) -> dict[str, Any]:
    """Every fact, and what the API says otherwise."""
    facts = [
        {"key": f.key, "value": f.value, "source": f.source, "read": f.read, "assumed": f.assumed, "note": f.note,
         "old": is_old(f.read, today)}
        for f in catalog.facts()
    ]  # fmt: skip
    found: dict[str, Any] = {"today": today, "old_after_days": OLD_DAYS, "facts": facts}
    if differences is not None:
        found["differences"] = [{"key": d.key, "catalog": d.ours, "api": d.told} for d in differences]
    return found


def is_old(read: date | None, today: date) -> bool:
    """Read more than 90 days ago; a user's own value without a day is the user's to keep."""
    return read is not None and (today - read).days > OLD_DAYS


def show(catalog: Catalog, today: date) -> None:
    from claude_pipeline.cli.screen import Screen

    screen, sources = Screen(), Sources()
    columns = ["model", "lifecycle", "context", "max output", "able to", "cached from", "speed", "read", "source"]
    screen.grid(columns, list(models(catalog, today, sources)), title="Models (tokens; speed against Sonnet, assumed)")
    screen.say()
    columns = ["model", "from", "band", "input", "write 5m", "write 1h", "read", "output", "read on", "source"]
    factor = catalog.limits.batch_price_factor
    screen.grid(
        columns,
        list(prices(catalog, today, sources)),
        title=f"Prices (USD per million tokens; a batch costs x {factor})",
    )
    for ladder in ("current", "guide"):
        screen.say()
        title = "Tiers" if ladder == "current" else "The older ladder that guides still print"
        columns = ["tier", "batch calls/min", "queued", "per batch", "req/min", "in tok/min", "out tok/min", "USD/month", "read", "source"]  # fmt: skip
        rows = [row for tier in catalog.tiers if tier.ladder == ladder for row in tiers(tier, today, sources)]
        screen.grid(columns, rows, title=title)
        for tier in (t for t in catalog.tiers if t.ladder == ladder):
            screen.say(f"  {tier.name}: {tier.qualify}{'; ' * bool(tier.note)}{tier.note or ''}")
    screen.say()
    facts = [f for f in catalog.facts() if f.key.startswith("limits.")]
    screen.grid(
        ["limit", "value", "read", "source"], [limit(f, today, sources) for f in facts], title="Limits and rules"
    )
    screen.say("\n? assumed, or stated by no official page; - not published or not found; every note: --json")
    screen.say("Sources")
    for number, source in enumerate(sources.texts, 1):
        screen.say(f"  [{number}] {source}")
    old = sum(is_old(f.read, today) for f in catalog.facts())
    if old:
        screen.say(
            f"{old:,} values were read more than {OLD_DAYS} days ago ({MARK}): check them, or --refresh what the API tells"
        )


class Sources:
    """Numbers for sources, so that a table has room for them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def of(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def models(catalog: Catalog, today: date, sources: Sources) -> Iterator[list[object]]:
    for m in catalog.models:
        able = {
            "batch": m.capabilities.batch,
            "schema": m.capabilities.structured_outputs,
            "geo": m.capabilities.inference_geo,
        }
        names = [f"{name}{'?' * (value is None or f'capabilities.{n}' in m.assumed)}" for (name, value), n in zip(
            able.items(), ("batch", "structured_outputs", "inference_geo"), strict=True) if value is not False]  # fmt: skip
        stage = m.lifecycle(today)
        said = {
            "active": "active",
            "deprecated": f"deprecated, until {m.retires_at}",
            "retired": f"retired {m.retires_at}",
        }[stage]
        if stage != "active" and m.successor:
            said += f", use {m.successor}{'?' * ('successor' in m.assumed)}"
        if m.by_invitation:
            said += ", by invitation"
        yield [m.id, said, _or_dash(m.context_tokens), _or_dash(m.max_output_tokens), " ".join(names),
               _or_dash(m.min_cacheable_tokens, "min_cacheable_tokens" in m.assumed),
               f"{m.relative_speed:g}?" if m.relative_speed else "-", day(m.read, today), sources.of(m.source)]  # fmt: skip


def prices(catalog: Catalog, today: date, sources: Sources) -> Iterator[list[object]]:
    classes = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
    for m in catalog.models:
        rows = catalog.prices(m.id)
        if not rows:
            yield [m.id, "-", "none known: give one in a catalogue file of your own", *[""] * 7]
        for p in rows:
            since = f"{p.since or 'ever'}{'?' * ('from' in p.assumed)}"
            bands = [("all" if p.usd_per_mtok_above is None else f"to {p.threshold_tokens:,}", p.usd_per_mtok)]
            if p.usd_per_mtok_above is not None:
                bands.append((f"over {p.threshold_tokens:,}", p.usd_per_mtok_above))
            for band, usd in bands:
                values = [f"{usd[c]}{'?' * (c in p.assumed)}" for c in classes]
                yield [m.id, since, band, *values, day(p.read, today), sources.of(p.source)]


def tiers(tier: Tier, today: date, sources: Sources) -> Iterator[list[object]]:
    """A row for each model line whose rates differ from the line's before."""
    rates: dict[Any, list[str]] = {}
    for line, rate in tier.rates.items():
        rates.setdefault(rate, []).append(line)
    cap = "-" if tier.monthly_spend_cap_usd is None else f"{tier.monthly_spend_cap_usd:,}"
    pairs: list[tuple[Any, list[str]]] = list(rates.items()) or [(None, ["all"])]
    for rate, lines in pairs:
        guessed = "?" * ("rates" in tier.assumed)
        named = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
        amounts = [f"{value:,}{guessed}" if (value := getattr(rate, n, None)) else "-" for n in named]
        b = tier.batch
        yield [f"{tier.name} ({', '.join(lines)})", _or_dash(b.requests_per_minute, "batch.requests_per_minute" in tier.assumed),
               _or_dash(b.queued_requests), _or_dash(b.requests_per_batch), *amounts, cap, day(tier.read, today),
               sources.of(tier.source)]  # fmt: skip


def limit(fact: Fact, today: date, sources: Sources) -> list[object]:
    name = fact.key.removeprefix("limits.").removesuffix(".value").replace(".value.", ".")
    return [name, f"{fact.value}{'?' * fact.assumed}", day(fact.read, today), sources.of(fact.source)]


def day(read: date | None, today: date) -> str:
    return "your file" if read is None else f"{read}{' ' + MARK if is_old(read, today) else ''}"


def _or_dash(value: int | None, assumed: bool = False) -> str:
    return "-" if value is None else f"{value:,}{'?' * assumed}"


def show_differences(differences: list[Difference], file: str) -> None:
    from claude_pipeline.cli.screen import Screen

    screen = Screen()
    screen.say()
    if not differences:
        screen.say(
            "the API says nothing that the catalogue does not say as well (it tells no prices and no batch limits)"
        )
        return
    screen.grid(
        ["key", "catalogue", "API"], [[d.key, d.ours, d.told] for d in differences], title="The API says otherwise"
    )
    screen.say(f"written to {file}; to adopt it, set CLAUDE_PIPELINE_CATALOG to that file (it holds no prices)")
