"""The simulated API without HTTP: every operation, its checks, its effect on the store.

One organization; a workspace for each key. Thread-safe.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from claude_pipeline.simulator import batch as life
from claude_pipeline.simulator.batch import Batch
from claude_pipeline.simulator.bend import BENDING_KINDS, bend
from claude_pipeline.simulator.cache import Cache
from claude_pipeline.simulator.clock import SECOND_US, Clock, datetime_of, rfc3339
from claude_pipeline.simulator.error import ApiError, Problem
from claude_pipeline.simulator.fault import Faults, Rule, read_rules
from claude_pipeline.simulator.intake import take_in
from claude_pipeline.simulator.limit import Limiter, find_tier
from claude_pipeline.simulator.line import error_of, strikes_line
from claude_pipeline.simulator.message import Reply, Writer, canonical_json
from claude_pipeline.simulator.model import all_models, find_model
from claude_pipeline.simulator.options import Options
from claude_pipeline.simulator.params import Setting, check_params
from claude_pipeline.simulator.settle import settle
from claude_pipeline.simulator.store import MESSAGES, Line, Store
from claude_pipeline.simulator.worker import Worker

PATIENCE_SECONDS = 5.0  # real ones: how long a look at a batch that is due waits for its answers
DEFAULT_PAGE = 20
MOST_PER_PAGE = 1000


class Api:
    """What the endpoints do. `clock` and `faults` are there to be moved and filled by hand."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._remove: Callable[[], object] | None = None
        if options.state is None:
            directory = Path(tempfile.mkdtemp(prefix="claude-simulator-"))
            self._remove = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        else:
            directory = options.state
        self.store = Store(directory)
        self.clock = self._clock()
        self.faults = Faults(_rules(options))
        self.limiter = Limiter(find_tier(options.tier), options.ramp_minutes)
        self._writer = Writer(options.seed, options.thinking_rate, Cache())
        self._worker = Worker(self.store, self._writer, options.seed)
        for batch in self.store.batches("WHERE NOT answered ORDER BY seq"):
            self._worker.put(batch)

    def stop(self) -> None:
        """Let calls under way end soon; `close` follows."""
        self._worker.stop()

    def close(self) -> None:
        self._worker.close()
        self.store.remember("now_us", self.clock.now_us())
        self.store.close()
        if self._remove is not None:
            self._remove()

    def reset(self) -> None:
        """Forget batches, messages, invoice and faults given later; the clock goes on."""
        self._worker.close()
        self.store.clear()
        self._writer.cache.clear()
        self.limiter.clear()
        self._worker = Worker(self.store, self._writer, self.options.seed)
        self.faults.clear()
        for rule in _rules(self.options):
            self.faults.put(rule)

    # Message Batches

    def create_batch(
        self, body_path: Path, *, workspace: str, version: str, betas: str, rules: Iterable[Rule] = ()
    ) -> Batch:
        """Take in a whole body; its requests are answered in the background."""
        self.limiter.admit_call("batch", self.clock.limit_us())
        self._admit_spend()
        batch_id = f"msgbatch_01{secrets.token_hex(11)}"
        spool_path = self.store.spool_path(batch_id)
        try:
            size_bytes = body_path.stat().st_size
            rules = list(rules)
            models = take_in(body_path, spool_path, [rule for rule in rules if rule.kind == "poison"])
            with self.store.transaction():
                self.limiter.admit_batch(self._queued(), models.total())
                batch = self._new_batch(batch_id, workspace, version, betas, models, size_bytes, rules)
                self.store.insert_batch(batch)
                self.store.remember("now_us", batch.created_us)
        except BaseException:
            spool_path.unlink(missing_ok=True)
            raise
        self._worker.put(batch)
        return batch

    def _new_batch(
        self,
        batch_id: str,
        workspace: str,
        version: str,
        betas: str,
        models: Counter[str],
        size_bytes: int,
        rules: list[Rule],
    ) -> Batch:
        now_us = self.clock.now_us()
        seq = self.store.next_seq()
        size = models.total()
        lines: Counter[str] = Counter()
        for name, count in models.items():
            model = find_model(name)
            lines[model.line if model else "unknown"] += count
        seconds = next((rule.seconds for rule in rules if rule.kind == "take"), None)
        if seconds is None:
            lasting_us = life.duration_us(self.options.seed, seq, lines, self.options.batch_seconds)
            due_us, cap = life.natural_end(now_us, lasting_us, size)
        else:
            due_us, cap = now_us + round(seconds * SECOND_US), size
        share = next((rule.share for rule in rules if rule.kind == "expire"), 0.0)
        if share:
            due_us, cap = now_us + life.EXPIRY_US, size - max(1, round(size * share))
        lag = max((rule.seconds for rule in rules if rule.kind == "list_lag"), default=0.0)
        kept = [rule.as_json() for rule in rules if rule.is_for_batch]
        return Batch(
            seq=seq,
            id=batch_id,
            workspace=workspace,
            version=version,
            betas=betas,
            created_us=now_us,
            due_us=due_us,
            cap=cap,
            size=size,
            size_bytes=size_bytes,
            rules=orjson.dumps(kept).decode(),
            visible_us=now_us + round(lag * SECOND_US),
            answered=0,
            cancel_us=None,
            ended_us=None,
            deleted=0,
            succeeded=0,
            errored=0,
            canceled=0,
            expired=0,
            billed=0,
            cost_pico=0,
        )

    def batch(self, batch_id: str, workspace: str) -> Batch:
        """The batch as it is now. Raises 404."""
        self.limiter.admit_call("batch", self.clock.limit_us())
        return self._found(batch_id, workspace)

    def batches(
        self, workspace: str, limit: int, after_id: str | None, before_id: str | None
    ) -> tuple[list[Batch], bool]:
        """A page, newest first, and whether there are more in the direction that was asked."""
        self.limiter.admit_call("batch", self.clock.limit_us())
        now_us = self.clock.now_us()
        where = "WHERE workspace = ? AND NOT deleted AND visible_us <= ?"
        values: list[Any] = [workspace, now_us]
        order = "DESC"
        if after_id is not None:
            where += " AND seq < ?"
            values.append(self._found(after_id, workspace).seq)
        elif before_id is not None:
            where += " AND seq > ?"
            values.append(self._found(before_id, workspace).seq)
            order = "ASC"
        found = self.store.batches(f"{where} ORDER BY seq {order} LIMIT ?", [*values, limit + 1])
        more = len(found) > limit
        page = found[:limit]
        if order == "ASC":
            page.reverse()
        deadline = time.monotonic() + PATIENCE_SECONDS
        return [self._as_of(batch, now_us, deadline) for batch in page], more

    def cancel_batch(self, batch_id: str, workspace: str) -> Batch:
        """Ask a running batch to stop. Raises 404; 400 when it has ended."""
        self.limiter.admit_call("batch", self.clock.limit_us())
        batch = self._found(batch_id, workspace)
        if batch.ended_us is not None:
            raise ApiError(400, f"Batch {batch_id} cannot be canceled because it has already ended.")
        with self.store.transaction() as db:
            db.execute(
                "UPDATE batch SET cancel_us = ? WHERE seq = ? AND cancel_us IS NULL AND ended_us IS NULL",
                (self.clock.now_us(), batch.seq),
            )
        return self._found(batch_id, workspace)

    def delete_batch(self, batch_id: str, workspace: str) -> None:
        """Remove an ended batch from sight; it stays on the invoice. Raises 404; 400 before its end."""
        self.limiter.admit_call("batch", self.clock.limit_us())
        batch = self._found(batch_id, workspace)
        if batch.ended_us is None:
            raise ApiError(400, f"Batch {batch_id} cannot be deleted before it has ended; cancel it first.")
        with self.store.transaction() as db:
            db.execute("UPDATE batch SET deleted = 1 WHERE seq = ?", (batch.seq,))
        self.store.spool_path(batch_id).unlink(missing_ok=True)
        self.store.results_path(batch_id).unlink(missing_ok=True)

    def results(self, batch_id: str, workspace: str) -> Path:
        """The results file. Raises 404; 400 before the end; 404 after 29 days."""
        self.limiter.admit_call("batch", self.clock.limit_us())
        batch = self._found(batch_id, workspace)
        if batch.ended_us is None:
            raise ApiError(400, f"Batch {batch_id} has not ended; its results are not yet available.")
        if self.clock.now_us() >= batch.created_us + life.ARCHIVE_US:
            raise ApiError(404, f"The results of batch {batch_id} are no longer available.")
        return self.store.results_path(batch_id)

    def _found(self, batch_id: str, workspace: str) -> Batch:
        batch = self.store.batch(batch_id, workspace)
        if batch is None:
            raise ApiError(404, f"No batch found with ID: {batch_id}")
        return self._as_of(batch, self.clock.now_us(), time.monotonic() + PATIENCE_SECONDS)

    def _as_of(self, batch: Batch, now_us: int, deadline: float) -> Batch:
        """The batch brought to its end if that is past; waits a little for answers still being written."""
        if batch.ended_us is not None or life.end_of(batch).at_us > now_us:
            return batch
        if not self._worker.wait_for(lambda: self._is_answered(batch.seq), max(0.0, deadline - time.monotonic())):
            return batch
        return settle(self.store, batch.seq, now_us)

    def state_of(self, batch_id: str, workspace: str) -> str:
        """in_progress, canceling or ended; empty for no batch. No call of the API: the limits do not count it."""
        try:
            return life.state_of(self._found(batch_id, workspace))
        except ApiError:
            return ""

    def _is_answered(self, seq: int) -> bool:
        found = self.store.rows("SELECT answered FROM batch WHERE seq = ?", (seq,))
        return not found or bool(found[0][0])

    def _queued(self) -> int:
        """Requests of batches that have not reached their end, over all workspaces."""
        now_us = self.clock.now_us()
        running = self.store.batches("WHERE ended_us IS NULL")
        return sum(batch.size for batch in running if life.end_of(batch).at_us > now_us)

    def settle_all(self) -> None:
        """Bring every batch that is due to its end, as a look at each would."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for batch in self.store.batches("WHERE ended_us IS NULL ORDER BY seq"):
            self._as_of(batch, self.clock.now_us(), deadline)

    # Messages and models

    def message(
        self, params: Any, *, workspace: str, version: str, betas: str, request_id: str, rules: Iterable[Rule] = ()
    ) -> tuple[Reply, dict[str, str]]:
        """Answer at once, and bill it. Returns the reply and the rate-limit headers."""
        now_us = self.clock.now_us()
        setting = Setting(version, tuple(betas.split(",")), batch=False, now_us=now_us)
        # How an answer travels is no part of the question.
        question = {name: value for name, value in params.items() if name != "stream"}
        canonical = _canonical(question)
        checked = check_params(params, setting)
        if isinstance(checked, Problem):
            raise ApiError.of(checked)
        self._admit_spend()
        model, input_tokens = checked
        cached = self._writer.readable(params, canonical, model, workspace, now_us)
        self.limiter.admit_message(model, input_tokens - cached, self.clock.limit_us())
        digest = hashlib.sha256(canonical).digest()
        for rule in rules:
            if rule.kind == "line_error" and strikes_line(rule, self.store, digest, request_id, params["model"]):
                problem = error_of(rule)
                self._note_message(Line.failed(MESSAGES, request_id, digest, problem.type, now_us))
                raise ApiError.of(problem)
        reply = self._writer.reply(
            params, canonical, setting, name=request_id, place="", scope=workspace, priced_us=now_us
        )
        if isinstance(reply, Problem):
            raise ApiError.of(reply)
        for rule in rules:
            if rule.kind in BENDING_KINDS and strikes_line(rule, self.store, digest, request_id, params["model"]):
                bend(reply.message, rule.kind, rule.form)
        line = Line(
            MESSAGES, 0, request_id, digest, reply.token, reply.model, reply.tokens, reply.cost_pico, "succeeded",
            None, now_us, 0,
        )  # fmt: skip
        self._note_message(line)
        headers = self.limiter.note_output(model, reply.tokens.output, self.clock.limit_us())
        return reply, headers

    def _note_message(self, line: Line) -> None:
        self.store.add_message(line, rfc3339(line.at_us)[:7])

    def count_tokens(self, params: Any, *, version: str, betas: str) -> int:
        """Input tokens of a request that needs no `max_tokens`."""
        self.limiter.admit_call("count_tokens", self.clock.limit_us())
        now_us = self.clock.now_us()
        setting = Setting(version, tuple(betas.split(",")), batch=False, now_us=now_us, counting=True)
        checked = check_params(params, setting)
        if isinstance(checked, Problem):
            raise ApiError.of(checked)
        return checked[1]

    def model(self, name: str) -> dict[str, Any]:
        found = find_model(name)
        if found is None:
            raise ApiError(404, f"model: {name}")
        return found.as_json(self.clock.now_us())

    def models(self, lifecycles: set[str]) -> list[dict[str, Any]]:
        """Newest first; by default what is active or deprecated."""
        now_us = self.clock.now_us()
        wanted = lifecycles or {"active", "deprecated"}
        return [model.as_json(now_us) for model in all_models() if model.lifecycle(now_us) in wanted]

    def _admit_spend(self) -> None:
        self.limiter.admit_spend(self.store.spend(rfc3339(self.clock.now_us())[:7]))

    def _clock(self) -> Clock:
        kept = self.store.recall("now_us")
        start = self.options.start or datetime.now(UTC)
        if kept is not None:
            start = max(start, datetime_of(kept))
        return Clock(start, self.options.speed, paused=self.options.paused)


def _rules(options: Options) -> list[Rule]:
    """The options' faults, and the two rates as the rules they stand for."""
    entries: list[dict[str, Any]] = []
    for endpoint in ("create", "messages"):
        if options.error_rate:
            entries.append({"kind": "line_error", "endpoint": endpoint, "share": options.error_rate, "attempts": 1})
        if options.permanent_error_rate:
            entries.append(
                {
                    "kind": "line_error",
                    "endpoint": endpoint,
                    "share": options.permanent_error_rate,
                    "error_type": "invalid_request_error",
                    "seed": 1,
                }
            )
    return [*read_rules(entries), *read_rules(options.faults)]


def _canonical(params: Any) -> bytes:
    try:
        return canonical_json(params)
    except orjson.JSONEncodeError as wrong:
        raise ApiError(400, f"The request body is not valid JSON: {wrong}") from wrong
