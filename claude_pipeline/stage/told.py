"""What the API tells that the catalogue says otherwise, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import yaml

from claude_pipeline.catalog import Catalog, Model, Tier
from claude_pipeline.errors import ApiRefused, ApiUnclear, CatalogMissing
from claude_pipeline.home import written
from claude_pipeline.lane.account import count_tokens, list_models
from claude_pipeline.stage.desk import Desk

PROBE = b'{"max_tokens":1,"messages":[{"content":"1","role":"user"}],"model":"%s"}'
# Header name -> field of the tier's rate.
RATES = {
    "requests": "requests_per_minute",
    "input-tokens": "input_tokens_per_minute",
    "output-tokens": "output_tokens_per_minute",
}


@dataclass(frozen=True)
class Difference:
    """One value that the API states; `ours` is the catalogue's, None where it has none."""

    key: str  # as `models.claude-haiku-5-5.context_tokens`
    ours: object
    told: object


def refresh(desk: Desk) -> list[Difference]:
    """Ask the API, and write what differs to the home's `catalog.yaml`, which is used only where a user says so.

    Raises:
        ApiUnclear, KeyRefused, AccountStopped: it tells nothing.
    """
    told = list_models(desk.client)
    limits = dict(told.limits)
    active = [model["id"] for model in told.value if model.get("lifecycle") == "active"]
    line = None
    for name in active[:1]:
        line = next((model.get("line") for model in told.value if model["id"] == name), None)
        with suppress(ApiUnclear, ApiRefused):  # the list of models told enough
            limits |= count_tokens(desk.client, PROBE % name.encode()).limits
    tier = desk.catalog.tier(desk.settings.tier)
    found = [*models_differ(desk.catalog, told.value, desk.clock().date()), *limits_differ(tier, line, limits)]
    if found:
        with written(desk.home.told_catalog) as temporary:
            temporary.write_text(overlay(found, desk.clock()), encoding="utf-8")
    else:
        desk.home.told_catalog.unlink(missing_ok=True)
    return found


def models_differ(catalog: Catalog, told: Iterable[Mapping[str, Any]], today: date) -> list[Difference]:
    """Models that are new, and fields that differ; what the API leaves out decides nothing."""
    found = []
    for model in told:
        try:
            ours: Model | None = catalog.model(model["id"])
        except CatalogMissing:
            ours = None
        key = f"models.{ours.id if ours else model['id']}"
        for name, value in _fields(model).items():
            known = getattr(ours, name, None) if ours is not None else None
            if value is not None and value != known:
                found.append(Difference(f"{key}.{name}", known, value))
        batch = ((model.get("capabilities") or {}).get("batch") or {}).get("supported")
        if batch is not None and batch != (ours.capabilities.batch if ours else None):
            found.append(Difference(f"{key}.capabilities.batch", ours.capabilities.batch if ours else None, batch))
        if ours is not None and model.get("lifecycle") not in (None, ours.lifecycle(today)):
            found.append(Difference(f"{key}.lifecycle", ours.lifecycle(today), model["lifecycle"]))
    return found


def limits_differ(tier: Tier, line: str | None, limits: Mapping[str, int]) -> list[Difference]:
    """Limits in headers against the tier's of that model line."""
    rate = tier.rates.get(line) if line else None
    found = []
    for name, field in RATES.items():
        ours = getattr(rate, field, None)
        if name in limits and rate is not None and limits[name] not in (ours, tier.count_tokens_requests_per_minute):
            found.append(Difference(f"tiers.{tier.name}.rates.{line}.{field}", ours, limits[name]))
    return found


def overlay(differences: Iterable[Difference], at: datetime) -> str:
    """A catalogue file with what the API said. Never a price: the API tells none."""
    sections: dict[str, Any] = {}
    for difference in differences:
        section, name, *path = difference.key.split(".")
        if path == ["lifecycle"]:
            continue  # follows from the days
        block = sections.setdefault(section, {}).setdefault(
            name, {"source": "the API itself (claude-pipeline catalog --refresh)", "read": at.date()}
        )
        for step in path[:-1]:
            block = block.setdefault(step, {})
        block[path[-1]] = difference.told
    head = (
        f"# What the API said on {at:%Y-%m-%d %H:%M} UTC that the catalogue says otherwise, or not at all.\n"
        "# Used only where CLAUDE_PIPELINE_CATALOG names this file. It holds no prices: a new model needs them\n"
        "# under prices: before it can be asked.\n"
    )
    return head + yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)


def _fields(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "display_name": model.get("display_name"),
        "line": model.get("line"),
        "context_tokens": model.get("max_input_tokens"),
        "max_output_tokens": model.get("max_tokens"),
        "deprecated_at": _day(model.get("deprecated_at")),
        "retires_at": _day(model.get("retires_at")),
    }


def _day(text: object) -> date | None:
    return datetime.fromisoformat(text).date() if isinstance(text, str) else None
