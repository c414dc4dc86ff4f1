"""Amounts of money in words: enough digits that small sums differ, not more."""

from __future__ import annotations

DIGITS = 4  # after the point, at least
UNIT_DIGITS = 10  # a unit is 1e-10 USD


def dollars(units: int) -> str:
    """`$1,234.5000`; a sum under a hundredth of a cent gets the digits that show it: `$0.000012`."""
    return same_digits(units)[0]


def same_digits(*units: int, least: int = DIGITS) -> list[str]:
    """Amounts in USD with equally many digits: at least two significant ones for each that is not zero."""
    digits = next((d for d in range(least, UNIT_DIGITS) if all(_shows(u, d) for u in units)), UNIT_DIGITS)
    return [f"${_rounded(u, digits) / 10**digits:,.{digits}f}" for u in units]


def sum_over(parts: tuple[int, int], limit: int) -> list[str]:
    """The two parts of a sum and the limit that it passes, so that the digits shown show it as well."""
    digits = DIGITS
    while digits < UNIT_DIGITS and sum(_rounded(p, digits) for p in parts) <= _rounded(limit, digits):
        digits += 1
    return same_digits(*parts, limit, least=digits)


def _shows(units: int, digits: int) -> bool:
    return units == 0 or abs(_rounded(units, digits)) >= 10


def _rounded(units: int, digits: int) -> int:
    step: int = 10 ** (UNIT_DIGITS - digits)
    return (units + step // 2) // step
