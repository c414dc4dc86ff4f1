"""What a request may cost: the room that it takes at a wall until its cost is known.

`worst` is a true upper bound, from the bytes of the params alone: no token is less than a byte, and no
answer is longer than `max_tokens`. `expected` is the upper end of an estimate, never above the worst: of a fit
on past results of the same prompt and model; before there are enough, a token for every two bytes (text
has three to five) and half as much again as past answers had on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from claude_pipeline.cache import is_marked
from claude_pipeline.catalog import Price, Usage
from claude_pipeline.ledger import ChunkRow
from claude_pipeline.parquet_file import read_parquet
from claude_pipeline.plan import predict
from claude_pipeline.request_table import RequestTable
from claude_pipeline.result import PAID_PERHAPS
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.past import read_past
from claude_pipeline.stage.plan_file import template_digest
from claude_pipeline.workload import Workload

# A batch is priced when the API creates it: a create in doubt may turn out to be so much younger than its intent.
PRICED_LATER = timedelta(hours=1)
BYTES_PER_TOKEN = 2  # expected: the most tokens that any common text makes of its bytes
OUTPUT_MARGIN = Fraction(3, 2)  # expected: of the mean of past answers
PAST_ANSWERS = 20  # fewer say nothing of the mean
SPREAD_REQUESTS = 100  # expected: chance evens out over at most so many requests
SIZES_MAX = 50_000  # lengths of requests whose reserve is remembered
SIZE_STEP_BYTES = 64  # requests of about one size share their fit
Reserves = npt.NDArray[np.int64]
PLAIN = frozenset({"model", "max_tokens", "messages", "system"})
_QUOTE = ord('"')


def reserve(desk: Desk, workload: Workload) -> Callable[[bytes], int]:
    """Units of 1e-10 USD to reserve for a request, by its params as they are sent.

    All that prices it is read from the params, because those of a further round may be older than the workload.
    """
    prices: dict[str, Sequence[Price]] = {}
    guess = _Guess(desk, workload) if workload.budget_reserve == "expected" else None
    frame = _Frame()

    def bound(params: bytes) -> int:
        asked = frame.around(params)
        size = len(params), is_marked(params)  # what else it depends on is in the frame
        if size not in frame.known:
            if len(frame.known) >= SIZES_MAX:
                frame.known.clear()
            if asked["model"] not in prices:
                prices[asked["model"]] = _prices(desk, asked["model"])
            known = prices[asked["model"]]
            worst = _bound(known, asked, params, len(params), asked["max_tokens"])
            frame.known[size] = worst if guess is None else min(worst, guess.units(known, asked, params))
        return frame.known[size]

    return bound


def reserves_of(reserve: Callable[[bytes], int]) -> Callable[[RequestTable], Reserves]:
    """Of each request of a table, of several tables of one maker's requests: length alone tells these apart."""
    known: dict[int, int] = {}

    def of(table: RequestTable) -> Reserves:
        if not table.alike:
            return np.array([reserve(params) for params in table.lines()], np.int64)
        sizes, examples, which = np.unique(table.sizes, return_index=True, return_inverse=True)
        for size, example in zip(sizes.tolist(), examples.tolist(), strict=True):
            if size not in known:
                known[size] = reserve(table.line(example))
        return np.array([known[size] for size in sizes.tolist()], np.int64)[which]

    return of


class _Frame:
    """Params without their prompt: requests of a workload have the rest in common, so it is read once, not each time."""

    def __init__(self) -> None:
        self._head, self._tail = b"", b""  # of the params read last, before and after their prompt as a JSON string
        self._asked: dict[str, Any] = {}
        self.known: dict[tuple[int, bool], int] = {}  # reserves by length and mark

    def around(self, params: bytes) -> dict[str, Any]:
        """All of the params; their messages may be those of another request."""
        head = self._head
        if head and params.startswith(head) and params.endswith(self._tail) and params[len(head)] == _QUOTE:
            return self._asked
        self._asked = orjson.loads(params)
        self._head, self._tail = _around_prompt(params, self._asked)
        self.known = {}
        return self._asked


