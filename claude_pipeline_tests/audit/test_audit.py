"""What comes with the package may be used, is listed, and the wheel holds every file that the package reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pipeline_tests.audit import licence, wheel


def test_every_dependency_has_a_licence_that_is_taken() -> None:
    assert [each.problem for each in licence.licences() if each.problem] == []


def test_the_list_of_licences_is_true() -> None:
    assert licence.LIST.read_text(encoding="utf-8") == licence.table(licence.licences()), "run `make audit`"


@pytest.mark.parametrize(
    ("name", "fine"), [("MIT", True), ("MPL-2.0 AND (Apache-2.0 OR MIT)", True), ("GPL-3.0-only", False), ("MIT AND AGPL-3.0", False), (None, False)]
)  # fmt: skip
def test_a_licence_is_taken_only_whole(name: str | None, fine: bool) -> None:
    assert (licence.Licence("some", "1.0", name).problem is None) == fine


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    assert wheel.files_in(wheel.build(tmp_path)) == wheel.files_here()
