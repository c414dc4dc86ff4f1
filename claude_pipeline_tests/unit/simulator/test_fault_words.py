"""Rules as text, and the sentences about rules that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pipeline.simulator.fault import KINDS, LOW_CREDIT, SHORTHANDS, Faults, Rule, read_rule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("lost_after endpoint=create count=1", {"endpoint": "create", "count": 1}, id="count"),
        pytest.param("529 probability=0.25 seed=7", {"status": 529, "probability": 0.25, "seed": 7}, id="status"),
        pytest.param("kind=529", {"kind": "status", "status": 529}, id="kind-named"),
        pytest.param("500 accepted=true should_retry=no", {"accepted": True, "should_retry": False}, id="yes-or-no"),
        pytest.param("400 message='too odd, really'", {"message": "too odd, really"}, id="quoted"),
        pytest.param("400 message=529", {"message": "529"}, id="text-of-digits"),
        pytest.param("foreign_url location=http://a:1/b=c", {"location": "http://a:1/b=c"}, id="equals-in-value"),
    ],
)
def test_a_rule_may_be_a_line_of_text(text: str, expected: dict[str, Any]) -> None:
    read = read_rule(text)
    assert {name: getattr(read, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        pytest.param("lost_aftre", "nearest: lost_after", id="kind"),
        pytest.param("stuk", "nearest: stuck", id="shorthand"),
        pytest.param("hang sec=1", "unknown field sec", id="field"),
        pytest.param("500 probabilty=1", "nearest: probability", id="field-misspelt"),
        pytest.param("500 probability=2", "from 0 to 1", id="probability"),
        pytest.param("500 count=-1", "give 0 or more", id="count"),
        pytest.param("500 count=1.5", "give a whole number", id="half-a-count"),
        pytest.param("500 accepted=maybe", "give true or false", id="flag"),
        pytest.param("slow_bytes bytes_per_second=0", "give 1 or more", id="no-bytes"),
        pytest.param("bad_body form=htlm", "nearest: html", id="form"),
        pytest.param("500 when=over", "in_progress, canceling, ended", id="state"),
        pytest.param("200", "from 400 to 599", id="no-error"),
        pytest.param("cut_results endpoint=create", "does nothing at create; it belongs to results", id="place"),
        pytest.param("500 model=claude-haiku-5-5", "model is for the kinds", id="model"),
        pytest.param("500 endpoint", "write name=value", id="no-value"),
        pytest.param("", "there is none", id="nothing"),
        pytest.param({"kind": 500, "count": True}, "give a whole number", id="count-a-flag"),
        pytest.param(["hang"], "give an object", id="a-list"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_a_way_out(entry: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_rule(entry)


@pytest.mark.parametrize("name", SHORTHANDS)
def test_a_shorthand_stands_for_a_kind(name: str) -> None:
    assert read_rule(name).kind in KINDS


def test_what_a_rule_says_goes_before_its_shorthand() -> None:
    assert read_rule("low_credit share=0.5 message=broke").message == "broke"
    assert read_rule("low_credit share=0.5").message == LOW_CREDIT


@pytest.mark.parametrize("kind", ["hang", "hang_after", "accept_late", "list_lag"])
def test_a_wait_without_seconds_is_still_one(kind: str) -> None:
    assert read_rule(kind).seconds > 0


def test_a_rule_survives_the_store() -> None:
    kept = Faults([read_rule({"kind": "line_error", "share": 0.5, "model": "claude-haiku-5-5"})]).as_json()[0]
    del kept["struck"]
    assert read_rule(kept) == Rule(**kept)


def test_a_rule_per_batch_counts_each_by_itself() -> None:
    faults = Faults([read_rule("404 endpoint=retrieve per_batch=true count=1")])
    struck = [bool(faults.take("retrieve", batch_id=name)) for name in ("a", "b", "a", "b")]
    assert struck == [True, True, False, False]
    assert faults.as_json()[0]["struck"] == 2


def test_a_rule_for_a_state_waits_for_it() -> None:
    faults = Faults([read_rule("404 endpoint=retrieve when=ended count=1")])
    states = ["in_progress", "canceling", "", "ended", "ended"]
    assert [bool(faults.take("retrieve", state=state)) for state in states] == [False, False, False, True, False]


def test_a_rule_for_a_workspace_spares_the_others() -> None:
    faults = Faults([read_rule("500 workspace=mine")])
    assert [bool(faults.take("list", names)) for names in (("mine", "wrkspc_1"), ("other", "wrkspc_2"))] == [
        True,
        False,
    ]
