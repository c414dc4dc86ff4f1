"""The thread that answers batches in the background, one after another, as they were taken in.

The answers are written long before the batch's simulated end, so that looking at an ended batch
and downloading its results cost little. What a killed simulator left unfinished is done again.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from array import array
from collections.abc import Callable, Iterator
from itertools import islice

import orjson

from claude_pipeline.simulator.batch import Batch, finishing_order
from claude_pipeline.simulator.fault import LINE_KINDS, read_rules
from claude_pipeline.simulator.line import LineWriter
from claude_pipeline.simulator.message import Writer
from claude_pipeline.simulator.store import Line, Store

_LINES_AT_ONCE = 1_000  # lines between two looks at the stop flag; one transaction
_SCAN_BYTES = 1 << 20
# About every two milliseconds the worker lets go of the interpreter, or the server and the tests in
# this process would wait 5 ms at each of the many times that they need it.
_LINES_A_BREATH = 32
_BREATH_SECONDS = 1e-5


class Worker:
    """Answers batches; `wait_for` lets others wait until one is answered."""

    def __init__(self, store: Store, writer: Writer, seed: int) -> None:
        self._store = store
        self._writer = writer
        self._seed = seed
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._answered = threading.Condition()
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, batch: Batch) -> None:
        with self._starting:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="simulator-worker", daemon=True)
                self._thread.start()
        self._queue.put(batch)

    def wait_for(self, is_answered: Callable[[], bool], seconds: float) -> bool:
        """Wait, at most `seconds` of real time, until `is_answered()`; not while the simulator stops."""
        with self._answered:
            return self._answered.wait_for(lambda: self._stopped.is_set() or is_answered(), seconds) and is_answered()

    def stop(self) -> None:
        """Answer no more, and let nobody wait for it."""
        self._stopped.set()
        with self._answered:
            self._answered.notify_all()

    def close(self) -> None:
        self.stop()
        with self._starting:
            self._queue.put(None)
            if self._thread is not None:
                self._thread.join(timeout=30)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None and not self._stopped.is_set():
            try:
                self._answer(batch)
            except Exception:  # one broken batch must not stop the others; it stays in progress
                traceback.print_exc()

    def _answer(self, batch: Batch) -> None:
        store = self._store
        rules = read_rules(orjson.loads(batch.rules))
        line_writer = LineWriter(store, self._writer, batch, [rule for rule in rules if rule.kind in LINE_KINDS])
        with store.transaction() as db:
            if not db.execute("SELECT 1 FROM batch WHERE id = ?", (batch.id,)).fetchone():
                return  # forgotten by a reset while it waited
            db.execute("DELETE FROM line WHERE batch = ?", (batch.seq,))
        lines = self._lines(batch, line_writer)
        while chunk := list(islice(lines, _LINES_AT_ONCE)):
            if self._stopped.is_set():
                return
            store.insert_lines(chunk)
        with store.transaction() as db:
            db.execute("UPDATE batch SET answered = 1 WHERE seq = ?", (batch.seq,))
        store.spool_path(batch.id).unlink(missing_ok=True)
        with self._answered:
            self._answered.notify_all()

    def _lines(self, batch: Batch, writer: LineWriter) -> Iterator[Line]:
        """Write the results file in the finishing order, and yield its lines for the invoice."""
        spool_path = self._store.spool_path(batch.id)
        offset = 0
        with spool_path.open("rb") as spool, self._store.results_path(batch.id).open("wb", _SCAN_BYTES) as results:
            starts = _line_starts(spool.fileno())
            for position, number in enumerate(finishing_order(self._seed, batch.seq, batch.size)):
                if position % _LINES_A_BREATH == 0:
                    time.sleep(_BREATH_SECONDS)
                start = starts[number]
                spooled = os.pread(spool.fileno(), starts[number + 1] - start - 1, start)
                data, line = writer.write(position, spooled, offset)
                results.write(data)
                offset = line.end_offset
                yield line


def _line_starts(descriptor: int) -> array[int]:
    """Where each line of the spool starts, and where the last one ends."""
    starts = array("q", [0])
    base = 0
    while data := os.pread(descriptor, _SCAN_BYTES, base):
        place = data.find(b"\n")
        while place >= 0:
            starts.append(base + place + 1)
            place = data.find(b"\n", place + 1)
        base += len(data)
    return starts
