"""Rules for faults: how they are read, and when they strike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.simulator.dice import falls_on
from claude_pipeline.simulator.fault import KINDS, Faults, read_rule, read_rules


def struck(faults: Faults, endpoint: str, calls: int) -> list[int]:
    """Which calls of an endpoint were struck."""
    return [call for call in range(calls) if faults.take(endpoint)]


def test_a_status_may_stand_for_the_kind() -> None:
    rule = read_rule({"kind": 529, "endpoint": "create"})
    assert (rule.kind, rule.status) == ("status", 529)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"status"}))
def test_every_kind_has_an_endpoint_of_its_own(kind: str) -> None:
    assert read_rule({"kind": kind}).endpoint == KINDS[kind]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param({"kind": "gremlins"}, "gremlins", id="unknown-kind"),
        pytest.param({}, "there is none", id="no-kind"),
        pytest.param({"kind": 500, "endpoint": "moon"}, "moon", id="unknown-endpoint"),
        pytest.param({"kind": 500, "wait": 3}, "wait", id="unknown-field"),
        pytest.param({"kind": "status"}, "give the status", id="status-without-number"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rule(entry)


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("kind: 500\n")
    with pytest.raises(ValueError, match="expected a list"):
        read_rules(path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, [0, 1, 2, 3, 4, 5], id="always"),
        pytest.param({"count": 2}, [0, 1], id="first-two"),
        pytest.param({"after": 3}, [3, 4, 5], id="after-three"),
        pytest.param({"after": 1, "count": 2}, [1, 2], id="two-after-one"),
    ],
)
def test_a_rule_strikes_the_calls_it_names(fields: dict[str, Any], expected: list[int]) -> None:
    faults = Faults()
    faults.add(kind=500, endpoint="list", **fields)
    assert struck(faults, "list", 6) == expected


def test_a_rule_leaves_other_endpoints_alone() -> None:
    faults = Faults()
    faults.add(kind=500, endpoint="list")
    assert struck(faults, "retrieve", 3) == []


def test_a_rule_for_any_endpoint_strikes_all() -> None:
    faults = Faults()
    faults.add(kind=500)
    assert struck(faults, "models", 2) == [0, 1]


def test_the_first_of_two_deciding_rules_wins_and_the_second_waits() -> None:
    faults = Faults()
    faults.add(kind=500, endpoint="list", count=1)
    faults.add(kind=529, endpoint="list", count=1)
    assert [[rule.status for rule in faults.take("list")] for _ in range(3)] == [[500], [529], []]


def test_chance_follows_from_the_seed() -> None:
    def calls(seed: int) -> list[int]:
        faults = Faults()
        faults.add(kind=500, endpoint="list", probability=0.5, seed=seed)
        return struck(faults, "list", 50)

    assert calls(1) == calls(1) != calls(2)


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.1, 60, 140), (1, 1000, 1000)])
def test_a_share_falls_on_about_as_many(share: float, least: int, most: int) -> None:
    assert least <= sum(falls_on(share, "rule", number) for number in range(1000)) <= most
