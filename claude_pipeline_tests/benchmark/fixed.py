"""What is paid whatever the number of records: a Dagster run, a tick of the sensor, loading the code location, a small run.

Each in a process of its own, as Dagster and the command line start them. The floor of a run is an empty job on the same
kind of instance.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from claude_pipeline_tests.benchmark.batch_api import running
from claude_pipeline_tests.benchmark.compare import WORKLOAD
from claude_pipeline_tests.benchmark.process import Figure, Note, measured, wall_seconds
from claude_pipeline_tests.benchmark.records import PROMPT, write_records

RECORDS = 1_000
TICKS = 15
PARTITION = "2026-11-22"
RUN_ABOVE_FLOOR_SECONDS = 1.5  # CPU
IDLE_TICK_SECONDS = 0.150  # CPU
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Row = tuple[str, float, str, float | None]


def rows(*, rounds: int) -> list[Row]:
    """What, value, unit, and what it may be at most."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        records = write_records(root / "records.parquet", RECORDS)
        return [*_runs(root, records, rounds), *_loading(rounds), *_small_run(root, records, rounds)]


def _runs(root: Path, records: Path, rounds: int) -> list[Row]:
    found: dict[str, list[Figure]] = {}

    def keep(name: str, figure: Figure) -> None:
        found.setdefault(name, []).append(figure)

    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=root) as place, running() as base_url:
            workload, home = workload_file(Path(place), records), Path(place) / "home"
            keep("empty", measured("empty_run", home))
            for action in ("requests", "submit", "look", "collect", "finalize"):
                keep(action, measured("action", workload, home, action, base_url=base_url))
            keep("ticks", measured("ticks", workload, home, base_url=base_url))
    cpu = {name: statistics.median(figure.cpu_seconds for figure in figures) for name, figures in found.items()}
    lines: list[Row] = [("an empty Dagster run, in a process of its own: CPU (the floor)", cpu["empty"], "s", None)]
    for action in ("submit", "collect"):
        lines.append((f"a {action} run above the floor: CPU", cpu[action] - cpu["empty"], "s", RUN_ABOVE_FLOOR_SECONDS))
    tick = statistics.median(figure.stages["tick"] for figure in found["ticks"])
    return [*lines, ("a tick with nothing to do: CPU", tick, "s", IDLE_TICK_SECONDS)]


def _loading(rounds: int) -> list[Row]:
    seconds = {
        work: statistics.median(measured(work).cpu_seconds for _ in range(rounds))
        for work in ("location", "import_dagster")
    }
    return [
        ("loading the code location: CPU", seconds["location"], "s", None),
        ("importing Dagster alone: CPU", seconds["import_dagster"], "s", None),
    ]


def _small_run(root: Path, records: Path, rounds: int) -> list[Row]:
    ours, theirs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=root) as place, running() as base_url:
            workload, home = workload_file(Path(place), records), Path(place) / "home"
            ours.append(wall_seconds("run", workload, "--home", home, "--quiet", base_url=base_url))
            theirs.append(measured("script", records, place, 10_000, base_url=base_url).wall_seconds)
    run, script = statistics.median(ours), statistics.median(theirs)
    return [
        (f"the script on {RECORDS:,} records: wall", script, "s", None),
        (f"claude-pipeline run on {RECORDS:,} records: wall", run, "s", 1.5 * script + 3),
    ]


def workload_file(folder: Path, records: Path) -> Path:
    """A workload over these records, with one chunk."""
    path = folder / "defs.yaml"
    prompt = orjson.dumps(PROMPT.replace("{text}", "{{ text }}")).decode()
    path.write_text(WORKLOAD.format(records=records, chunk=10_000, prompt=prompt), encoding="utf-8")
    return path


# The works, each in a process of its own.


def empty_run(note: Note, home: str) -> int:
    """A job of one op that does nothing, on an instance as ours."""
    import dagster as dg

    from claude_pipeline.cli.dagster_home import open_instance
    from claude_pipeline.home import Home

    @dg.op
    def nothing() -> None:
        pass

    @dg.job
    def empty() -> None:
        nothing()

    root = Home(Path(home))
    root.root.mkdir(parents=True, exist_ok=True)
    with open_instance(root) as instance:
        defs = dg.Definitions(jobs=[empty], executor=dg.in_process_executor)
        assert (
            defs.get_repository_def().get_job("empty").execute_in_process(instance=instance, run_config=QUIET).success
        )
    return 0


def action(note: Note, workload_file: str, home: str, kind: str) -> int:
    """One job of a workload, as the controller launches it; `look` only asks the API what has ended."""
    from claude_pipeline.settings import Settings
    from claude_pipeline.stage.collect import look
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.workload_file import read_workload

    settings = Settings.from_environment().with_home(Path(home))
    if kind == "look":
        with open_desk(settings) as desk:
            look(desk)
        return 0
    from claude_pipeline.cli.dagster_home import open_instance
    from claude_pipeline.components.claude_workload import job_name
    from claude_pipeline.components.compose import compose
    from claude_pipeline.components.desk_resource import DeskResource

    workload = read_workload(Path(workload_file))
    repository = compose([workload], desk=DeskResource(home=home)).get_repository_def()
    with open_instance(settings.home) as instance:
        done = repository.get_job(job_name(workload, kind)).execute_in_process(
            instance=instance,
            partition_key=PARTITION if kind in ("requests", "finalize") else None,
            run_config=QUIET,
        )
    assert done.success
    return 0


def ticks(note: Note, workload_file: str, home: str) -> int:
    """Ticks of the sensor where nothing is left to do, as a code server that has warmed up makes them."""
    import dagster as dg

    from claude_pipeline.cli.dagster_home import open_instance
    from claude_pipeline.components.compose import compose
    from claude_pipeline.components.desk_resource import DeskResource
    from claude_pipeline.components.sensor import NAME
    from claude_pipeline.home import Home
    from claude_pipeline.workload_file import read_workload

    workload = read_workload(Path(workload_file))
    repository = compose([workload], desk=DeskResource(home=home)).get_repository_def()
    sensor = repository.get_sensor_def(NAME)
    seconds = []
    with open_instance(Home(Path(home))) as instance:
        for _ in range(TICKS):
            resources = {"desk": DeskResource(home=home)}
            before = time.process_time()
            with dg.build_sensor_context(
                instance=instance, repository_def=repository, sensor_name=NAME, resources=resources
            ) as context:
                found = sensor.evaluate_tick(context)
            seconds.append(time.process_time() - before)
            assert not found.run_requests, found.run_requests
            assert found.skip_message == "nothing to do", found.skip_message
    note.seconds["tick"] = statistics.median(seconds)  # type: ignore[attr-defined]
    return 0


def location(note: Note) -> int:
    """The code location, as Dagster's server loads it."""
    from claude_pipeline.definitions import defs

    defs()
    return 0


def import_dagster(note: Note) -> int:
    import dagster  # noqa: F401

    return 0


WORKS: dict[str, Callable[..., int]] = {
    "empty_run": empty_run, "action": action, "ticks": ticks, "location": location, "import_dagster": import_dagster,
}  # fmt: skip
