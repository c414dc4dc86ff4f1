"""Is everything in place? A finding per check: what is true, and the way out. Spends nothing, changes nothing.

| check | what must hold |
|---|---|
| versions | Python and every package in the range that this package was made for |
| environment | each variable can be used, and none is misspelt |
| home, disk | it can be written, others cannot look into it, its locks hold, there is room |
| ledger | readable, whole, of this version's schema; it knows what this home has sent |
| files | what the ledger vouches for is there (`deep`: and is what was written) |
| account, doubts | nothing is stopped, no create is without an answer, nothing was paid twice |
| workloads | each can be loaded |
| key, clock | the API takes the key, by a free call, for the ledger's workspace; its clock is ours |

What cannot be looked at because of another finding is left out, so that the first wrong one is the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from claude_pipeline.errors import ApiRefused, ApiUnclear, ClaudePipelineError, SettingInvalid
from claude_pipeline.lane.client import BATCHES, BatchClient
from claude_pipeline.settings import Settings
from claude_pipeline.stage.doctor_ledger import check_ledger, pinned_workspace
from claude_pipeline.stage.doctor_machine import check_disk, check_environment, check_home, check_versions
from claude_pipeline.stage.finding import AGAIN, Finding, Verdict, wrong
from claude_pipeline.workload_folder import PACKAGE_DEFS, load_workloads

SKEW_SECONDS_GOOD, SKEW_SECONDS_MOST = 5.0, 300.0


def examine(
    environment: Mapping[str, str],
    *,
    folder: Path | None,
    client: BatchClient,
    clock: Callable[[], datetime],
    deep: bool = False,
) -> Iterator[Finding]:
    """All checks, the causes first. `folder` is the home instead of the environment's."""
    yield from check_versions()
    try:
        settings = Settings.from_environment(environment).with_home(folder)
    except SettingInvalid as error:
        yield wrong("environment", error, "correct or unset that variable")
        return
    yield from check_environment(settings, environment)
    home = settings.home
    yield from check_home(home)
    yield from check_disk(home)
    yield from check_ledger(settings, clock(), deep=deep)
    yield from _workloads(settings)
    yield from _api(settings, client, clock)


def _workloads(settings: Settings) -> Iterator[Finding]:
    loaded = load_workloads([PACKAGE_DEFS, *([settings.defs] if settings.defs else [])])
    for file, sentence in loaded.broken:
        where = "" if str(file) in sentence else f"{file}: "
        yield Finding("workloads", Verdict.WARNING, f"{where}{sentence}", "mend the file; the other workloads run")
    if loaded.workloads:
        yield Finding("workloads", Verdict.OK, ", ".join(workload.name for workload in loaded.workloads))


def _api(settings: Settings, client: BatchClient, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """One page of the list of batches: free, and what every look needs."""
    try:
        client.connected()
        before = clock()
        _, headers = client.look(BATCHES, {"limit": 1})
        after = clock()
    except (ApiUnclear, ApiRefused) as error:
        way_out = "look at the network, a proxy and ANTHROPIC_BASE_URL, and run again"
        yield Finding("api", Verdict.WRONG, str(error), way_out, AGAIN)
        return
    except ClaudePipelineError as error:
        yield wrong("key", error, "set ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL")
        return
    workspace = headers.get("anthropic-workspace-id")
    pinned = pinned_workspace(settings)
    if workspace and pinned and workspace != pinned:
        fact = f"the key is of workspace {workspace}, the ledger's batches are in {pinned}"
        yield Finding("key", Verdict.WRONG, fact, f"use a key of {pinned}, or another home", 3)
    else:
        yield Finding("key", Verdict.OK, f"{client.host} takes it{f', workspace {workspace}' if workspace else ''}")
    try:
        told = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        yield Finding("clock", Verdict.WARNING, f"{client.host} does not tell the time", "compare this clock by hand")
        return
    # A whole second is told, of a moment between the two looks at our clock.
    middle = before + (after - before) / 2
    yield judge_clock((middle - told).total_seconds() - 0.5, (after - before).total_seconds() / 2 + 0.5)


def judge_clock(skew_seconds: float, error_seconds: float) -> Finding:
    """`skew_seconds`: how far this clock is ahead, give or take `error_seconds`."""
    apart = max(0.0, abs(skew_seconds) - error_seconds)
    way = "ahead of" if skew_seconds > 0 else "behind"
    fact = f"this clock is {apart:,.0f} s {way} the API's"
    if apart <= SKEW_SECONDS_GOOD:
        return Finding("clock", Verdict.OK, f"within {SKEW_SECONDS_GOOD:.0f} s of the API's")
    way_out = "set it by NTP (timedatectl set-ntp true): deadlines and settle times go by it"
    if apart <= SKEW_SECONDS_MOST:
        return Finding("clock", Verdict.WARNING, fact, way_out)
    return Finding("clock", Verdict.WRONG, fact, way_out, 2)
