"""The records of the benchmarks: an id, a category, and a text of about 1.4 KB, as Parquet."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PIECE = 10_000
WORDS_MEAN = 233  # six letters each, with the space: 1.4 KB
VOCABULARY = 5_000
# What JSON escapes, or UTF-8 makes longer, now and then.
ODD = ('"quoted"', "back\\slash", "line\nbreak", "naïve", "東京", "\u2028", "{{ braces }}")
PROMPT = "Is this review about delivery? Answer yes or no, then say why.\n\n{text}"


def vocabulary() -> list[str]:
    """Words of two to ten letters."""
    chance = np.random.default_rng(3)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    words = ["".join(chance.choice(letters, length)) for length in chance.integers(2, 9, VOCABULARY - len(ODD))]
    return words + list(ODD)


def spread(count: int, some: int) -> range:
    """`some` of the rows, or hardly more, as far from one another as they can be."""
    step = max(1, count // some)
    return range(step // 2, count, step)


def write_records(
    path: Path, count: int, *, changed: int = 0, rewritten: Container[int] = frozenset(), seed: int = 7
) -> Path:
    """Write `count` records; the same `seed` gives the same ones, but for the last `changed` and the rows `rewritten`."""
    chance, words = np.random.default_rng(seed), np.array(vocabulary(), dtype=object)
    schema = pa.schema([("review_id", pa.string()), ("category", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, count, PIECE):
            rows = range(first, min(count, first + PIECE))
            lengths = chance.integers(WORDS_MEAN // 2, WORDS_MEAN * 3 // 2, len(rows))
            chosen = words[chance.integers(0, VOCABULARY, int(lengths.sum()))].tolist()
            ends = np.cumsum(lengths)
            texts = [" ".join(chosen[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
            texts = [
                text + " (changed)" if row >= count - changed else text for row, text in zip(rows, texts, strict=True)
            ]
            texts = [f"{text} (rewritten)" if row in rewritten else text for row, text in zip(rows, texts, strict=True)]
            ids = [f"r{row:09d}" for row in rows]
            categories = [f"category {row % 12}" for row in rows]
            writer.write_table(pa.table([ids, categories, texts], schema=schema))
    return path
