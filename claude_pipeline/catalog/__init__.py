"""Facts about the API as data: models, prices, tiers, limits, each with its source and the day it was read.

The YAML files beside this one are read when `load` is first called, then kept. A user's file of the same
shapes (sections `models`, `prices`, `tiers`, `limits`, `lines`) adds to them or overrides single values:

    prices:
      claude-haiku-5-5:
        - from: 2027-01-01
          usd_per_mtok: {input: "0.1", cache_write_5m: "0.1", cache_write_1h: "0.2", cache_read: "0.01", output: "0.4"}

Nothing here is guessed: what is not known raises `CatalogMissing`, what is assumed says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from claude_pipeline.catalog.document import Block, Documents, Problem, did_you_mean, read_documents
from claude_pipeline.catalog.limit import Limits, read_limits
from claude_pipeline.catalog.model import Capabilities, Lifecycle, Model, read_model
from claude_pipeline.catalog.price import UNITS_PER_USD, Lane, Price, Rates, TokenRates, Usage, read_price, usd
from claude_pipeline.catalog.tier import BatchRate, Rate, Tier, read_tier, tier_name
from claude_pipeline.errors import CatalogMissing

__all__ = [
    "UNITS_PER_USD",
    "BatchRate",
    "Capabilities",
    "Catalog",
    "Fact",
    "Lane",
    "Lifecycle",
    "Limits",
    "Model",
    "Price",
    "Rate",
    "Rates",
    "Tier",
    "TokenRates",
    "Usage",
    "load",
    "usd",
]


@dataclass(frozen=True, slots=True)
class Fact:
    """One value of the catalogue with where it comes from; `key` is as `models.claude-haiku-5-5.context_tokens`."""

    key: str
    value: object
    source: str
    read: date | None
    assumed: bool
    note: str | None


class Catalog:
    """All facts, checked when made. Use `load()`, which keeps it."""

    limits: Limits

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        try:
            self.limits = read_limits(dict(documents.blocks("limits")))
            lines = dict(documents.blocks("lines"))
            self.models = tuple(read_model(name, block, lines) for name, block in documents.blocks("models"))
            self.tiers = tuple(read_tier(tier_name(name), block) for name, block in documents.blocks("tiers"))
            self._by_name = _by_name(self.models)
            self._prices = self._read_prices()
        except Problem as problem:
            raise documents.error(problem) from None

    def model(self, name: str) -> Model:
        """A model by its id or an alias, as `model("claude-haiku-4-5")`.

        Raises:
            CatalogMissing: the name is not known; the nearest ones are named.
        """
        found = self._by_name.get(name)
        if found is None:
            hint = did_you_mean(name, self._by_name, otherwise=f" (known: {', '.join(sorted(self._by_name))})")
            raise CatalogMissing(
                f"model {name!r} is not in the catalogue{hint}; "
                f"a new one goes into {self._file} under models: and prices:"
            )
        return found

    def price(self, model_id: str, at: datetime) -> Price:
        """The prices in force at a moment (aware), for an id or an alias.

        Raises:
            CatalogMissing: the model or its price at that moment is not known.
        """
        if at.tzinfo is None:
            raise ValueError(f"{at} has no time zone; prices change at 00:00 UTC")
        model = self.model(model_id)
        rows = self._prices.get(model.id, ())
        day = at.astimezone(UTC).date()
        for row in rows:  # newest first
            if row.since is None or row.since <= day:
                return row
        known = f"the first price known is of {rows[-1].since}" if rows else "none was published, or found"
        raise CatalogMissing(
            f"model {model.id} has no price on {day}: {known}; "
            f"add it to {self._file} under prices:, it is never guessed"
        )

    def prices(self, model_id: str) -> tuple[Price, ...]:
        """All rows known of a model, newest first; empty where none is."""
        return self._prices.get(self.model(model_id).id, ())

    def tier(self, name: str) -> Tier:
        """A tier by its name, however spelt: `scale`, `Tier 1`.

        Raises:
            CatalogMissing: there is no such tier.
        """
        wanted = tier_name(name)
        for tier in self.tiers:
            if tier.name == wanted:
                return tier
        names = [tier.name for tier in self.tiers]
        hint = did_you_mean(wanted, names, otherwise=f" (known: {', '.join(names)})")
        raise CatalogMissing(
            f"tier {name!r} is not in the catalogue{hint}; a new one goes into {self._file} under tiers:"
        )

    def facts(self) -> Iterator[Fact]:
        """Every single value with its source, for people and for checks; prices by row and class."""
        for section in ("limits", "lines", "models", "tiers"):
            for _, block in self._documents.blocks(section):
                yield from self._facts_of(block)
        for model_id, rows in self._documents.sections["prices"].items():
            for row in rows:
                path = ("prices", model_id, f"from {row.get('from') or 'the beginning'}")
                yield from self._facts_of(Block(row, path))

    def _facts_of(self, block: Block) -> Iterator[Fact]:
        assumed = block.assumed()
        for path, value in _leaves(
            {k: v for k, v in block.content.items() if k not in ("source", "read", "assumed", "note")}
        ):
            source, read = self._documents.overridden.get(
                (*block.path, path[0]), (str(block.required("source")), block.day("read"))
            )
            ways = {"*", path[-1], *(".".join(path[: n + 1]) for n in range(len(path)))}
            yield Fact(".".join((*block.path, *path)), value, source, read, bool(ways & assumed), block.text("note"))

    def _read_prices(self) -> dict[str, tuple[Price, ...]]:
        prices: dict[str, tuple[Price, ...]] = {}
        for name, rows in self._documents.sections["prices"].items():
            model = self._by_name.get(name)
            if model is None:
                raise Problem(
                    ("prices", name), f"there is no such model{did_you_mean(name, self._by_name)}; add it to models:"
                )
            read = []
            for row in rows:
                block = Block(row, ("prices", name, f"from {row.get('from')}" if isinstance(row, dict) else "row"))
                read.append(read_price(model.id, block, self.limits, takes_geo=model.capabilities.inference_geo))
            days = [row.since for row in read]
            if len(set(days)) < len(days):
                raise Problem(("prices", name), "two rows start on one day; keep one")
            prices[model.id] = tuple(sorted(read, key=lambda row: row.since or date.min, reverse=True))
        return prices

    @property
    def _file(self) -> str:
        return str(self._documents.user_file or "a catalogue file of your own")


def load(user_file: Path | None = None) -> Catalog:
    """The catalogue, with a user's file laid over it; kept until that file changes.

    Raises:
        SettingInvalid: the user's file cannot be read or holds something unusable; names file and key.
    """
    if user_file is None:
        return _load(None, None)
    try:
        state = user_file.stat()
        return _load(user_file, (state.st_mtime_ns, state.st_size))
    except OSError:
        return Catalog(read_documents(user_file))  # says what is wrong with the file


@lru_cache(maxsize=8)
def _load(user_file: Path | None, _state: tuple[int, int] | None) -> Catalog:
    return Catalog(read_documents(user_file))


def _by_name(models: tuple[Model, ...]) -> dict[str, Model]:
    names: dict[str, Model] = {}
    for model in models:
        for name in (model.id, *model.aliases):
            if name in names:
                raise Problem(("models", model.id), f"the name {name} belongs to {names[name].id} already")
            names[name] = model
    return names


def _leaves(content: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value
