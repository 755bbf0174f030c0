"""Lines of accuracy over labels per class as SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

COLORS = ("#0b6", "#888", "#06c", "#c60", "#c09", "#990", "#09c", "#c33", "#639", "#333", "#6a3")
WIDTH, HEIGHT, LEFT, TOP, LEGEND = 720, 440, 50, 20, 180


def plot(lines: Mapping[str, Sequence[float]], steps: Sequence[int], path: Path, *, bold: str) -> None:
    """Write one line per method.

    Parameters
    ----------
    lines
        Method -> accuracy in percent at each step.
    steps
        Labels per class.
    path
        SVG file to write.
    bold
        Method drawn thick.
    """
    low = min(min(line) for line in lines.values()) - 2
    high = max(max(line) for line in lines.values()) + 2

    def x(step: int) -> float:
        return LEFT + step * (WIDTH - LEFT - LEGEND - 10) / max(1, len(steps) - 1)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - 50)

    size = f'width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="#fff"/>',
    ]
    for value in range(int(low // 10 + 1) * 10, int(high), 10):
        parts += [
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - LEGEND}" stroke="#ddd"/>',
            f'<text x="20" y="{y(value) + 4:.1f}">{value}</text>',
        ]
    parts += [
        f'<text x="{x(step):.1f}" y="{HEIGHT - 30}" text-anchor="middle">{each}</text>'
        for step, each in enumerate(steps)
    ]
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">labels per class; mean accuracy in %</text>')
    ranked = sorted(lines, key=lambda name: -sum(lines[name]))
    for place, name in enumerate(ranked):
        color, thick = COLORS[place % len(COLORS)], 3 if name == bold else 1.5
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in enumerate(lines[name]))
        mean = sum(lines[name]) / len(lines[name])
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{thick}"/>',
            f'<text x="{WIDTH - LEGEND + 10}" y="{TOP + 16 + 18 * place}" fill="{color}">{name} {mean:.1f}</text>',
        ]
    parts.append("</svg>")
    path.write_text("\n".join(parts), encoding="utf-8")
