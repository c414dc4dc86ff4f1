"""Desk: what every stage needs at hand (settings, ledger, client, catalogue, clock), opened together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from claude_pipeline.catalog import Catalog, load
from claude_pipeline.errors import SettingInvalid
from claude_pipeline.home import Home, make_folder
from claude_pipeline.lane.access import connect_async
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.lane.waits import USUAL, Waits
from claude_pipeline.ledger import Ledger
from claude_pipeline.pandas_later import acquaint_later
from claude_pipeline.settings import Settings

if TYPE_CHECKING:
    import anthropic

COLLECTORS_MAX = 4  # each holds the rows of a chunk: about 100 MB of 10,000 requests
Clock = Callable[[], datetime]
Connect = Callable[[], "anthropic.AsyncAnthropic"]


def utc_now() -> datetime:
    """The clock of the product's edges; tests give another."""
    return datetime.now(UTC)  # noqa: TID251  the one place


@dataclass(frozen=True)
class Desk:
    """The working place of a stage. Holds no key: the client reads it when it first connects."""

    settings: Settings
    ledger: Ledger
    catalog: Catalog
    client: BatchClient = field(default_factory=BatchClient)
    clock: Clock = utc_now
    messages: Connect = connect_async  # makes the client of the real-time lane, in the loop that uses it
    waits: Waits = USUAL  # of the real-time lane
    collectors: int = 1  # how many ended batches are collected side by side

    @property
    def home(self) -> Home:
        return self.settings.home

    def path(self, relative: str) -> Path:
        return self.home.absolute(relative)


def _collectors() -> int:
    """As many as there are cores that this process may use, within memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, COLLECTORS_MAX)


@contextmanager
def open_desk(
    settings: Settings | None = None,
    *,
    client: BatchClient | None = None,
    messages: Connect = connect_async,
    clock: Clock = utc_now,
) -> Iterator[Desk]:
    """A desk for as long as the `with` lasts; the ledger is made or migrated when needed.

    Raises:
        SettingInvalid, LedgerDamaged, LedgerNewer, CatalogMissing.
    """
    acquaint_later()
    chosen = settings or Settings.from_environment()
    try:
        make_folder(chosen.home.root)
    except OSError as error:
        raise SettingInvalid(
            f"the home {chosen.home.root} cannot be used ({error.strerror}); name a folder with --home or CLAUDE_PIPELINE_HOME"
        ) from None
    used = client or BatchClient()
    with Ledger.open(chosen.ledger_url, path=chosen.home.ledger) as ledger:
        try:
            yield Desk(chosen, ledger, load(chosen.catalog), used, clock, messages, collectors=_collectors())
        finally:
            used.close()
