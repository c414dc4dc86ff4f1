"""Where a path that a workload names leads: beside its YAML first, then the project root, then the current folder."""

from __future__ import annotations

from pathlib import Path

from claude_pipeline.errors import WorkloadInvalid, quoted_value


def found(path: str, source: Path | None, *, place: str) -> Path:
    """A path, or a glob, as the user wrote it, made absolute; in the YAML's folder where nothing is found.

    Raises:
        WorkloadInvalid: no file can have such a name.
        ValueError: no glob, as 'a**b'.
    """
    if "\0" in path:
        raise WorkloadInvalid(f"{quoted_value(path)} is no path: it holds a NUL character; take it out", place=place)
    try:
        return _found(path, source)
    except RuntimeError:  # pathlib's, of an unknown user
        raise WorkloadInvalid(
            f"{quoted_value(path)}: there is no such user; write the whole path", place=place
        ) from None
    except OSError as error:
        raise WorkloadInvalid(f"{quoted_value(path)} is no path: {error.strerror}; correct it", place=place) from None


def _found(path: str, source: Path | None) -> Path:
    written = Path(path).expanduser()
    if written.is_absolute() or source is None:
        written.exists()  # says now whether a file may have that name
        return written.absolute()
    for root in roots(source):
        candidate = root / written
        if candidate.exists() or any(root.glob(path) if any(c in path for c in "*?[") else ()):
            return candidate
    return source.parent / written


def roots(source: Path) -> list[Path]:
    """Where a relative path may start: the YAML's folder, then the project root (the nearest
    folder above with a pyproject.toml or workspace.yaml), then the current folder."""
    above = [p for p in source.parents if (p / "pyproject.toml").exists() or (p / "workspace.yaml").exists()]
    return [source.parent, *above[:1], Path.cwd()]


__all__ = ["found", "roots"]
