"""The wheel: what it holds, and whether it works where nothing else of the project is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "claude_pipeline"
# Where the package is installed these must do, without a key and without a network.
CHECKS = (
    ("claude-pipeline", "--help"),
    ("claude-pipeline", "catalog"),
    ("claude-pipeline", "simulate", "--help"),
    ("python", "-W", "ignore", "-c", "import claude_pipeline.definitions as d; assert d.defs().assets"),
    ("python", "-m", "pip", "check"),
)


def build(folder: Path) -> Path:
    """The wheel, built from a copy of the sources without the network; setuptools is of this environment."""
    source, target = folder / "source", folder / "wheel"
    leave = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=leave)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    built = subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=source, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return next(target.glob("*.whl"))


def files_in(wheel: Path) -> set[str]:
    """Its files of the package, as paths below its root."""
    with zipfile.ZipFile(wheel) as held:
        return {name for name in held.namelist() if not name.split("/")[0].endswith(".dist-info")}


def files_here() -> set[str]:
    """The package's files in this checkout."""
    found = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def works_alone(wheel: Path, folder: Path) -> list[str]:
    """Install the wheel into a new environment and try it in an empty folder; what failed, with its last line."""
    home, empty = folder / "venv", folder / "empty"
    empty.mkdir()
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    subprocess.run([python, "-m", "pip", "install", "-qq", *constraints, str(wheel)], check=True)
    failed = []
    for command, *words in CHECKS:
        done = subprocess.run(
            [str(home / "bin" / command), *words], cwd=empty, capture_output=True, text=True, check=False
        )
        if done.returncode:
            failed.append(f"{command} {' '.join(words)}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return failed
