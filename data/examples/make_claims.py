"""Make the claims of `judge.yaml`: answers of some assistant to simple questions, each with the verdict that is due.

python data/examples/make_claims.py        # writes the same bytes each time
"""

from __future__ import annotations

import json
import random
from pathlib import Path

COUNT = 160
SEED = 20261123
UNLABELLED_EVERY = 8
CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Kenya": "Nairobi", "Peru": "Lima", "Norway": "Oslo", "Egypt": "Cairo"}
UNITS = (("kilometre", "metres", 1000), ("hour", "seconds", 3600), ("byte", "bits", 8), ("dozen", "pieces", 12))


def main() -> None:
    """Write `claims.jsonl` beside this script."""
    dice = random.Random(SEED)
    target = Path(__file__).with_name("claims.jsonl")
    rows = (json.dumps(claim(number, dice), ensure_ascii=False) + "\n" for number in range(1, COUNT + 1))
    target.write_text("".join(rows), encoding="utf-8", newline="\n")


def claim(number: int, dice: random.Random) -> dict[str, str | None]:
    """A question, an answer that is right, wrong or beside the point, and which of them it is."""
    question, right, wrong = dice.choice((sum_of, capital_of, units_of))(dice)
    verdict = dice.choice(("correct", "correct", "incorrect", "evasive"))
    evasions = ("That depends on many things.", "I would rather talk about the weather.", "A good question!")
    answer = {"correct": right, "incorrect": wrong, "evasive": dice.choice(evasions)}[verdict]
    label = None if number % UNLABELLED_EVERY == 0 else verdict
    return {"claim_id": f"C-{number:04d}", "question": question, "candidate": answer, "truth": label}


def sum_of(dice: random.Random) -> tuple[str, str, str]:
    a, b = dice.randint(12, 99), dice.randint(12, 99)
    off = dice.choice((-10, -1, 1, 10))
    return f"What is {a} + {b}?", f"{a} + {b} = {a + b}.", f"{a} + {b} = {a + b + off}."


def capital_of(dice: random.Random) -> tuple[str, str, str]:
    country = dice.choice(tuple(CAPITALS))
    other = dice.choice([c for c in CAPITALS if c != country])
    return f"What is the capital of {country}?", f"It is {CAPITALS[country]}.", f"It is {CAPITALS[other]}."


def units_of(dice: random.Random) -> tuple[str, str, str]:
    one, many, factor = dice.choice(UNITS)
    count = dice.randint(2, 30)
    question = f"How many {many} are {count} times one {one}?"
    return question, f"{count * factor:,} {many}.", f"{count * factor // 2:,} {many}."


if __name__ == "__main__":
    main()
