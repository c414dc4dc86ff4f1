"""Requests as columns say what requests say."""

from __future__ import annotations

from claude_pipeline.request_table import RequestTable, tables_of
from claude_pipeline_tests.factory import make_requests


def table(count: int) -> RequestTable:
    (only,) = tables_of(make_requests(count), alike=True)
    return only


def test_a_slice_has_the_lines_of_its_rows() -> None:
    requests = make_requests(7)
    part = table(7).slice(2, 5)
    assert part.lines() == [request.params for request in requests[2:5]]
    assert part.rows.tolist() == [2, 3, 4]
    assert part.slice(1).lines() == [request.params for request in requests[3:5]]
    assert part.sizes.tolist() == [len(request.params) for request in requests[2:5]]
    assert part.alike


def test_tables_hold_at_most_so_many() -> None:
    assert [len(part) for part in tables_of(make_requests(7), rows=3)] == [3, 3, 1]
    assert list(tables_of([])) == []


def test_a_table_is_full_by_bytes_as_well() -> None:
    tables = tables_of(make_requests(7, size_bytes=100), size_bytes=250)
    assert [len(part) for part in tables] == [3, 3, 1]
    assert [len(part) for part in tables_of(make_requests(2, size_bytes=100), size_bytes=10)] == [1, 1]


def test_changed_params_have_their_own_sizes() -> None:
    longer = table(3).slice(1).mapped(lambda params: params + b" ")
    assert longer.sizes.tolist() == [len(request.params) + 1 for request in make_requests(3)[1:]]
    assert longer.lines() == [request.params + b" " for request in make_requests(3)[1:]]


def test_a_filter_keeps_what_is_wanted() -> None:
    requests = make_requests(5)
    wanted = {requests[1].fingerprint, requests[4].fingerprint}
    kept = table(5).filtered(wanted.__contains__)
    assert (kept.rows.tolist(), kept.record_ids.to_pylist()) == ([1, 4], [requests[1].record_id, requests[4].record_id])
    assert kept.lines() == [requests[1].params, requests[4].params]
    assert kept.fingerprints.to_pylist() == [requests[1].fingerprint, requests[4].fingerprint]
    every = table(5)
    assert every.filtered(lambda _: True) is every
