"""Datasets of many kinds, to measure estimates by: sizes, scripts, models, schemas and free text."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import workload_over

SENTENCE = "the order of last week arrived broken and nobody answers my letters about the money that was promised"
LATIN = tuple(SENTENCE.split())
CJK = "本日受取商品壊返品希望連絡確認担当者様対応願致何卒宜"
CODE = ["if (x[0] != 7) {", "return a->b[i];", 'print("ok\\n")', "y += 3 * (z - 1);", "}", "for (;;) {"]
SORTED = {"type": "object", "properties": {"queue": {"enum": ["billing", "technical", "other"]}, "urgent": {"type": "boolean"}},
          "required": ["queue", "urgent"]}  # fmt: skip
EXTRACTED = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "amount": {"type": "number"},
        "who": {"type": "string"},
        "tags": {"type": "array", "items": {"enum": ["new", "old", "paid"]}},
    },
    "required": ["title", "day", "who"],
}


def latin(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(LATIN) for _ in range(words))


def cjk(chance: random.Random, characters: int) -> str:
    return "".join(chance.choice(CJK) for _ in range(characters))


def code(chance: random.Random, lines: int) -> str:
    return "\n".join("  " * chance.randrange(4) + chance.choice(CODE) for _ in range(lines))


def skewed(chance: random.Random, median: float, sigma: float) -> int:
    return max(2, round(median * chance.lognormvariate(0.0, sigma)))


@dataclass(frozen=True)
class Case:
    """How a record's text is made, and what the workload says."""

    text: Callable[[random.Random], str]
    fields: dict[str, Any] = field(default_factory=dict)
    free_text: bool = False  # nothing tells how long its answers are before the first one


CASES: dict[str, Case] = {
    "short-tickets-sorted": Case(lambda c: latin(c, skewed(c, 40, 0.5)), {"output": SORTED}),
    "long-skewed-documents": Case(lambda c: latin(c, skewed(c, 600, 1.0)), {"output": SORTED}),
    "japanese": Case(lambda c: cjk(c, skewed(c, 150, 0.7)), {"output": SORTED}),
    "code-with-escapes": Case(lambda c: code(c, skewed(c, 30, 0.8)), {"output": SORTED}),
    "two-languages": Case(
        lambda c: latin(c, 60) if c.random() < 0.6 else cjk(c, skewed(c, 300, 0.4)), {"output": EXTRACTED}
    ),
    "extraction": Case(lambda c: latin(c, skewed(c, 150, 0.6)), {"output": EXTRACTED, "max_tokens": 300}),
    "older-tokenizer": Case(
        lambda c: latin(c, skewed(c, 100, 0.6)), {"output": SORTED, "model": "claude-haiku-4-5-20251001"}
    ),
    "sonnet-long-system": Case(
        lambda c: latin(c, skewed(c, 30, 0.5)),
        {"output": EXTRACTED, "model": "claude-sonnet-5-5", "system": "Read with care. " * 60, "max_tokens": 300},
    ),
    "free-text-of-long-prompts": Case(lambda c: latin(c, skewed(c, 700, 0.5)), {"max_tokens": 1024}, free_text=True),
    "free-text-cut-short": Case(lambda c: latin(c, skewed(c, 80, 0.5)), {"max_tokens": 40}, free_text=True),
    "over-the-price-band": Case(lambda c: latin(c, 100) * (900 if c.random() < 0.02 else 1), {"output": SORTED}),
}


def rows_of(name: str, seed: int, count: int) -> list[dict[str, Any]]:
    chance = random.Random(f"{name}-{seed}")
    return [{"id": f"n{n}", "text": f"{n} {CASES[name].text(chance)}"} for n in range(count)]


def workload_of(name: str, folder: Path, rows: list[dict[str, Any]]) -> Workload:
    return workload_over(folder, rows, **{"chunk": {"requests": 200}, **CASES[name].fields})
