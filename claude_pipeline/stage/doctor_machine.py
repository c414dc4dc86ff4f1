"""What `doctor` tells of this machine: versions, environment, home, disk."""

from __future__ import annotations

import difflib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from claude_pipeline.catalog import load
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.home import Home, is_of_a_group, temporary_files
from claude_pipeline.settings import PREFIX, VARIABLES, Settings
from claude_pipeline.stage.finding import AGAIN, Finding, Verdict, many, wrong

DISTRIBUTION = "claude-pipeline"
SHOWN = ("anthropic", "dagster", "duckdb", "pandas", "pyarrow", "sqlalchemy")
DISK_BYTES_LEAST, DISK_BYTES_GOOD = 500_000_000, 5_000_000_000
# Their flock may hold on one machine only, or not at all.
SHARED_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"}
)


def check_versions() -> Iterator[Finding]:
    try:
        wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
        ours = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Finding("versions", Verdict.WARNING, f"{DISTRIBUTION} runs without being installed", "pip install -e .")
        return
    unmet = list(judge_requirements(wanted, _installed))
    for fact, way_out in unmet:
        yield Finding("versions", Verdict.WRONG, fact, way_out, 2)
    if not unmet:
        shown = ", ".join(f"{name} {_installed(name)}" for name in SHOWN)
        yield Finding("versions", Verdict.OK, f"{DISTRIBUTION} {ours} on Python {platform.python_version()}: {shown}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def judge_requirements(
    wanted: Sequence[Requirement], installed: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """What is missing or of another version, and the command that mends it; extras are nobody's duty."""
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            has = f"is {version}" if version else "is missing"
            need = f"{requirement.name}{requirement.specifier}"
            yield f"{requirement.name} {has}, {need} is needed", f"pip install '{need}'"


def check_environment(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    fine = True
    for name in sorted(name for name in environment if name.startswith(PREFIX) and name not in VARIABLES):
        near = difflib.get_close_matches(name, sorted(VARIABLES), n=1)
        meant = f"rename it to {near[0]}" if near else "unset it; the README lists all there are"
        yield Finding("environment", Verdict.WARNING, f"{name} is set, and nothing reads it", meant)
        fine = False
    for name in ("CLAUDE_PIPELINE_CRASH_AT", "CLAUDE_PIPELINE_PAUSE_AT"):
        if environment.get(name):
            yield Finding(
                "environment", Verdict.WARNING, f"{name} kills or stops processes: it is for tests", "unset it"
            )
            fine = False
    try:
        load(settings.catalog).tier(settings.tier)
    except ClaudePipelineError as error:
        yield wrong("environment", error, "give CLAUDE_PIPELINE_TIER and CLAUDE_PIPELINE_CATALOG what they need")
        fine = False
    if fine:
        wall = "no budget over all workloads" if settings.budget_usd is None else f"budget ${settings.budget_usd:,.2f}"
        yield Finding("environment", Verdict.OK, f"tier {settings.tier}, {wall}")


def check_home(home: Home) -> Iterator[Finding]:
    there = _nearest(home.root)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "home",
            Verdict.WRONG,
            f"{home.root} cannot be written",
            "name another folder with --home or CLAUDE_PIPELINE_HOME",
            2,
        )
        return
    if (kind := file_system_of(there, _mounts())) in SHARED_FILE_SYSTEMS:
        yield Finding(
            "home",
            Verdict.WRONG,
            f"{home.root} is on {kind}, where locks may not hold",
            "put the home on a local disk",
            2,
        )
    if there != home.root:
        yield Finding("home", Verdict.OK, f"{home.root} is not there yet; the first run makes it")
        return
    fine = True
    open_to_others = _open_to_others(home)
    if open_to_others:
        yield Finding(
            "home",
            Verdict.WARNING,
            f"others on this machine can read {', '.join(map(str, open_to_others))}",
            f"chmod -R go-rwx {home.root}   (for a group: chgrp -R GROUP, and chmod 2750)",
        )
        fine = False
    stale = temporary_files(home)
    if stale:
        yield Finding(
            "home",
            Verdict.WARNING,
            f"{many(len(stale), 'temporary file')} of a process that died",
            "claude-pipeline prune",
        )
        fine = False
    if fine:
        yield Finding("home", Verdict.OK, f"{home.root}")


def _open_to_others(home: Home) -> list[Path]:
    """The home, its ledger and its warehouse, as far as more people than meant can read them."""
    kept = [home.root, home.ledger, home.warehouse]
    of_a_group = is_of_a_group(home.root)
    closed = home.root.stat().st_mode & (0o007 if of_a_group else 0o077) == 0
    mask = 0o007 if of_a_group else 0o077
    return [] if closed else [path for path in kept if path.exists() and path.stat().st_mode & mask]


def _nearest(path: Path) -> Path:
    """The path, or of what is above it the nearest that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def check_disk(home: Home) -> Iterator[Finding]:
    if (there := _nearest(home.root)).is_dir():
        usage = shutil.disk_usage(there)
        yield judge_disk(usage.free, usage.total)


def judge_disk(free_bytes: int, total_bytes: int) -> Finding:
    fact = f"{free_bytes / 1e9:,.1f} GB of {total_bytes / 1e9:,.0f} GB are free"
    way_out = "make room, or name a home on another disk; claude-pipeline prune removes what is past its retention"
    if free_bytes < DISK_BYTES_LEAST:
        return Finding("disk", Verdict.WRONG, fact, way_out, AGAIN)
    if free_bytes < DISK_BYTES_GOOD:
        return Finding("disk", Verdict.WARNING, f"{fact}; a million records need about 2 GB", way_out)
    return Finding("disk", Verdict.OK, fact)


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def file_system_of(path: Path, mounts: str) -> str | None:
    """The kind of file system a path lies on, by the text of /proc/self/mountinfo; None: not told."""
    best, kind = Path("/"), None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split(" ")[4].replace("\\040", " "))
        if path.is_relative_to(point) and point.is_relative_to(best):
            best, kind = point, rest.split(" ")[0]
    return kind
