"""A broken workload file takes no other workload down in Dagster: it is an asset that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import yaml

from claude_pipeline.definitions import defs
from claude_pipeline_tests.factory import attributes

TYPE = "claude_pipeline.ClaudeWorkload"
GOOD = ("fine", "last")


def text_of(name: str, **changes: object) -> str:
    return yaml.safe_dump({"type": TYPE, "attributes": attributes(name=name, **changes)})


def a_folder(file: Path) -> None:
    file.mkdir()


def a_loop(file: Path) -> None:
    file.symlink_to(file)


def a_dead_link(file: Path) -> None:
    file.symlink_to(file.parent / "gone.yaml")


def write(content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content

    def written(file: Path) -> None:
        file.write_bytes(data)

    return written


BROKEN: list[tuple[str, Callable[[Path], None], str, str]] = [
    # folder, what stands there as defs.yaml, the leaf of the asset, what it says
    ("a_folder", a_folder, "a_folder", "cannot read it"),
    ("a_loop", a_loop, "a_loop", r"cannot read it \(Too many levels of symbolic links\)"),
    ("a_dead_link", a_dead_link, "a_dead_link", r"cannot read it \(No such file"),
    ("empty", write(""), "empty", "is no workload: a workload is a YAML mapping with type:"),
    ("a_list", write("- 1\n"), "a_list", "is no workload"),
    ("utf16", write(text_of("utf16").encode("utf-16")), "utf16", "is not UTF-8; convert it"),
    ("latin1", write(text_of("latin1").replace("Sort", "S\xf6rt").encode("latin-1")), "latin1", "is not UTF-8"),
    ("nul", write(text_of("nul") + "\0"), "nul", "is no YAML"),
    ("half", write(f'type: {TYPE}\nattributes:\n  name: "half\n'), "half", r"defs\.yaml line \d+: "),
    ("deep", write(f"type: {TYPE}\nattributes: " + "[" * 5000), "deep", "line 2: is nested more than 100 deep"),
    ("no_such_day", write(f"type: {TYPE}\nattributes:\n  start_date: 2026-13-45\n"), "no_such_day", "this is no timestamp"),
    ("misspelt_type", write(text_of("x").replace("ClaudeWorkload", "ClaudWorklod")), "misspelt_type", "type: must be"),
    ("no_type", write("attributes: {name: no_type}\n"), "no_type", "type: must be"),
    ("wrong_field", write(text_of("wrong_field", modle="x")), "wrong_field", r"unknown field modle \(did you mean model"),
    ("no_prompt", write(text_of("no_prompt", prompt=None, prompt_file="gone.txt")), "no_prompt", "prompt_file: cannot"),
    ("template", write(text_of("template", prompt="Sort {{ text")), "template", "prompt line 1: unexpected end of templ"),
    ("same_name", write(text_of("fine")), "same_name", "'fine' is taken by .*fine/defs.yaml; choose another"),
    ("Case", write("a: 1\n"), "case", "unknown top-level key 'a'"),
    ("case", write("b: 1\n"), "case_2", "unknown top-level key 'b'"),
    ("case_2", write("c: 1\n"), "case_2_2", "unknown top-level key 'c'"),
    ("it's [1]*", write("d: 1\n"), "unnamed", "unknown top-level key 'd'"),
    ("ops", write(text_of("ops")), "ops", "name: 'ops' is a name of the product itself"),
    ("its_own", write(text_of("broken_workload")), "its_own", "'broken_workload' is a name of the product itself"),
]  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dg.RepositoryDefinition:
    """The code location, with every kind of broken file beside two that are not."""
    folder = tmp_path_factory.mktemp("defs")
    for name in GOOD:
        (folder / name).mkdir()
        (folder / name / "defs.yaml").write_text(text_of(name))
    for name, make, _, _ in BROKEN:
        (folder / name).mkdir()
        make(folder / name / "defs.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAUDE_PIPELINE_DEFS", str(folder))
        patch.setenv("CLAUDE_PIPELINE_HOME", str(folder / "home"))
        loaded = defs()
        dg.Definitions.validate_loadable(loaded)
        return loaded.get_repository_def()


@pytest.mark.parametrize("name", [*GOOD, "tickets"])
def test_whole_workloads_load_beside_broken_ones(repository: dg.RepositoryDefinition, name: str) -> None:
    keys = {key for key in repository.asset_graph.get_all_asset_keys() if key.path[0] == name}
    assert dg.AssetKey([name, "results"]) in keys
    assert repository.has_job(f"{name}_requests")


@pytest.mark.parametrize(("leaf", "sentence"), [pytest.param(leaf, said, id=name) for name, _, leaf, said in BROKEN])
def test_a_broken_file_is_an_asset_that_says_what_is_wrong(
    repository: dg.RepositoryDefinition, leaf: str, sentence: str
) -> None:
    told = repository.asset_graph.get(dg.AssetKey(["broken_workload", leaf])).description or ""
    assert re.search(sentence, told), told
    assert "Traceback" not in told


def test_each_broken_file_has_an_asset_of_its_own(repository: dg.RepositoryDefinition) -> None:
    leaves = [key.path[1] for key in repository.asset_graph.get_all_asset_keys() if key.path[0] == "broken_workload"]
    assert sorted(leaves) == sorted(leaf for _, _, leaf, _ in BROKEN)
