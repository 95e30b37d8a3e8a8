"""Numbers as people like to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def compact(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits; plain decimals where that stays short, powers of ten elsewhere."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if -4 <= int(exponent) < 5:
        return f"{value:.{max(0, digits - 1 - int(exponent))}f}"
    return f"{mantissa}e{int(exponent)}"


def distinct(values: Sequence[float], digits: int = 2, most: int = 5) -> list[str]:
    """The values with as few significant digits (from `digits` to `most`) as tell the first from every other."""
    for n in range(digits, most + 1):
        texts = [compact(value, n) for value in values]
        if texts[0] not in texts[1:]:
            return texts
    return [compact(value, digits + 1) for value in values]


def share(rate: float) -> str:
    """A share in whole per cent that says 0 or 100 only where it is exactly so."""
    if 0 < rate <= 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= rate < 1 else f"{100 * rate:.0f} %"


def decimals_for(widths: Sequence[float], least: int = 2, most: int = 5) -> int:
    """Decimals that show two significant digits of the smallest of these interval widths."""
    positive = [width for width in widths if math.isfinite(width) and width > 0]
    if not positive:
        return least + 1
    return min(max(1 - math.floor(math.log10(min(positive))), least), most)


def fixed(value: float, decimals: int, sign: str = "") -> str:
    """`value` with so many decimals, fewer where it is large; `sign` "+" writes the plus of positive values."""
    if not math.isfinite(value) or abs(value) >= 1e5:
        return f"{sign if value > 0 else ''}{compact(value)}"
    whole_digits = len(str(int(abs(value))))
    return f"{value:{sign}.{min(decimals, max(0, 5 - whole_digits))}f}"
