"""Folders of workloads: each file is read by itself."""

from __future__ import annotations

from pathlib import Path

import yaml

from claude_pipeline.workload_folder import load_workloads
from claude_pipeline_tests.factory import attributes


def _put(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    file = folder / "defs.yaml"
    file.write_text(text)
    return file


def _yaml(name: str, **changes: object) -> str:
    document = {"type": "claude_pipeline.ClaudeWorkload", "attributes": attributes(name=name, **changes)}
    return yaml.safe_dump(document)


def test_workloads_come_in_the_order_of_their_folders(tmp_path: Path) -> None:
    _put(tmp_path / "b", _yaml("first"))
    _put(tmp_path / "a", _yaml("second"))
    assert [w.name for w in load_workloads([tmp_path]).workloads] == ["second", "first"]


def test_a_broken_workload_takes_no_other_down(tmp_path: Path) -> None:
    broken = _put(tmp_path / "a", _yaml("a", max_tokens=0))
    unreadable_prompt = _put(tmp_path / "b", _yaml("b", prompt=None, prompt_file="none.txt"))
    _put(tmp_path / "c", _yaml("c"))
    loaded = load_workloads([tmp_path])
    assert [w.name for w in loaded.workloads] == ["c"]
    assert [file for file, _ in loaded.broken] == [broken, unreadable_prompt]
    assert "max_tokens" in loaded.broken[0][1]
    assert "prompt_file" in loaded.broken[1][1]


def test_the_second_of_two_with_one_name_is_reported_with_the_first(tmp_path: Path) -> None:
    first = _put(tmp_path / "one" / "x", _yaml("notes"))
    second = _put(tmp_path / "two" / "x", _yaml("notes"))
    loaded = load_workloads([tmp_path / "one", tmp_path / "two"])
    assert [w.source for w in loaded.workloads] == [first]
    assert loaded.broken[0][0] == second
    assert f"'notes' is taken by {first}" in loaded.broken[0][1]


def test_other_components_and_other_files_are_left_alone(tmp_path: Path) -> None:
    _put(tmp_path / "sling", "type: dagster_sling.SlingReplicationCollectionComponent\nattributes: {}\n")
    (tmp_path / "notes.txt").write_text("type: claude_pipeline.ClaudeWorkload")
    loaded = load_workloads([tmp_path, tmp_path / "missing"])
    assert (loaded.workloads, loaded.broken) == ([], [])
