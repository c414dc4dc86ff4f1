"""Which model a workload asks: exactly one way to say it, and what each way means."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline_tests.factory import make_workload

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
ROUTE = [{"when": "size < 5", "model": HAIKU}, {"when": "size < 9", "model": SONNET}, {"model": HAIKU}]
CASCADE = [HAIKU, {"model": SONNET, "max_tokens": 500}]


def choosing(**changes: Any) -> Any:
    return make_workload(**{"model": None, **changes})


REFUSED: list[Any] = [
    pytest.param({}, "give exactly one of model:, route: and cascade:", id="none"),
    pytest.param({"model": HAIKU, "route": ROUTE}, "give exactly one of", id="model-and-route"),
    pytest.param({"route": ROUTE, "cascade": CASCADE}, "give exactly one of", id="route-and-cascade"),
    pytest.param({"route": []}, "the last entry takes the rest", id="route-empty"),
    pytest.param({"route": ROUTE[:2]}, "the last entry takes the rest", id="route-without-else"),
    pytest.param({"route": [ROUTE[2], ROUTE[2]]}, "route.0: has no when:", id="route-else-first"),
    pytest.param({"route": [{"when": " ", "model": HAIKU}, ROUTE[2]]}, "route.0: has no when:", id="route-blank"),
    pytest.param({"route": [*ROUTE[:1] * 50, ROUTE[2]]}, "has 51 entries, at most 50", id="route-long"),
    pytest.param({"route": [{"modle": HAIKU}]}, r"unknown field route.0.modle \(did you mean model", id="route-field"),
    pytest.param({"route": {"model": HAIKU}}, "route: must be a list", id="route-a-mapping"),
    pytest.param({"cascade": [HAIKU]}, "takes 2 to 5 models, got 1", id="cascade-of-one"),
    pytest.param({"cascade": [HAIKU] * 6}, "takes 2 to 5 models, got 6", id="cascade-long"),
    pytest.param({"cascade": [HAIKU, SONNET, HAIKU]}, f"asks {HAIKU} twice", id="cascade-twice"),
    pytest.param({"cascade": [HAIKU, {"model": SONNET, "max_tokens": 0}]}, "max_tokens: .*greater than", id="limit"),
    pytest.param({"model": HAIKU, "gives_up_when": "true"}, "gives_up_when: says what a cascade:", id="gives-up"),
    pytest.param({"model": HAIKU, "label_of": "queue"}, "label_of: names the property of output", id="label-of-alone"),
    pytest.param(
        {"model": HAIKU, "labels": "truth", "label_of": "queue"}, "label_of: names the property", id="no-output"
    ),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_a_wrong_choice_is_refused_with_the_way_out(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence):
        choosing(**change)


@pytest.mark.parametrize(
    ("change", "models"),
    [
        pytest.param({"model": OPUS}, (OPUS,), id="fixed"),
        pytest.param({"route": ROUTE}, (HAIKU, SONNET), id="route"),
        pytest.param({"cascade": CASCADE}, (HAIKU, SONNET), id="cascade"),
        pytest.param({"route": [{"model": OPUS}]}, (OPUS,), id="route-of-one"),
    ],
)
def test_each_model_is_named_once_in_order(change: dict[str, Any], models: tuple[str, ...]) -> None:
    assert choosing(**change).models == models


def test_a_variant_asks_one_model_with_the_limit_that_its_level_has() -> None:
    first, second = choosing(cascade=CASCADE, max_tokens=64).variants
    assert (first.model, first.max_tokens, first.cascade) == (HAIKU, 64, None)
    assert (second.model, second.max_tokens, second.cascade) == (SONNET, 500, None)


def test_a_variant_of_a_fixed_model_is_the_workload() -> None:
    workload = choosing(model=OPUS)
    assert workload.variants == (workload,)
