"""Bulk work is done without a search for cyclic garbage, and the search goes on after it as it was."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from claude_pipeline.garbage import no_search


@pytest.fixture(autouse=True)
def _on() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_search_rests_for_the_work_and_goes_on_after_it() -> None:
    with no_search():
        assert not gc.isenabled()
        with no_search():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="broken"), no_search():
        raise ValueError("broken")
    assert gc.isenabled()


def test_it_stays_off_where_somebody_else_turned_it_off() -> None:
    gc.disable()
    with no_search():
        pass
    assert not gc.isenabled()


def test_it_rests_until_the_last_of_several_threads_is_done() -> None:
    entered, done = threading.Event(), threading.Event()

    def work() -> None:
        with no_search():
            entered.set()
            done.wait()

    other = threading.Thread(target=work)
    other.start()
    entered.wait()
    with no_search():
        pass
    assert not gc.isenabled()
    done.set()
    other.join()
    assert gc.isenabled()
