"""Bulk work is done without a search for cyclic garbage, and the search goes on after it as it was."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from claude_pipeline.garbage import SELDOM, no_search, seldom_search


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


def test_a_run_searches_seldom_and_leaves_the_thresholds_as_they_were() -> None:
    usual = gc.get_threshold()
    with seldom_search():
        assert gc.isenabled()
        assert gc.get_threshold() == (SELDOM, *usual[1:])
        with seldom_search():
            pass
        assert gc.get_threshold() == (SELDOM, *usual[1:])
    assert gc.get_threshold() == usual


def test_a_run_changes_nothing_where_somebody_else_turned_the_search_off() -> None:
    usual = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_search():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*usual)
