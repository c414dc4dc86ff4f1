"""What `doctor` tells of the ledger: whole or not, what it remembers, what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.home import Home, sha256_of
from claude_pipeline.ledger import Ledger, LedgerSeen, inspect_ledger
from claude_pipeline.settings import Settings
from claude_pipeline.stage.finding import Finding, Verdict, many, wrong

SEE_README = "see the README, When something goes wrong"


def check_ledger(settings: Settings, now: datetime, *, deep: bool) -> Iterator[Finding]:
    try:
        seen = inspect_ledger(settings.ledger_url, path=settings.home.ledger)
        if (finding := judge_ledger(seen)) is not None:
            yield finding
            return
        with Ledger.open(settings.ledger_url, path=settings.home.ledger) as ledger:
            yield Finding("ledger", Verdict.OK, f"{seen.address} is whole: {many(len(ledger.snapshots()), 'snapshot')}")
            yield from _sent(ledger, now, settings.settle_seconds)
            yield from _files(ledger, settings.home, deep=deep)
    except ClaudePipelineError as error:
        yield wrong("ledger", error, SEE_README)


def judge_ledger(seen: LedgerSeen) -> Finding | None:
    """What keeps a ledger from being opened as it is; None: nothing."""
    if seen.problems:
        fact = f"{seen.address} is damaged: {'; '.join(seen.problems)}"
        mend = "stop everything, put a copy from backups/ in its place, then claude-pipeline reconcile --rebuild"
        return Finding("ledger", Verdict.WRONG, fact, mend, 1)
    if seen.schema > seen.known:
        fact = f"{seen.address} has schema {seen.schema}, this version knows {seen.known}"
        return Finding("ledger", Verdict.WRONG, fact, "upgrade claude-pipeline", 1)
    if seen.schema == 0:
        return Finding("ledger", Verdict.OK, f"{seen.address}: nothing has run yet")
    if seen.schema < seen.known:
        fact = f"{seen.address} has schema {seen.schema}; the next command changes it to {seen.known}, and older versions then refuse it"
        return Finding("ledger", Verdict.WARNING, fact, f"copy {seen.address} first if you may go back")
    return None


def _sent(ledger: Ledger, now: datetime, settle_seconds: float) -> Iterator[Finding]:
    try:
        ledger.check_mark()
    except ClaudePipelineError as error:
        yield wrong("ledger", error, "claude-pipeline reconcile --rebuild")
    stop = ledger.stop()
    if stop is not None:
        yield Finding(
            "account",
            Verdict.WRONG,
            f"stopped since {stop.since:%Y-%m-%d %H:%M} UTC: {stop.reason}",
            "claude-pipeline resume, once that is mended",
            3,
        )
    intents = ledger.unsettled_intents()
    late = [i for i in intents if now - (i.doubt_at or i.created_at) > timedelta(seconds=settle_seconds)]
    if intents:
        tags = ", ".join(i.tag for i in intents[:3]) + (", …" if len(intents) > 3 else "")
        since = min(i.created_at for i in intents)
        yield Finding(
            "doubts",
            Verdict.WARNING,
            f"{many(len(intents), 'create')} without a clear answer since {since:%Y-%m-%d %H:%M} UTC ({tags}): not sent again",
            "claude-pipeline reconcile"
            if late
            else f"nothing: they are settled {settle_seconds:.0f} s after they came in doubt, by whatever runs then",
        )
    else:
        yield Finding("doubts", Verdict.OK, "every create was answered, or settled")
    if twice := ledger.paid_twice():
        named = ", ".join(batch.id for batch in twice[:3])
        yield Finding(
            "paid twice",
            Verdict.WARNING,
            f"{len(twice):,} batches were accepted after they were given up ({named})",
            "tell the API's support; lengthen CLAUDE_PIPELINE_SETTLE_SECONDS",
        )


def _files(ledger: Ledger, home: Home, *, deep: bool) -> Iterator[Finding]:
    parts = [part for workload in ledger.workloads() for part in ledger.merged_parts(workload)]
    missing = [part for part in parts if not home.absolute(part.path).exists()]
    damaged = [p for p in parts if deep and p not in missing and sha256_of(home.absolute(p.path)) != p.sha256]
    for part in missing + damaged:
        what = "is missing" if part in missing else "is not what was written (sha256 differs)"
        yield Finding(
            "files", Verdict.WRONG, f"{home.absolute(part.path)} {what}", "restore it from a backup of the home", 1
        )
    if not missing and not damaged:
        how = "read and as they were written" if deep else "there; --deep reads them as well"
        yield Finding("files", Verdict.OK, f"{len(parts):,} files of merged answers are {how}")


def pinned_workspace(settings: Settings) -> str | None:
    try:
        seen = inspect_ledger(settings.ledger_url, path=settings.home.ledger)
        if judge_ledger(seen) is not None:
            return None
        with Ledger.open(settings.ledger_url, path=settings.home.ledger) as ledger:
            return ledger.get_setting("workspace_id")
    except ClaudePipelineError:  # the ledger's own row tells
        return None
