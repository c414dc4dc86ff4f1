"""Make the invoices of `invoices.yaml`: invented letters with lines, sums and terms, in four layouts.

python data/examples/make_invoices.py        # writes the same bytes each time
"""

from __future__ import annotations

import json
import random
from pathlib import Path

COUNT = 120
SEED = 20261122
SELLERS = (
    "Nordlicht Papier GmbH, Hafenstr. 4, 20457 Hamburg",
    "Atelier Bouvier, 12 rue des Carmes, 44000 Nantes",
    "Keller & Daughters Ltd, 9 Mill Lane, York YO1 7AB",
    "Tanaka Tools K.K., 2-4-1 Ebisu, Tokyo",
)
CURRENCIES = ("EUR", "EUR", "GBP", "JPY")
GOODS = (
    ("paper, A4, 80 g", "box", 21.5), ("hinges, brass", "piece", 3.2), ("oak board 20 mm", "m2", 48.0), ("delivery", "flat", 12.0),
    ("repair of a lathe", "hour", 65.0), ("ink, black", "litre", 17.9), ("bolts M8 x 40", "piece", 0.18), ("training on site", "day", 720.0),
)  # fmt: skip
TERMS = ("payable within 14 days", "30 days net", "due on receipt", "2 % discount within 10 days, else 30 days net")


def main() -> None:
    """Write `invoices.jsonl` beside this script."""
    dice = random.Random(SEED)
    target = Path(__file__).with_name("invoices.jsonl")
    rows = (json.dumps(invoice(number, dice), ensure_ascii=False) + "\n" for number in range(1, COUNT + 1))
    target.write_text("".join(rows), encoding="utf-8", newline="\n")


def invoice(number: int, dice: random.Random) -> dict[str, str]:
    """One letter, and when it came in."""
    seller = dice.randrange(len(SELLERS))
    lines = [(goods, dice.choice((1, 2, 3, 5, 12, 40))) for goods in dice.sample(GOODS, dice.randint(1, 5))]
    total = sum(price * count for (_, _, price), count in lines)
    date = f"2026-{dice.randint(9, 11):02d}-{dice.randint(1, 28):02d}"
    head = f"{SELLERS[seller]}\nInvoice no. {2600 + number}, {date}"
    body = "\n".join(line(dice, *goods, count, CURRENCIES[seller]) for goods, count in lines)
    end = f"Total {CURRENCIES[seller]} {total:,.2f}, {dice.choice(TERMS)}"
    text = "\n\n".join((head, body, end))
    if number % 17 == 0:
        text += "\n\nThis letter was printed twice; please ignore the second copy.\n\n" + text
    return {"invoice_id": f"INV-{number:04d}", "received_on": date, "text": text}


def line(dice: random.Random, name: str, unit: str, price: float, count: int, currency: str) -> str:
    """A line in one of four layouts."""
    layouts = (
        f"{count} {unit} {name} at {price:.2f} = {count * price:.2f} {currency}",
        f"- {name}: {count} x {price:.2f}",
        f"{name:<24}{count:>5} {unit:<6}{count * price:>12.2f}",
        f"{name} ({unit}), quantity {count}, unit price {currency} {price:.2f}",
    )
    return dice.choice(layouts)


if __name__ == "__main__":
    main()
