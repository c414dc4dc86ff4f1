"""Which model a record is asked of: a fixed one, the first route whose condition holds, or a cascade.

route     ordered; the first `when:` that is true decides, the last entry has none and takes the rest
cascade   the first model is asked first; what it does not answer well goes to the next one

Words only: conditions are SQL, and `dataset.predicate` checks and evaluates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

ENTRIES_MAX = 50  # of a route: each is one CASE branch over every record
LEVELS_MAX = 5  # of a cascade: each is one fingerprint more in the plan


class Route(BaseModel):
    """One entry of `route:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str | None = Field(
        None, description="SQL over the record's columns; null counts as false. The last has none."
    )
    model: str = Field(min_length=1, description="Asked of the records for which it is the first that holds.")


class Level(BaseModel):
    """One entry of `cascade:`; a model's id alone means `{model: id}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, strict=True, description="Instead of the workload's.")

    @model_validator(mode="before")
    @classmethod
    def _id_alone(cls, given: Any) -> Any:
        return {"model": given} if isinstance(given, str) else given


def problem_of(
    model: str, route: Sequence[Route] | None, cascade: Sequence[Level] | None, gives_up_when: str | None
) -> str | None:
    """What is wrong with a choice of models, in a sentence; None where nothing is."""
    if sum((bool(model), route is not None, cascade is not None)) != 1:
        return "give exactly one of model:, route: and cascade:"
    if gives_up_when is not None and cascade is None:
        return "gives_up_when: says what a cascade: passes on; this workload has none"
    if route is not None:
        return _route_problem(route)
    return _cascade_problem(cascade) if cascade is not None else None


def _route_problem(route: Sequence[Route]) -> str | None:
    if not route or route[-1].when is not None:
        return "route: the last entry takes the rest, so it has a model: and no when:"
    if len(route) > ENTRIES_MAX:
        return f"route: has {len(route)} entries, at most {ENTRIES_MAX} are taken"
    for number, entry in enumerate(route[:-1]):
        if entry.when is None or not entry.when.strip():
            return f"route.{number}: has no when:, so nothing behind it would ever be asked; only the last may leave it out"
    return None


def _cascade_problem(cascade: Sequence[Level]) -> str | None:
    if not 2 <= len(cascade) <= LEVELS_MAX:
        return f"cascade: takes 2 to {LEVELS_MAX} models, got {len(cascade)}; write model: for a single one"
    models = [level.model for level in cascade]
    twice = next((m for m in models if models.count(m) > 1), None)
    if twice is not None:
        return f"cascade: asks {twice} twice, which would be the same question; raise its max_tokens instead"
    return None


__all__ = ["Level", "Route", "problem_of"]