def _around_prompt(params: bytes, asked: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """What stands before and after the prompt; nothing where it is not one text, or stands there twice."""
    try:
        (message,) = asked["messages"]
        quoted = orjson.dumps(message["content"])
    except (ValueError, KeyError, TypeError):
        return b"", b""
    parts = params.split(b'"content":' + quoted) if isinstance(message["content"], str) else []
    return (parts[0] + b'"content":', parts[1]) if len(parts) == 2 else (b"", b"")


class _Guess:
    """The upper end of what a request is expected to cost."""

    def __init__(self, desk: Desk, workload: Workload) -> None:
        self._desk, self._workload = desk, workload
        self._past = read_past(desk, workload, template_digest(workload)).same
        self._requests = min(workload.chunk.requests, SPREAD_REQUESTS)
        self._fits: dict[tuple[str, int], tuple[int, int]] = {}

    def units(self, prices: Sequence[Price], asked: dict[str, Any], params: bytes) -> int:
        """From a fit on past results where there are enough; else from bytes and the mean of past answers."""
        name = self._desk.catalog.model(asked["model"]).id
        results = self._past.get(name)
        if results is None or results.answers < PAST_ANSWERS:
            output = min(asked["max_tokens"], self._mean_output(name) or asked["max_tokens"])
            return _bound(prices, asked, params, math.ceil(len(params) / BYTES_PER_TOKEN), output)
        size_bytes = -(-len(params) // SIZE_STEP_BYTES) * SIZE_STEP_BYTES
        if (name, size_bytes) not in self._fits:
            count, total = self._requests, self._requests * size_bytes
            ends = (predict(groups, count, total)[1].high / count for groups in (results.inputs, results.outputs))
            tokens_in, tokens_out = (math.ceil(end) for end in ends)
            self._fits[name, size_bytes] = tokens_in, tokens_out
        tokens_in, tokens_out = self._fits[name, size_bytes]
        output = min(tokens_out, asked["max_tokens"])
        written = tokens_in if is_marked(params) else 0  # those that miss the cache write it
        usage = Usage(tokens_in - written, output, cache_write_1h_tokens=written)
        return max(price.cost_units(usage, lane="batch", geo=asked.get("inference_geo")) for price in prices)

    def _mean_output(self, model: str) -> int | None:
        """Output tokens to expect of an answer, whatever its prompt was; None where too few are known."""
        answers, tokens = self._desk.ledger.answered(self._workload.name, model)
        return math.ceil(OUTPUT_MARGIN * tokens / answers) if answers >= PAST_ANSWERS else None


def _bound(prices: Sequence[Price], asked: dict[str, Any], params: bytes, tokens: int, output: int) -> int:
    return max(
        price.upper_bound_units(
            size_bytes=tokens,
            max_tokens=output,
            lane="batch",
            geo=asked.get("inference_geo"),
            cached=is_marked(params),
            plain=asked.keys() <= PLAIN,
        )
        for price in prices
    )


def _prices(desk: Desk, model: str) -> list[Price]:
    """Those that may be in force when the batch is created."""
    now = desk.clock()
    name = desk.catalog.model(model).id
    found = [desk.catalog.price(name, at) for at in (now, now + PRICED_LATER)]
    return found[:1] if found[0] is found[1] else found


def with_todays_reserve(desk: Desk, chunk: ChunkRow) -> ChunkRow:
    """The chunk with the reserve that it needs now: more where prices rose after it was cut.

    Reserves of single requests stay in its index as they were cut; the factor is that of the class of tokens
    whose price rose most, so that repeating it changes nothing.
    """
    factor = _rise_since_cut(desk, chunk)
    if factor <= 1:
        return chunk
    needed = math.ceil(factor * int(pc.sum(_index(desk, chunk).column("reserve_units")).as_py()))
    if needed <= chunk.reserve_units:
        return chunk
    return desk.ledger.reserve_raised(chunk, needed, at=desk.clock())


def realtime_reserves(desk: Desk, chunk: ChunkRow) -> Reserves:
    """What each request of a chunk may cost in real time, at today's prices; by position, in units."""
    cut: Reserves = _index(desk, chunk).column("reserve_units").to_numpy()
    factor = _rise_since_cut(desk, chunk) / Fraction(desk.catalog.limits.batch_price_factor)
    return -(-cut * factor.numerator // factor.denominator)  # up to the next unit


def _rise_since_cut(desk: Desk, chunk: ChunkRow) -> Fraction:
    name = desk.catalog.model(chunk.model).id
    then = desk.catalog.price(name, chunk.created_at)
    now = [price for price in _prices(desk, chunk.model) if price is not then]
    return max([Fraction(1), *(_rise(then, price) for price in now)])


def _rise(then: Price, now: Price) -> Fraction:
    """The greatest factor by which any price rose, over both bands."""
    before = [then.usd_per_mtok, then.usd_per_mtok_above or then.usd_per_mtok]
    after = [now.usd_per_mtok, now.usd_per_mtok_above or now.usd_per_mtok]
    if then.threshold_tokens != now.threshold_tokens:  # a request may have changed its band: dearest against cheapest
        cheapest = {name: min(band[name] for band in before) for name in before[0]}
        before = [cheapest, cheapest]
    pairs = [(b[name], a[name]) for b, a in zip(before, after, strict=True) for name in b]
    return max(Fraction(a) / Fraction(b) for b, a in pairs if b)


def kept_units(index: pa.Table, table: pa.Table, chunk: ChunkRow) -> int:
    """The reserve of answers that were paid, or may have been, though the API did not say how much.

    `table` are the attempts of the chunk, row by row as its `index`.
    """
    unknown = pc.or_(
        pc.and_(pc.equal(table.column("outcome"), "succeeded"), pc.is_null(table.column("cost_usd"))),
        pc.is_in(table.column("error_type"), pa.array(sorted(PAID_PERHAPS))),
    )
    kept = pc.sum(index.column("reserve_units").filter(unknown)).as_py() or 0
    cut = pc.sum(index.column("reserve_units")).as_py() or 1
    return math.ceil(Fraction(kept * chunk.reserve_units, cut))


def _index(desk: Desk, chunk: ChunkRow) -> pa.Table:
    return read_parquet(desk.path(chunk.index_path), ["reserve_units"])
