"""A stratified sample of the requests to be sent, and their tokens: counted by the API, else by script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from claude_pipeline.catalog import Model
from claude_pipeline.errors import (
    AccountStopped,
    ApiRefused,
    ApiUnclear,
    KeyRefused,
    SettingInvalid,
)
from claude_pipeline.home import written
from claude_pipeline.lane.account import count_tokens
from claude_pipeline.plan import rough_tokens
from claude_pipeline.request import Request, RequestMaker
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.render import requests_of

STRATA = 24  # by number of requests, and as many by bytes: at most twice that in the sample
LEAST_COUNTED = 12  # fewer counts are not used, unless they are the whole sample
KEPT = 5_000  # counts in the cache of a workload
MESSAGE_TOKENS = 4  # around a message, assumed

Wait = Callable[[float], None]


@dataclass(frozen=True)
class Sample:
    """(bytes of params, tokens) of sampled requests."""

    counted: list[tuple[int, int]]
    rough: list[tuple[int, float]]
    calls: int  # of count_tokens, made for it
    problem: str | None  # why not all were counted


class Counts:
    """Tokens that the API counted before, by fingerprint; kept in the home, so that planning again is free."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found = orjson.loads(path.read_bytes())
            self._known: dict[str, int] = {str(k): int(v) for k, v in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):  # none yet, or nothing we wrote: count again
            self._known = {}

    def get(self, fingerprint: bytes) -> int | None:
        return self._known.get(fingerprint.hex())

    def put(self, fingerprint: bytes, tokens: int) -> None:
        self._known[fingerprint.hex()] = tokens

    @property
    def fingerprints(self) -> list[bytes]:
        return [bytes.fromhex(name) for name in self._known]

    def save(self) -> None:
        newest = dict(list(self._known.items())[-KEPT:])
        with written(self._path) as temporary:
            temporary.write_bytes(orjson.dumps(newest))


def draw(duck: Any, model: str, known: Sequence[bytes]) -> list[int]:
    """Rows of the table `wanted` (row, fingerprint, size_bytes, model): one of each stratum by number, one of each by
    bytes; of a stratum the one that was counted before, else the first by fingerprint, which is as good as chance."""
    duck.execute("CREATE OR REPLACE TEMP TABLE counted (fingerprint BLOB)")
    if known:
        duck.register("known_counts", pa.table({"fingerprint": pa.array(known, pa.binary())}))
        duck.execute("INSERT INTO counted FROM known_counts")
        duck.unregister("known_counts")
    return [
        row
        for (row,) in duck.execute(
            f"""WITH placed AS (
                    SELECT row, hex(fingerprint) AS fp, fingerprint IN (FROM counted) AS old,
                           row_number() OVER by_size AS n, sum(size_bytes) OVER by_size AS s,
                           count(*) OVER () AS all_n, sum(size_bytes) OVER () AS all_s
                    FROM wanted WHERE model = ?
                    WINDOW by_size AS (ORDER BY size_bytes, fingerprint ROWS UNBOUNDED PRECEDING))
                SELECT DISTINCT row FROM (
                    SELECT arg_min(row, if(old, '0', '1') || fp) AS row FROM placed GROUP BY (n - 1) * {STRATA} // all_n
                    UNION ALL
                    SELECT arg_min(row, if(old, '0', '1') || fp) FROM placed GROUP BY (s - 1) * {STRATA} // all_s)
                ORDER BY row""",
            [model],
        ).fetchall()
    ]


def take(
    desk: Desk, records: Path, maker: RequestMaker, rows: list[int], counts: Counts, model: Model, *,
    per_minute: int | None, wait: Wait | None
) -> Sample:  # fmt: skip
    """Render the rows and have them counted, no faster than the tier allows; `wait` None: ask nothing, use what is kept."""
    counted: list[tuple[int, int]] = []
    rough: list[tuple[int, float]] = []
    calls, problem = 0, None if wait is not None else "not asked"
    for request in requests_of(records, maker, [pa.array(rows, pa.int64())] if rows else []):
        size = len(request.params)
        rough.append((size, _rough(desk, request, model)))
        tokens = counts.get(request.fingerprint)
        if tokens is None and problem is None and wait is not None:
            if calls and per_minute:
                wait(60 / per_minute)
            tokens, problem = _asked(desk, request)
            calls += 1
            if tokens is not None:
                counts.put(request.fingerprint, tokens)
        if tokens is not None:
            counted.append((size, tokens))
    if calls:
        counts.save()
    enough = len(counted) >= min(LEAST_COUNTED, len(rough))
    return Sample(counted if enough else [], rough, calls, problem)


def _asked(desk: Desk, request: Request) -> tuple[int | None, str | None]:
    """Its tokens, or why no further ones are asked for; neither where the API refused this one alone."""
    try:
        return count_tokens(desk.client, request.params).value, None
    except ApiRefused:
        return None, None
    except (ApiUnclear, KeyRefused, AccountStopped, SettingInvalid) as error:
        return None, str(error)


def _rough(desk: Desk, request: Request, model: Model) -> float:
    params = orjson.loads(request.params)
    texts = [message["content"] for message in params["messages"]]
    texts += [params[key] for key in ("system",) if key in params]
    texts += [orjson.dumps(params[key]).decode() for key in ("tools", "output_config") if key in params]
    limits = desk.catalog.limits
    factor = 1.0 if model.new_tokenizer is not False else 1 / float(limits.new_tokenizer_factor)
    tokens = sum(rough_tokens(str(text), limits.characters_per_token) for text in texts)
    return tokens * factor + MESSAGE_TOKENS * len(params["messages"])
