"""A claim about any input, in two forms: the same few examples in every test run, or new ones for as long as one has.

@claim(80, raw=st.binary())
def test_any_bytes_are_read_or_refused(raw: bytes) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

Check = Callable[..., None]

EXAMPLES_A_ROUND = 200  # of the long form, between two looks at the clock
SECONDS_MAX = 10.0  # for one example; far over any, far under a hang
FAILURES = ".hypothesis/fuzz"  # examples that failed: the long form tries them first


@dataclass(frozen=True)
class Claim:
    """What holds of any input; `check` raises where it does not."""

    name: str
    check: Check
    inputs: dict[str, st.SearchStrategy[Any]]

    def search(self, number: int) -> None:
        """Try one round of new examples; the same number, the same examples. Raises what the check raises."""
        form = settings(
            max_examples=EXAMPLES_A_ROUND,
            deadline=None,
            database=DirectoryBasedExampleDatabase(FAILURES),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        )
        form(seed(number)(given(**self.inputs)(self.check)))()


CLAIMS: list[Claim] = []


def claim(examples: int, **inputs: st.SearchStrategy[Any]) -> Callable[[Check], Check]:
    """Make a check a test of so many examples, and one more claim of the long form."""
    form = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    def taken(check: Check) -> Check:
        CLAIMS.append(Claim(f"{check.__module__.rpartition('.')[2]}.{check.__name__}", check, inputs))
        test: Check = form(given(**inputs)(check))
        return test

    return taken
