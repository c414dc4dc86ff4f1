"""Take in the body of a batch creation: check what the API checks at once, and spool the requests.

The spool has one line per request, in the order sent: `custom_id`, a tab, the canonical params.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from claude_pipeline.simulator.error import ApiError
from claude_pipeline.simulator.fault import Rule
from claude_pipeline.simulator.message import canonical_json
from claude_pipeline.simulator.split import NotJson, requests_in

# API documentation, build-with-claude/batch-processing, as of 2026-08. Whether MB is 10**6 or 2**20
# bytes is not said; the smaller is the safer to imitate.
MOST_REQUESTS = 100_000
MOST_BATCH_BYTES = 256_000_000
MOST_MESSAGE_BYTES = 32_000_000

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_BUFFER_BYTES = 1 << 20
_REQUESTS_A_BREATH = 128
_BREATH_SECONDS = 1e-5


def take_in(body_path: Path, spool_path: Path, poisons: Sequence[Rule] = ()) -> Counter[str]:
    """Write the spool, and return how many requests it holds by the model they name. `poisons` name texts to refuse.

    Raises:
        ApiError: 400 or 413, with the API's sentence about the first fault.
    """
    seen: set[str] = set()
    models: Counter[str] = Counter()
    try:
        with body_path.open("rb") as body, spool_path.open("wb", buffering=_BUFFER_BYTES) as spool:
            for position, request in enumerate(requests_in(body)):
                if position % _REQUESTS_A_BREATH == 0:
                    time.sleep(_BREATH_SECONDS)  # as in worker.py: others in this process want the interpreter
                if position >= MOST_REQUESTS:
                    raise ApiError(413, f"requests: List should have at most {MOST_REQUESTS} items")
                custom_id, params = _checked(position, request)
                if custom_id in seen:
                    raise ApiError(400, f"requests.{position}.custom_id: Duplicate custom_id '{custom_id}'")
                seen.add(custom_id)
                models[str(params.get("model"))] += 1
                canonical = _canonical(position, params)
                for poison in poisons:
                    _refuse_where(poison, position, canonical)
                spool.write(b"%b\t%b\n" % (custom_id.encode(), canonical))
    except NotJson as wrong:
        raise ApiError(400, str(wrong)) from wrong
    if not seen:
        raise ApiError(400, "requests: List should have at least 1 item")
    return models


def _checked(position: int, request: Any) -> tuple[str, dict[str, Any]]:
    where = f"requests.{position}"
    if not isinstance(request, dict):
        raise ApiError(400, f"{where}: Input should be a valid dictionary")
    custom_id = request.get("custom_id")
    params = request.get("params")
    if "custom_id" not in request:
        raise ApiError(400, f"{where}.custom_id: Field required")
    if not isinstance(custom_id, str):
        raise ApiError(400, f"{where}.custom_id: Input should be a valid string")
    if len(custom_id) > 64:
        raise ApiError(400, f"{where}.custom_id: String should have at most 64 characters")  # seen
    if not _CUSTOM_ID.fullmatch(custom_id):
        raise ApiError(400, f"{where}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    if "params" not in request:
        raise ApiError(400, f"{where}.params: Field required")
    if not isinstance(params, dict):
        raise ApiError(400, f"{where}.params: Input should be a valid dictionary")
    if len(request) > 2:
        extra = min(request.keys() - {"custom_id", "params"})
        raise ApiError(400, f"{where}.{extra}: Extra inputs are not permitted")
    return custom_id, params


def _refuse_where(poison: Rule, position: int, canonical: bytes) -> None:
    if (poison.form or "").encode() in canonical:
        message = poison.message or "The simulator was told to refuse this request"
        raise ApiError(400, f"requests.{position}.params: {message}", poison.error_type)


def _canonical(position: int, params: dict[str, Any]) -> bytes:
    try:
        return canonical_json(params)
    except orjson.JSONEncodeError as wrong:  # a lone surrogate, or an integer beyond 64 bits
        raise ApiError(400, f"requests.{position}.params: not valid JSON: {wrong}") from wrong
