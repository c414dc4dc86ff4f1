"""Runs a workload in this process: Dagster's own jobs, chosen by the same controller as the sensor's."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from claude_pipeline import errors
from claude_pipeline.cadence import partition_of
from claude_pipeline.cli.dagster_home import open_instance
from claude_pipeline.cli.screen import Screen
from claude_pipeline.cli.which import check_partition
from claude_pipeline.controller import Action, Kind, Situation, decide, describe, held_sentence, survey, told_of
from claude_pipeline.errors import (
    AccountStopped,
    ApiRefused,
    ApiUnclear,
    BudgetReached,
    ClaudePipelineError,
    KeyRefused,
    LedgerOutdated,
)
from claude_pipeline.garbage import no_search, seldom_search
from claude_pipeline.lane.access import check_access
from claude_pipeline.ledger import ChunkState, SnapshotRow
from claude_pipeline.picture.beside import drawn_beside
from claude_pipeline.progress import heard_by
from claude_pipeline.report import Summary, summarize
from claude_pipeline.settings import Settings
from claude_pipeline.stage.alert import watch
from claude_pipeline.stage.ask import interrupted
from claude_pipeline.stage.check import check_model, deprecations
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk, open_desk
from claude_pipeline.stage.lane_choice import rescue
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.submit import settle, walls
from claude_pipeline.workload import Workload

if TYPE_CHECKING:
    import dagster as dg

DOING = {
    Kind.SUBMIT: "sending chunks",
    Kind.ASK: "asking in real time",
    Kind.COLLECT: "collecting results",
    Kind.FINALIZE: "merging and publishing",
}
FIRST_WAIT_SECONDS = 0.25
WAIT_GROWTH = 1.5
PROGRESS_SECONDS = 1.0
ALERT_SECONDS = 15.0  # between two looks at what is to be told, while a long step runs
FAILURES_MAX = 20  # of one action in a row, with a growing wait between them


class JobFailed(ClaudePipelineError):
    """A Dagster run failed for a reason that another look may mend."""


class Runner:
    """One workload, one home."""

    def __init__(self, settings: Settings, workload: Workload, screen: Screen) -> None:
        self._settings, self._workload, self._screen = settings, workload, screen
        self._stack = ExitStack()
        self._failures: dict[Kind, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._told = ""
        self._told_at = time.monotonic()
        self._refused: set[int] = set()
        self._drawing = self._stack.enter_context(ExitStack())  # a process for the pictures, while they are near

    def __enter__(self) -> Self:
        with no_search():
            import dagster as dg

            from claude_pipeline.components.compose import compose
            from claude_pipeline.components.desk_resource import DeskResource

        self._stack.enter_context(seldom_search())
        warnings.filterwarnings("ignore", category=dg.BetaWarning)
        interrupted.clear()
        self._desk: Desk = self._stack.enter_context(open_desk(self._settings))
        check_model(self._desk, self._workload)
        defs = compose([self._workload], desk=DeskResource(home=str(self._settings.home.root)))
        self._repository = defs.get_repository_def()
        self._instance: dg.DagsterInstance = self._stack.enter_context(open_instance(self._settings.home))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.still()
        self._thread.shutdown(wait=False)
        self._stack.close()

    def run(self, *, partition: str | None, poll_seconds: float) -> Summary:
        """Prepare a snapshot, then act until nothing is left to do.

        Raises:
            UsageError, Stopped: nothing more can be done until a person acts.
        """
        check_access(
            os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN", ""),
            os.environ.get("ANTHROPIC_BASE_URL"),
        )
        workload = self._workload
        chosen = partition or partition_of(workload.cadence, workload.timezone, self._desk.clock())
        check_partition(workload, chosen)
        for warning in deprecations(self._desk, workload):
            self._screen.stage("warning", warning)
        self._screen.now(f"loading {workload.name}")
        self._execute("requests", chosen)
        self._say_prepared(chosen)
        return self.carry_on(partition=chosen, poll_seconds=poll_seconds)

    def pilot(self, count: int, *, partition: str, poll_seconds: float) -> SnapshotRow:
        """Ask a stratified sample of a partition, until it is answered; its snapshot. Raises as `run`."""
        check_access(
            os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN", ""),
            os.environ.get("ANTHROPIC_BASE_URL"),
        )
        check_partition(self._workload, partition)
        prepared = prepare(self._desk, self._workload, partition, pilot=count)
        self._screen.stage(
            "pilot", f"snapshot {prepared.snapshot.id}: {prepared.new_requests:,} requests are asked now"
        )
        self._desk.ledger.try_account_now(at=self._desk.clock())
        self._until_at_rest(poll_seconds)
        found = self._desk.ledger.snapshot(self._workload.name, prepared.snapshot.id)
        assert found is not None
        return found

    def carry_on(self, *, partition: str, poll_seconds: float) -> Summary:
        """Act until nothing of the workload is left to do; the summary of a partition's newest snapshot."""
        self._desk.ledger.try_account_now(at=self._desk.clock())
        self._until_at_rest(poll_seconds)
        snapshot = self._desk.ledger.snapshots(self._workload.name, partition=partition)[-1]
        return summarize(self._desk, self._workload, snapshot)

    def _until_at_rest(self, poll_seconds: float) -> None:
        wait = min(FIRST_WAIT_SECONDS, poll_seconds)
        while True:
            unclear = self._look()
            situation = survey(self._desk, self._workload)
            self._tell(situation)
            if situation.at_rest:
                return
            actions = decide(situation)
            done = [self._act(action) for action in actions]
            if any(done):
                wait = min(FIRST_WAIT_SECONDS, poll_seconds)
                continue
            if situation.wall is not None:
                raise BudgetReached(f"{self._workload.name}: {held_sentence(situation)}")
            if situation.stopped is not None:
                self._say_once("stopped", situation.stopped)
                if not (situation.in_flight or situation.ended or situation.doubtful):
                    raise self._stopped(situation.stopped)
            self._screen.now(unclear or describe(situation, self._desk.clock()))
            self._drawing.close()  # hours may go by
            time.sleep(wait)
            wait = min(wait * WAIT_GROWTH, poll_seconds)

    def _tell(self, situation: Situation) -> None:
        """Alerts, each once: a line here, the webhook, and the check `sla` in the instance, as the sensor does it."""
        from claude_pipeline.components.sla import sla_evaluations

        self._told_at = time.monotonic()
        told = watch(self._desk, [self._workload], {self._workload.name: situation.held_by})
        for alert in told.noted:
            self._screen.stage("alert", f"{alert.kind}: {alert.sentence}")
        if told.unposted:
            self._screen.stage("webhook", told.unposted)
        for evaluation in sla_evaluations(self._instance, [self._workload], told.watched, self._desk.clock()):
            self._instance.report_runless_asset_event(evaluation)

    def _stopped(self, sentence: str) -> ClaudePipelineError:
        """The stop that the ledger holds, as the error that ends the command."""
        stop = self._desk.ledger.stop()
        if stop is None or stop.kind == "outdated":
            return LedgerOutdated(sentence)
        return KeyRefused(sentence) if stop.kind == "key" else AccountStopped(sentence)

    def _look(self) -> str | None:
        """One look at the API; the sentence of why it told nothing."""
        try:
            settled = settle(self._desk)
            for intent, why in settled.waiting:
                self._say_once(
                    "in doubt", f"{intent.tag}: {why} (a person can decide: claude-pipeline reconcile --help)"
                )
            for _, batch_id in settled.adopted:
                self._screen.stage("adopted", f"{batch_id}: its creation was never answered, but it was ours")
            for twice in settled.paid_twice:
                self._screen.stage("paid twice", f"{twice} was accepted after its chunk was sent again; not merged")
            for missing in look(self._desk).missing:
                self._say_once(
                    "waiting", f"the API does not know batch {missing} (yet, or no more: if it was deleted, "
                    f"`claude-pipeline reconcile --gone {missing}`); looking again",
                )  # fmt: skip
            for chunk, why in rescue(self._desk, self._workload, walls(self._desk, self._workload)):
                self._screen.stage("rescue", f"{chunk.partition_key} is moved to real time: {why}")
        except (ApiUnclear, ApiRefused) as unclear:
            self._say_once("waiting", f"{unclear}; looking again")
            return str(unclear)
        return None

    def _act(self, action: Action) -> bool:
        """Do one thing; True when it changed something."""
        self._screen.now(DOING[action.kind])
        before = self._state()
        if action.kind is Kind.COLLECT and not before[0].in_flight:  # then it is merged, and the pictures are due
            self._drawing.close()
            self._drawing.enter_context(drawn_beside())
        try:
            self._execute(action.kind.value, action.partition)
        except (AccountStopped, KeyRefused) as stopped:
            if self._desk.ledger.stop() is None:
                raise
            self._say_once("stopped", str(stopped))  # the ledger holds it; what is at the API is still collected
            return False
        except JobFailed as failed:
            self._failures[action.kind] = self._failures.get(action.kind, 0) + 1
            # A collect that fails waits for the API: as long as it takes, as for a batch.
            if self._failures[action.kind] >= FAILURES_MAX and action.kind is not Kind.COLLECT:
                raise
            self._say_once(action.kind.value, f"failed, to be tried again: {failed}")
            return False
        self._failures.pop(action.kind, None)
        self._say_refused()
        after = self._state()
        if before == after:
            if action.kind is Kind.SUBMIT:
                self._say_why_not_sent()
            return False
        self._say(action.kind, before, after)
        return True

    def _say_refused(self) -> None:
        """Chunks that the API refused, each once, with its reason."""
        to_halve = {chunk.id for chunk in self._desk.ledger.to_halve(self._workload.name)}
        for chunk in self._desk.ledger.chunks(self._workload.name, states=[ChunkState.FAILED]):
            if chunk.id not in self._refused:
                self._refused.add(chunk.id)
                again = f"; its {chunk.requests:,} requests go again in halves" if chunk.id in to_halve else ""
                self._screen.stage("refused", f"chunk {chunk.partition_key}: {chunk.error}{again}")

    def _say_why_not_sent(self) -> None:
        """Chunks could be sent and were not: the API says why, or is not there. Said once."""
        try:
            self._desk.client.page(limit=1)
            sentence = "another process submits, or the API asks to wait"
        except (ApiUnclear, ApiRefused) as unclear:
            sentence = str(unclear)
        self._say_once("waiting", f"{sentence}; looking again")

    def _say_once(self, stage: str, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._screen.stage(stage, sentence)

    def _state(self) -> tuple[Any, ...]:
        with self._desk.ledger.many_reads():
            situation = survey(self._desk, self._workload)
            merged = tuple((p.snapshot.id, p.snapshot.merged_at) for p in self._desk.ledger.progress(
                self._workload.name, max_rounds=self._workload.max_rounds, all_merged=True))  # fmt: skip
            done = sum(sum(n for s, n in p.requests.items() if s.value == "done") for p in self._all())
            return (situation, merged, done, self._desk.ledger.last_publication())

    def _all(self) -> list[Any]:
        return self._desk.ledger.progress(self._workload.name, all_merged=True)

    def _say_prepared(self, partition: str) -> None:
        snapshot = self._desk.ledger.snapshots(self._workload.name, partition=partition)[-1]
        chunks = self._desk.ledger.chunks(self._workload.name, snapshot=snapshot.id)
        self._screen.stage(
            "prepare",
            f"snapshot {snapshot.id}: {snapshot.records:,} records -> {snapshot.asked or 0:,} requests in {len(chunks)} chunks"
            f" ({snapshot.reused or 0:,} reused, {snapshot.duplicates or 0:,} duplicates, {snapshot.awaited or 0:,} awaited, "
            f"{snapshot.rejected or 0:,} rejected)",
        )

    def _say(self, kind: Kind, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        was: Situation = before[0]
        situation: Situation = after[0]
        match kind:
            case Kind.SUBMIT:
                sent = situation.in_flight - was.in_flight
                self._screen.stage(
                    "submit", f"{sent} batches created; {situation.in_flight} in progress, "
                    f"{situation.in_flight_requests:,} requests; {situation.sendable + situation.waiting_for_room} chunks wait",
                )  # fmt: skip
            case Kind.ASK:
                self._screen.stage(
                    "ask", f"{after[2] - before[2]:,} requests answered or settled in real time; "
                    f"{situation.asking + situation.askable} chunks wait to be asked",
                )  # fmt: skip
            case Kind.COLLECT:
                self._screen.stage(
                    "collect", f"{was.ended - situation.ended} batches collected; {after[2]:,} requests answered or settled, "
                    f"{situation.in_flight_requests:,} still at the API",
                )  # fmt: skip
            case Kind.FINALIZE:
                version = after[3][0] if after[3] else "?"
                self._screen.stage("finalize", f"merged; warehouse v{version} published")

    def _execute(self, action: str, partition: str | None) -> None:
        """Run one of the workload's Dagster jobs in this process; our errors come back as ours."""
        from claude_pipeline.components.claude_workload import job_name

        job = self._repository.get_job(job_name(self._workload, action))
        result = self._uninterrupted(
            job.execute_in_process,
            instance=self._instance,
            partition_key=partition,
            tags={"claude/workload": self._workload.name, "claude/action": action, "claude/by": "command line"},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
        if not result.success:
            raise _error_of(result)

    def _uninterrupted(self, call: Callable[..., Any], **arguments: Any) -> Any:
        """Let a step end before an interrupt takes effect: an answer under way is recorded.

        In a thread of its own, because Dagster swallows signals while it executes in the main one.
        """
        running = self._thread.submit(call, **arguments)
        try:
            with heard_by(self._screen.now):
                return self._watched(running)
        except KeyboardInterrupt:
            interrupted.set()
            self._screen.still()
            self._screen.stage("stopping", "after this step (again: at once)")
            try:
                running.exception()
            except KeyboardInterrupt:
                os._exit(4)  # safe at any instant: what was sent has its intent, or its mark in a journal
            raise

    def _watched(self, running: Future[Any]) -> Any:
        """The result of a step; says meanwhile how far it is with asking in real time."""
        while True:
            try:
                return running.result(timeout=PROGRESS_SECONDS)
            except TimeoutError:
                if running.done():
                    raise
            if time.monotonic() - self._told_at > ALERT_SECONDS:
                self._tell(survey(self._desk, self._workload))
            rows = self._desk.ledger.asking(at=self._desk.clock())
            told = [told_of(row) for row in rows if row.workload == self._workload.name]
            if told:
                self._screen.now("; ".join(told))


def _error_of(result: Any) -> ClaudePipelineError:
    """The failed step's error as the class it was raised as."""
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            failure = event.step_failure_data
            told = failure.user_failure_data
            if told is not None:
                name = told.metadata.get("error")
                kind = getattr(errors, str(name.value), JobFailed) if name is not None else JobFailed
                return _remade(kind, told.description or "the run failed")
            cause = failure.error
            while cause is not None and cause.cause is not None:
                cause = cause.cause
            return JobFailed(f"{cause.cls_name}: {cause.message.strip()}" if cause else "the run failed")
    return JobFailed("the run failed")


def _remade(kind: type[Any], sentence: str) -> ClaudePipelineError:
    """An error of that class with a ready sentence (its own parts are in the run's events)."""
    if not issubclass(kind, errors.UsageError | errors.Stopped | errors.LedgerError):
        return JobFailed(sentence)
    error: ClaudePipelineError = kind.__new__(kind)
    Exception.__init__(error, sentence)
    return error
