"""Addresses within the UI, and the tags by which a run is found."""

from __future__ import annotations

import pytest
from dagster._core.definitions.utils import is_valid_owner

from claude_pipeline.components.about import question
from claude_pipeline.components.key import BATCHES_TAGGED_MAX, key, partition_path, run_tags, runs_path
from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.workload import OWNER
from claude_pipeline_tests.factory import make_workload

OWNERS = [
    ("team:support", True), ("team:my team", True), ("team:", False), ("ada@example.com", True), ("a.b+c@x-y.co.uk", True),
    ("ada", False), ("ada@example", False), ("", False), ("@example.com", False), ("support", False),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "taken"), OWNERS)
def test_owners_are_checked_as_dagster_checks_them(owner: str, taken: bool) -> None:
    assert is_valid_owner(owner) is taken
    assert (OWNER.fullmatch(owner) is not None) is taken


def test_an_owner_that_is_none_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(
        WorkloadInvalid, match=r"'support' is neither an e-mail address nor a team, as in 'team:support'"
    ):
        make_workload(owners=["support"])


def test_a_partition_has_an_address_without_a_host() -> None:
    path = partition_path(key("notes", "results"), "2026-11-22.1|r1-0001")
    assert path == "/assets/notes/results?view=partitions&partition=2026-11-22.1%7Cr1-0001"


def test_the_runs_of_a_batch_are_found_by_its_tag() -> None:
    assert runs_path("msgbatch_1") == "/runs?q[0]=tag%3Adagster%2Fclaude_batch%2Fmsgbatch_1%3Dyes"
    assert run_tags(make_workload(), batches=["msgbatch_1"]) == {
        "claude/workload": "notes",
        "claude/batch": "msgbatch_1",
        "dagster/claude_batch/msgbatch_1": "yes",
    }


def test_a_run_of_one_snapshot_and_several_chunks_names_the_snapshot_only() -> None:
    chunks = ["2026-11-22.1|r1-0001", "2026-11-22.1|r1-0002"]
    assert run_tags(make_workload(), snapshots=["2026-11-22.1"] * 2, chunks=chunks) == {
        "claude/workload": "notes",
        "claude/snapshot": "2026-11-22.1",
    }


def test_no_tag_is_a_list_and_none_grows() -> None:
    batches = [f"msgbatch_{n}" for n in range(BATCHES_TAGGED_MAX + 1)]
    assert run_tags(make_workload(), batches=batches) == {"claude/workload": "notes"}


def test_the_description_shows_both_prompts_and_no_fence_in_them_ends_it() -> None:
    said = question(make_workload(prompt="Sort: {{ text }}\n```\ncode\n```", system="You sort."))
    assert "```text\nYou sort.\n```" in said
    assert "````jinja\nSort: {{ text }}\n```\ncode\n```\n````" in said


def test_a_prompt_file_that_is_gone_is_told_where_the_prompt_would_be() -> None:
    assert "cannot read" in question(make_workload(prompt=None, prompt_file="nowhere.txt"))
