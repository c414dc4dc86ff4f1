"""What Dagster gets to keep of an error: a sentence of ours, a type and a place; never what a record says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pydantic
import pytest

from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.errors import AccountStopped, ApiUnclear, DatasetInvalid
from claude_pipeline.home import sha256_of

ROW = "CANARY-row"


def from_pyarrow() -> None:
    pa.array([ROW]).cast(pa.int64())


def from_pydantic() -> None:
    pydantic.TypeAdapter(int).validate_python(ROW)


def from_a_dict() -> None:
    _ = {}[ROW]  # type: ignore[var-annotated]


def wrapped() -> None:
    try:
        from_pyarrow()
    except pa.ArrowInvalid as error:
        raise RuntimeError(f"of {ROW}") from error


def kept_of(act: Callable[[], None]) -> tuple[str, dg.DagsterInstance]:
    """Everything that an instance stored of a run whose asset fails so, as text."""

    @dg.asset
    def failing() -> None:
        with told_plainly():
            act()

    instance = dg.DagsterInstance.ephemeral()
    result = dg.materialize([failing], instance=instance, raise_on_error=False)
    assert not result.success
    return "".join(str(record) for record in instance.all_logs(result.run_id)), instance


@pytest.mark.parametrize("act", [from_pyarrow, from_pydantic, from_a_dict, wrapped])
def test_an_error_that_nobody_foresaw_is_kept_without_its_words(act: Callable[[], None]) -> None:
    with pytest.raises(Exception, match=ROW) as raised:  # it does quote the record
        act()
    kept, instance = kept_of(act)
    instance.dispose()

    assert ROW not in kept
    assert f"{type(raised.value).__name__}, which is not foreseen" in kept
    assert "CLAUDE_PIPELINE_DEBUG=1" in kept


def test_it_is_kept_with_its_words_where_a_person_asks_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_PIPELINE_DEBUG", "1")
    kept, instance = kept_of(from_pyarrow)
    instance.dispose()

    assert ROW in kept


def test_the_place_in_our_code_is_told() -> None:
    place = r"FileNotFoundError, which is not foreseen, at home\.py:\d+ in sha256_of; "
    with pytest.raises(dg.Failure, match=place) as failed, told_plainly():
        sha256_of(Path("/none/of/it"))

    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


@pytest.mark.parametrize(
    ("error", "again"),
    [
        pytest.param(DatasetInvalid("line 3 is no JSON; correct it"), False, id="a person must act"),
        pytest.param(AccountStopped("the account cannot pay"), False, id="stopped"),
        pytest.param(ApiUnclear("no answer"), True, id="may pass"),
    ],
)
def test_an_error_of_ours_is_its_sentence_and_is_tried_again_where_that_helps(error: Exception, again: bool) -> None:
    with pytest.raises(dg.Failure) as failed, told_plainly():
        raise error

    assert (failed.value.description, failed.value.allow_retries) == (str(error), again)


@pytest.mark.parametrize("error", [dg.Failure("so"), dg.RetryRequested(), KeyboardInterrupt()])
def test_what_is_dagsters_own_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, told_plainly():
        raise error

    assert passed.value is error
