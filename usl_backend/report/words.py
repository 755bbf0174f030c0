"""Number formatting for the report's pages."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def count(number: int) -> str:
    """Format an integer with thousands separators: 60000 -> "60,000"."""
    return f"{number:,}"


def tasks(number: int) -> str:
    """Format a number of tasks: "1 task", "842 tasks"."""
    return f"{number:,} task" + ("" if number == 1 else "s")


def percent(share: float, digits: int | None = None) -> str:
    """Format a share as a percentage; small ones keep a digit: 0.42 -> "42 %", 0.0042 -> "0.4 %"."""
    value = 100.0 * share
    if digits is None:
        digits = 0 if abs(value) >= 10 or value == 0 else 1
    return f"{value:.{digits}f} %"


def points(difference: float) -> str:
    """Format a signed difference of two shares in percentage points."""
    value = 100.0 * difference
    sign = "+" if value >= 0.05 else "−" if value <= -0.05 else "±"  # noqa: RUF001 - the real minus sign
    return f"{sign}{abs(value):.1f} points"


def small(number: float) -> str:
    """Format with three significant digits, without an exponent if possible."""
    if number == 0 or not math.isfinite(number):
        return "0" if number == 0 else "–"  # noqa: RUF001 - a dash for what is no number
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:,.{digits}f}" if digits <= 8 else f"{number:.2g}"


def moment(seconds: float) -> str:
    """Format Unix seconds to the minute: 0 -> "1970-01-01 00:00 UTC"."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
