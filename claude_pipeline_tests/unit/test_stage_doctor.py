"""What the doctor decides by facts alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from claude_pipeline.stage.doctor import judge_clock
from claude_pipeline.stage.doctor_machine import file_system_of, judge_disk, judge_requirements
from claude_pipeline.stage.finding import Finding, Verdict, exit_code_of


@pytest.mark.parametrize(
    ("skew_seconds", "error_seconds", "verdict"),
    [
        pytest.param(0.2, 0.6, Verdict.OK, id="right"),
        pytest.param(-8.0, 6.0, Verdict.OK, id="perhaps right: the answer took long"),
        pytest.param(30.0, 0.6, Verdict.WARNING, id="half a minute"),
        pytest.param(-3_600.0, 0.6, Verdict.WRONG, id="an hour"),
    ],
)
def test_a_clock_is_judged_by_what_is_certain(skew_seconds: float, error_seconds: float, verdict: Verdict) -> None:
    assert judge_clock(skew_seconds, error_seconds).verdict is verdict


@pytest.mark.parametrize(
    ("free_bytes", "verdict"), [(10**8, Verdict.WRONG), (10**9, Verdict.WARNING), (10**11, Verdict.OK)]
)
def test_a_disk_is_judged_by_what_is_free(free_bytes: int, verdict: Verdict) -> None:
    assert judge_disk(free_bytes, 10**12).verdict is verdict


@pytest.mark.parametrize(
    ("wanted", "unmet"),
    [
        pytest.param("duckdb>=2,<3", [], id="there"),
        pytest.param("duckdb>=3", [("duckdb is 2.0.0, duckdb>=3 is needed", "pip install 'duckdb>=3'")], id="older"),
        pytest.param(
            "pandas>=3", [("pandas is missing, pandas>=3 is needed", "pip install 'pandas>=3'")], id="missing"
        ),
        pytest.param('pandas>=3; extra == "test"', [], id="of an extra"),
    ],
)
def test_versions_are_compared_with_what_is_needed(wanted: str, unmet: list[tuple[str, str]]) -> None:
    assert list(judge_requirements([Requirement(wanted)], {"duckdb": "2.0.0"}.get)) == unmet


def test_the_nearest_mount_tells_the_file_system() -> None:
    mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /mnt/my\\040share rw,relatime shared:1 - nfs4 srv:/x rw\n"

    assert file_system_of(Path("/home/me"), mounts) == "ext4"
    assert file_system_of(Path("/mnt/my share/home"), mounts) == "nfs4"
    assert file_system_of(Path("/home"), "") is None


def test_the_first_wrong_finding_gives_the_exit_code() -> None:
    found = [
        Finding("a", Verdict.WARNING, "", exit_code=9),
        Finding("b", Verdict.WRONG, "", exit_code=2),
        Finding("c", Verdict.WRONG, "", exit_code=3),
    ]

    assert (exit_code_of(found), exit_code_of(found[:1])) == (2, 0)
