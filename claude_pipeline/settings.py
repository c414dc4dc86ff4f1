"""Settings from the environment; each has a default and, where a command needs it, a flag.

| variable | default | what |
|---|---|---|
| `ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL` | none, the real API | read by `lane.access` only, as the SDK reads them |
| `CLAUDE_PIPELINE_HOME` | `data/home` of the checkout, else of the current folder | everything a run writes |
| `CLAUDE_PIPELINE_LEDGER_URL` | SQLite in the home | SQLAlchemy URL of the ledger; PostgreSQL with sessions of its own, no shared ones of a pooler |
| `CLAUDE_PIPELINE_TIER` | `start` | the account's rate-limit tier |
| `CLAUDE_PIPELINE_SETTLE_SECONDS` | 900; 10 where the API is on this machine | how long a doubtful batch is left alone |
| `CLAUDE_PIPELINE_BUDGET_USD` | none | a wall over all workloads of the ledger |
| `CLAUDE_PIPELINE_DEFS` | none | a folder of workload folders outside the package |
| `CLAUDE_PIPELINE_CATALOG` | none | a YAML file that adds to or overrides the catalogue |
| `CLAUDE_PIPELINE_TICK_SECONDS` | 10 | least seconds between two looks of the Dagster sensor |
| `CLAUDE_PIPELINE_BATCHES_IN_FLIGHT` | 100 | most batches in progress at once |
| `CLAUDE_PIPELINE_WEBHOOK_URL` | none | where each alert is posted as JSON: https, or http on this machine |
| `CLAUDE_PIPELINE_REALTIME_IN_FLIGHT` | 1000 | most real-time requests in flight at once, for each pool of models; also the most that a crash can cost |
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from claude_pipeline.errors import SettingInvalid
from claude_pipeline.home import Home

SETTLE_SECONDS = 900.0  # 1.5 x the SDK's read timeout of 600 s, after which nobody waits for an answer
SETTLE_SECONDS_LOCAL = 10.0
BATCHES_IN_FLIGHT = 100
REALTIME_IN_FLIGHT = 1000
TICK_SECONDS = 10
PREFIX = "CLAUDE_PIPELINE_"
VARIABLES = frozenset(
    PREFIX + name
    for name in (
        "HOME", "LEDGER_URL", "TIER", "SETTLE_SECONDS", "BUDGET_USD", "DEFS", "CATALOG", "TICK_SECONDS",
        "BATCHES_IN_FLIGHT", "WEBHOOK_URL", "REALTIME_IN_FLIGHT",
        "DEBUG",  # shows what an unforeseen error says
        "CRASH_AT", "PAUSE_AT",  # of tests: see crash.py
    )
)  # fmt: skip
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Settings:
    """What the environment says. It never holds the key."""

    home: Home
    ledger_url: str | None = field(default=None, repr=False)  # may hold a password
    tier: str = "start"
    settle_seconds: float = SETTLE_SECONDS
    budget_usd: float | None = None
    defs: Path | None = None
    catalog: Path | None = None
    batches_in_flight: int = BATCHES_IN_FLIGHT
    tick_seconds: int = TICK_SECONDS
    realtime_in_flight: int = REALTIME_IN_FLIGHT
    webhook_url: str | None = field(default=None, repr=False)  # may hold a secret

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables above.

        Raises:
            SettingInvalid: a value cannot be used; names the variable.
        """
        env = os.environ if environment is None else environment
        base_url = env.get("ANTHROPIC_BASE_URL", "")
        settle = SETTLE_SECONDS_LOCAL if is_loopback(base_url) else SETTLE_SECONDS
        folder = env.get("CLAUDE_PIPELINE_DEFS")
        if folder and not Path(folder).expanduser().is_dir():
            raise SettingInvalid(f"CLAUDE_PIPELINE_DEFS is {folder!r}, which is no folder")
        catalog = env.get("CLAUDE_PIPELINE_CATALOG")
        return cls(
            home=Home(Path(env.get("CLAUDE_PIPELINE_HOME") or default_home()).expanduser().absolute()),
            ledger_url=env.get("CLAUDE_PIPELINE_LEDGER_URL") or None,
            tier=env.get("CLAUDE_PIPELINE_TIER") or "start",
            settle_seconds=_number(env, "CLAUDE_PIPELINE_SETTLE_SECONDS", settle, least=0),
            budget_usd=_number(env, "CLAUDE_PIPELINE_BUDGET_USD", -1, least=0)
            if env.get("CLAUDE_PIPELINE_BUDGET_USD")
            else None,
            defs=Path(folder).expanduser().absolute() if folder else None,
            catalog=Path(catalog).expanduser().absolute() if catalog else None,
            batches_in_flight=int(_number(env, "CLAUDE_PIPELINE_BATCHES_IN_FLIGHT", BATCHES_IN_FLIGHT, least=1)),
            tick_seconds=int(_number(env, "CLAUDE_PIPELINE_TICK_SECONDS", TICK_SECONDS, least=1)),
            realtime_in_flight=int(_number(env, "CLAUDE_PIPELINE_REALTIME_IN_FLIGHT", REALTIME_IN_FLIGHT, least=1)),
            webhook_url=_webhook(env.get("CLAUDE_PIPELINE_WEBHOOK_URL") or None),
        )

    def with_home(self, folder: Path | None) -> Settings:
        """The same settings with another home, as `--home` asks for."""
        return self if folder is None else replace(self, home=Home(folder.expanduser().absolute()))


def default_home() -> Path:
    """`data/home` of the checkout this package lies in, else of the current folder."""
    checkout = Path(__file__).resolve().parent.parent
    root = checkout if (checkout / "workspace.yaml").exists() else Path.cwd()
    return root / "data" / "home"


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine."""
    try:
        return bool(url) and (urlsplit(url).hostname or "") in LOOPBACK
    except ValueError:  # no URL at all; whoever connects says so
        return False


def _webhook(url: str | None) -> str | None:
    """The URL, where it may be used. It is never named: its path may be the secret."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url)))
        usable = usable and (parts.port is None or parts.port > 0) and url.isascii() and url.isprintable()
    except ValueError:
        usable = False
    if not usable or " " in url:
        raise SettingInvalid("CLAUDE_PIPELINE_WEBHOOK_URL must be an https:// URL (http:// only on this machine)")
    return url


def _number(env: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingInvalid(f"{name} must be a number, got {text!r}") from None
    if not math.isfinite(value):
        raise SettingInvalid(f"{name} must be a finite number, got {text}")
    if value < least:
        raise SettingInvalid(f"{name} must be at least {least:g}, got {text}")
    return value
