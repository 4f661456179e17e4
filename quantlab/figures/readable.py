"""Numbers as people read them: few digits, a unit beside them, and a word where there is no number."""

from __future__ import annotations

import math


def short(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and a real minus sign; a dash for None, a word for NaN and infinity.

    >>> short(0.012345), short(-4.0), short(1e-7), short(None)
    ('0.0123', '−4', '1e−7', '–')
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite" if value > 0 else "−infinite"
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    text = f"{value:.{digits}g}"
    return (f"{float(text):.0f}" if "e" in text else text).replace("-", "−")


def counted(count: int) -> str:
    """A whole number in groups of three digits, with narrow spaces that do not break, as the 3D view writes it."""
    return f"{count:,}".replace(",", "\u202f")


def size(count: float | None) -> tuple[str, str]:
    """A number of bytes as (number, unit), in powers of 1000."""
    if count is None:
        return "–", ""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return short(count / factor), unit
    return short(float(count)), "B"


def duration(seconds: float | None) -> tuple[str, str]:
    """A time as (number, unit): milliseconds, seconds or minutes."""
    if seconds is None:
        return "–", ""
    if seconds < 1:
        return short(1000 * seconds, 2 if seconds >= 0.01 else 1), "ms"
    return (short(seconds, 2), "s") if seconds < 120 else (short(seconds / 60, 2), "min")
