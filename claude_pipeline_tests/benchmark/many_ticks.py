"""The whole tick of the sensor in both lanes, and what people look at, over a snapshot of ten thousand chunks; in a process
of its own.

| chunks | of which |
|---|---|
| mixed | half collected, a hundred at the API, the rest waits |
| ready | all wait to be sent |
| live | all at the API, though by default no more than a hundred are |
| ended | all to be collected |
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import update

from claude_pipeline.home import Home
from claude_pipeline.ledger import ChunkState, Ledger, table
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests.benchmark.batch_api import running
from claude_pipeline_tests.benchmark.many_chunks import LIVE, TICK_SECONDS, Row, fill
from claude_pipeline_tests.benchmark.process import Note, measured
from claude_pipeline_tests.factory import make_workload

TICKS = 3
LANES: tuple[Literal["batch", "auto"], ...] = ("batch", "auto")  # `auto` looks in each tick for what will be late
PLACES = ("mixed", "ready", "live", "ended")
LOOKS = ("status", "report", "metadata")
LOOK_SECONDS = 5.0  # what a person waits for
METADATA_KB = 500.0


def rows(chunks: int) -> list[Row]:
    """What, value, unit, and what it may be at most."""
    found: list[Row] = []
    for place in PLACES:
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder))
            with Ledger.open(None, path=home.ledger) as ledger:
                known = filled(ledger, chunks, place)
            with running(known) as base_url:
                figure = measured("many_ticks", chunks, home.root, base_url=base_url)
        for lane, what in itertools.product(LANES, ("wall", "CPU")):
            bound = TICK_SECONDS if what == "wall" else None
            name = f"a tick, {chunks:,} chunks {place}, lane: {lane}: {what}"
            found.append((name, figure.stages[f"{lane} {what}"], "s", bound))
        if place == "mixed":
            found += [(f"{name}, {chunks:,} chunks: CPU", figure.stages[name], "s", LOOK_SECONDS) for name in LOOKS]
            found.append((f"metadata of an asset, {chunks:,} chunks", figure.stages["size"], "KB", METADATA_KB))
    return found


def filled(ledger: Ledger, chunks: int, place: str) -> dict[str, int]:
    """A ledger of so many chunks; the batches of it that the API has not ended, with their requests."""
    now = datetime.now(UTC)
    live = fill(ledger, chunks, now=now, collected=chunks // 2 if place == "mixed" else 0,
                live={"mixed": LIVE, "ready": 0}.get(place, chunks))  # fmt: skip
    with ledger._writing() as connection:
        ended = ~table.batch.c.id.in_(live) if place != "ended" else table.batch.c.id.is_not(None)
        connection.execute(update(table.batch).where(ended).values(ended_at=now))
        if place == "ended":
            connection.execute(update(table.chunk).values(state=ChunkState.ENDED))
    return dict.fromkeys(live, 100) if place != "ended" else {}


def many_ticks(note: Note, chunks: str, home: str) -> int:
    """The work: ticks as a code server that has warmed up makes them, then what people look at."""
    import dagster as dg

    from claude_pipeline.cli.dagster_home import open_instance
    from claude_pipeline.components.compose import compose
    from claude_pipeline.components.desk_resource import DeskResource
    from claude_pipeline.components.partition import add_chunk_partitions
    from claude_pipeline.components.sensor import NAME
    from claude_pipeline.settings import Settings
    from claude_pipeline.stage.desk import open_desk

    resources = {"desk": DeskResource(home=home)}
    with open_instance(Home(Path(home))) as instance, open_desk(Settings(Home(Path(home)))) as desk:
        workload = make_workload()
        known = desk.ledger.chunks(workload.name)
        add_chunk_partitions(instance, workload, [chunk.partition_key for chunk in known])
        seconds = note.seconds  # type: ignore[attr-defined]
        for lane in LANES:
            repository = compose([make_workload(lane=lane)], desk=resources["desk"]).get_repository_def()
            sensor = repository.get_sensor_def(NAME)
            walls, cpus = [], []
            for _ in range(1 + TICKS):
                wall, cpu = time.perf_counter(), time.process_time()
                with dg.build_sensor_context(
                    instance=instance, repository_def=repository, sensor_name=NAME, resources=resources
                ) as context:
                    sensor.evaluate_tick(context)
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
            seconds[f"{lane} wall"], seconds[f"{lane} CPU"] = statistics.median(walls[1:]), statistics.median(cpus[1:])
        if any(chunk.state is ChunkState.DONE for chunk in known):
            _look(desk, workload, seconds)
    return int(chunks)


def _look(desk: Desk, workload: Workload, seconds: dict[str, float]) -> None:
    """CPU seconds of each look, and the size of what an asset's page shows."""
    from claude_pipeline.cli.status import gather
    from claude_pipeline.components import metadata
    from claude_pipeline.components.drawing import pictures
    from claude_pipeline.report import summarize

    (snapshot,) = desk.ledger.snapshots(workload.name)
    acts: dict[str, Callable[[], object]] = {
        "status": lambda: gather(desk),
        "report": lambda: summarize(desk, workload, snapshot),
        "metadata": lambda: (pictures(desk, workload, snapshot), metadata.failures(desk, workload, snapshot.id)),
    }
    for name, act in acts.items():
        before = time.process_time()
        found = act()
        seconds[name] = time.process_time() - before
    seconds["size"] = len(str(found).encode()) / 1000
