"""Label-efficiency plot as a self-contained SVG: accuracy over labels, one line per method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np

from usl_backend.evaluation.efficiency import RANDOM

if TYPE_CHECKING:
    from usl_backend.evaluation.efficiency import Efficiency

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 48
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's palette, distinguishable with color blindness; random is grey."""


def draw(efficiency: Efficiency) -> str:
    """Draw the curve.

    Parameters
    ----------
    efficiency
        Result of `replay`.

    Returns
    -------
    str
        An SVG document: mean accuracy in % over the number of labels (logarithmic), with one standard deviation over
        the seeds on both sides.
    """
    budgets = efficiency.budgets
    means = np.array([values.mean(axis=1) for values in efficiency.accuracy.values()])
    spreads = np.array([values.std(axis=1, ddof=1) for values in efficiency.accuracy.values()])
    low = math.floor(float((means - spreads).min()) * 10) / 10
    high = math.ceil(float((means + spreads).max()) * 10) / 10
    high = min(high, 1.0)
    low = max(0.0, min(low, high - 0.1))
    high = max(high, low + 0.1)
    span = math.log(budgets[-1] / budgets[0]) or 1.0

    def x(budget: int) -> float:
        middle = 0.5 if len(budgets) == 1 else math.log(budget / budgets[0]) / span
        return LEFT + (WIDTH - LEFT - RIGHT) * middle

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(share, low), high)) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for step in range(round(low * 10), round(high * 10) + 1):
        at = y(step / 10)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{step * 10} %</text>')
    parts += [
        f'<text x="{x(budget):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{budget}</text>'
        for budget in budgets
    ]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">labels</text>'
    )
    for place, name in enumerate(efficiency.accuracy):
        color = "#777" if name == RANDOM else COLORS[place % len(COLORS)]
        upper = [(x(b), y(m + s)) for b, m, s in zip(budgets, means[place], spreads[place], strict=True)]
        lower = [(x(b), y(m - s)) for b, m, s in zip(budgets, means[place], spreads[place], strict=True)]
        line = [(x(b), y(m)) for b, m in zip(budgets, means[place], strict=True)]
        parts.append(f'<polygon points="{_points(upper + lower[::-1])}" fill="{color}" opacity="0.15"/>')
        parts.append(f'<polyline points="{_points(line)}" fill="none" stroke="{color}" stroke-width="2"/>')
        key = TOP + 16 * (place + 1)
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{key - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 28}" y="{key}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _points(places: list[tuple[float, float]]) -> str:
    """Format points for SVG."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
