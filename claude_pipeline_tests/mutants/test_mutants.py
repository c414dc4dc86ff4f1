"""The mutants stay in step with the source: each edit still finds its guard, and its tests exist.

`make mutants` runs them all and names the test that fails for each.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from claude_pipeline_tests.mutants.__main__ import ROOT, apply, killer
from claude_pipeline_tests.mutants.guard import MUTANTS, Mutant

NAMES = [mutant.name.partition(":")[0] for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_still_finds_its_guard(mutant: Mutant, tmp_path: Path) -> None:
    for edit in mutant.edits:
        target = tmp_path / edit.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / edit.file, target)
    apply(mutant, tmp_path)
    for edit in mutant.edits:
        compile((tmp_path / edit.file).read_text(encoding="utf-8"), edit.file, "exec")
    assert all((ROOT / test).exists() for test in mutant.tests)


def test_a_mutant_is_caught_by_a_test_that_says_which_guard_is_gone() -> None:
    (mutant,) = (m for m in MUTANTS if m.name.startswith("unique index"))
    assert "test_ledger.py::" in (killer(mutant) or "")
