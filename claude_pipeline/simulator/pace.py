"""How fast each line of models is: batches and messages take their time by the same ratios.

The ratios are those of a scaling guide (Sonnet 3 to 4 times as long as Haiku, Opus 8 times), Fable's
is assumed; the API's documentation only ranks its models. Around the median a duration varies by a
log-normal factor that follows from the seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import orjson

from claude_pipeline.simulator.model import find_model

SLOWNESS = {"haiku": 1.0, "sonnet": 3.5, "opus": 8.0, "fable": 12.0}  # times Haiku
SPREAD = 0.35  # sigma of the log-normal factor around the median
_BATCH_SECONDS_PER_10K = 240.0  # Haiku's median, simulated; assumed
_BATCH_SECONDS_AT_LEAST = 45.0  # Haiku's median for a small batch; assumed


def batch_seconds(lines: Mapping[str, int], chance: random.Random) -> float:
    """Simulated seconds of a batch, from its requests by model line; unknown models cost no time."""
    size = max(sum(lines.values()), 1)
    work = sum(SLOWNESS.get(line, 0.0) * count for line, count in lines.items())
    least = max(work / size, 1.0) * _BATCH_SECONDS_AT_LEAST
    return max(least, work * _BATCH_SECONDS_PER_10K / 10_000) * _varied(chance)


def message_seconds(params: Any, seed: int, haiku_seconds: float) -> float:
    """Real seconds of a message, where Haiku's median is `haiku_seconds`. 0 for what names no known model.

    The same question varies alike for every model, so that two models can be compared by one question.
    """
    model = find_model(params["model"]) if isinstance(params, dict) and isinstance(params.get("model"), str) else None
    if model is None or haiku_seconds <= 0:
        return 0.0
    question = orjson.dumps({**params, "model": None}, option=orjson.OPT_SORT_KEYS)
    chance = random.Random(b"%d:message:%b" % (seed, question))
    return haiku_seconds * SLOWNESS[model.line] * _varied(chance)


def _varied(chance: random.Random) -> float:
    return math.exp(chance.gauss(0.0, SPREAD))
