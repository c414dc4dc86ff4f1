"""A piece of work in a process of its own: its CPU by getrusage, its peak memory by VmHWM, its stages.

    figure = measured("script", records, folder, base_url=base_url)

The CPU is that of the whole process and of the processes that it started, interpreter and imports included; who
compares two sizes gets the cost of an extra record.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

Note = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """What one process took. `peak_bytes` is of the largest of its processes."""

    work: str
    rows: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    stages: dict[str, float]  # CPU seconds


def measured(work: str, *arguments: object, base_url: str | None = None) -> Figure:
    """Run a work in a process of its own.

    Raises:
        RuntimeError: it failed; its error output was shown.
    """
    command = [sys.executable, "-m", __name__, work, *map(str, arguments)]
    since = time.perf_counter()
    done = subprocess.run(command, env=_environment(base_url), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{work} ended with {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Figure(**{**found, "wall_seconds": time.perf_counter() - since})


def wall_seconds(*words: object, base_url: str) -> float:
    """How long `claude-pipeline` takes with these words, from its start to its end as its caller sees it.

    Raises:
        CalledProcessError: it failed; its error output was shown.
    """
    command = [sys.executable, "-m", "claude_pipeline.cli", *map(str, words)]
    since = time.perf_counter()
    subprocess.run(command, env=_environment(base_url), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - since


def _environment(base_url: str | None) -> dict[str, str]:
    settings = {"ANTHROPIC_API_KEY": "benchmark", "CLAUDE_PIPELINE_TIER": "scale", "PYTHONWARNINGS": "ignore"}
    if base_url is not None:
        settings["ANTHROPIC_BASE_URL"] = base_url
    environment = os.environ | settings
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once, not in every process
    return environment


class _Clock:
    """CPU seconds of this process by stage: a note ends one."""

    def __init__(self) -> None:
        self._last = 0.0
        self.seconds: Counter[str] = Counter()

    def __call__(self, stage: str) -> None:
        now = time.process_time()
        self.seconds[stage] += now - self._last
        self._last = now


def _journey(note: Note, workload: str, home: str) -> int:
    from claude_pipeline_tests.benchmark import journey

    return journey.run(Path(workload), Path(home), note)


def _script(note: Note, records: str, folder: str, chunk: str) -> int:
    from claude_pipeline_tests.benchmark import script

    return script.run(Path(records), Path(folder), int(chunk), note)


def _floor(note: Note, records: str, folder: str, chunk: str) -> int:
    from claude_pipeline_tests.benchmark import floor

    return floor.run(Path(records), Path(folder), int(chunk), note)


def _fixed(work: str) -> Callable[..., int]:
    def done(note: Note, *arguments: str) -> int:
        from claude_pipeline_tests.benchmark import fixed

        return fixed.WORKS[work](note, *arguments)

    return done


def _many_ticks(note: Note, chunks: str, home: str) -> int:
    from claude_pipeline_tests.benchmark import many_ticks

    return many_ticks.many_ticks(note, chunks, home)


WORKS: dict[str, Callable[..., int]] = {
    "journey": _journey, "script": _script, "floor": _floor, "many_ticks": _many_ticks,
    **{name: _fixed(name) for name in ("empty_run", "action", "ticks", "location", "import_dagster")},
}  # fmt: skip


def _cpu_seconds() -> float:
    whose = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in whose)


def peak_bytes() -> int:
    """VmHWM of this process, and of the largest that it started and waited for (Linux; elsewhere 0)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    own = int(status.partition("VmHWM:")[2].split()[0])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


def main(work: str, *arguments: str) -> None:
    clock = _Clock()
    rows = WORKS[work](clock, *arguments)
    stages = dict(clock.seconds)
    print(json.dumps(asdict(Figure(work, rows, _cpu_seconds(), 0.0, peak_bytes(), stages))))


if __name__ == "__main__":
    main(*sys.argv[1:])
