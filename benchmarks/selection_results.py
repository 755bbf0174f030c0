"""Tables, bars and plot of the quality benchmark, made of the records that it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

BINS = ((0, 4), (4, 8), (8, 16), (16, 32), (32, 80), (80, 10**9))
"""Rows per pick, from and below."""
FORMER = ", 20 neighbors"
"""End of the name of what a default was before."""
CHANCE = 0.01
"""Of a loss that is called significant where there is none: one-sided, by pairs within a cell."""
FEWEST_POOLS = 3
"""Pools that a cell must have for a loss in it to be judged."""
COLORS = ("#0b6", "#888", "#06c", "#c60", "#c09", "#990", "#09c", "#c33", "#639", "#333", "#6a3")
WIDTH, HEIGHT, LEFT, TOP, LEGEND = 720, 440, 50, 20, 220


class Cell(NamedTuple):
    """A set, a size of the pool and a budget."""

    name: str
    pool: int
    per_class: float
    rows: int
    budget: int

    @property
    def rows_per_pick(self) -> float:
        """Mean number of rows that a pick stands for."""
        return self.rows / self.budget

    def __str__(self) -> str:
        return f"{self.name}, {self.budget} of {self.rows:,}"


@dataclass(frozen=True)
class Bar:
    """A figure asked for."""

    figure: str
    value: float
    holds: bool
    note: str = ""


class Loss(NamedTuple):
    """A significant loss: points, to whom, where."""

    points: float
    method: str
    cell: Cell


class Results:
    """Accuracy per cell, method and seed; `ours` is the method that the others are held against."""

    def __init__(self, records: Sequence[dict[str, Any]], *, ours: str = "usl") -> None:
        self.ours = ours
        self.methods = list(dict.fromkeys(one["method"] for one in records))
        held: dict[Cell, dict[str, dict[int, float]]] = {}
        for one in records:
            cell = Cell(one["set"], one["pool"], one["per_class"], one["rows"], one["budget"])
            held.setdefault(cell, {}).setdefault(one["method"], {})[one["seed"]] = float(
                np.mean(one["accuracy"])
            )
        # A cell counts where every method was measured, by the pools that all of them saw.
        self.cells: dict[Cell, dict[str, NDArray[np.float64]]] = {}
        for cell, by_method in held.items():
            if len(by_method) == len(self.methods):
                seeds = sorted(set.intersection(*(set(found) for found in by_method.values())))
                if len(seeds) > 1:
                    self.cells[cell] = {
                        method: np.array([found[seed] for seed in seeds])
                        for method, found in by_method.items()
                    }
        halves = [one for one in records if "half" in one]
        self.half = [float(np.mean(one["half"]) - np.mean(one["fresh_half"])) for one in halves]
        self.rivals = [
            one for one in self.methods if one != ours and not one.startswith("usl") and "oracle" not in one
        ]

    def of_bin(self, low: float, high: float) -> list[Cell]:
        """List the cells with so many rows per pick."""
        return [cell for cell in self.cells if low <= cell.rows_per_pick < high]

    def difference(self, cells: Sequence[Cell], other: str) -> tuple[float, float]:
        """Return the mean over cells of ours minus the other, and its standard error over cells."""
        found = [float((self.cells[cell][self.ours] - self.cells[cell][other]).mean()) for cell in cells]
        return float(np.mean(found)), float(np.std(found) / max(1, len(found) - 1) ** 0.5)

    def regret(self, cell: Cell, method: str) -> float:
        """Return what a method loses to the best of a cell, found on one half of the pools and judged on the other."""
        values = self.cells[cell]
        some = [one for one in self.methods if one in self.rivals or one in (self.ours, method)]
        found = []
        for turn in (0, 1):
            seen, judged = slice(turn, None, 2), slice(1 - turn, None, 2)
            best = max(some, key=lambda one: float(values[one][seen].mean()))
            found.append(float(values[best][judged].mean() - values[method][judged].mean()))
        return float(np.mean(found))

    def losses(self, method: str, to: Sequence[str]) -> Iterator[Loss]:
        """Yield the significant losses of a method to others."""
        for cell, values in self.cells.items():
            for other in to if len(values[method]) >= FEWEST_POOLS else ():
                lost = values[other] - values[method]
                if lost.mean() > 0.0 and (
                    lost.std() == 0.0 or stats.ttest_1samp(lost, 0.0, alternative="greater").pvalue < CHANCE
                ):
                    yield Loss(float(lost.mean()), other, cell)

    def markdown(self) -> str:
        """Make two Markdown tables: ours by rows per pick, and every method's mean, regret and worst losses."""
        others = [one for one in self.methods if one != self.ours]
        heads = [f"- {one}" for one in others]
        lines = ["| rows per pick | cells | " + " | ".join([self.ours, *heads, "regret"]) + " |"]
        lines.append("|---" * (len(heads) + 4) + "|")
        for low, high in (*BINS, (0, 10**9)):
            if not (cells := self.of_bin(low, high)):
                continue
            name = "all" if high - low == 10**9 else f"{low} to {high}" if high < 10**9 else f"{low} and more"
            mean = np.mean([self.cells[cell][self.ours].mean() for cell in cells])
            apart = ["{:+.1f} ± {:.1f}".format(*self.difference(cells, other)) for other in others]
            regret = np.mean([self.regret(cell, self.ours) for cell in cells])
            lines.append(
                f"| {name} | {len(cells)} | {mean:.1f} | " + " | ".join(apart) + f" | {regret:.1f} |"
            )
        lines += [
            "",
            "| method | mean | regret | worst significant loss | to | at |",
            "|---|---|---|---|---|---|",
        ]
        means = {one: np.mean([values[one].mean() for values in self.cells.values()]) for one in self.methods}
        for method in sorted(self.methods, key=lambda one: -means[one]):
            regret = np.mean([self.regret(cell, method) for cell in self.cells])
            to = [one for one in (*self.rivals, self.ours) if one != method]
            worst = max(self.losses(method, to), default=None)
            told = f"{worst.points:.1f} | {worst.method} | {worst.cell}" if worst else "none | | "
            lines.append(f"| {method} | {means[method]:.1f} | {regret:.1f} | {told} |")
        return "\n".join(lines) + "\n"

    def bars(self, steady: Sequence[dict[str, Any]]) -> Iterator[Bar]:
        """Yield each figure asked for, its value and whether it holds."""
        if self.ours not in self.methods or not self.cells:
            return
        former = self.ours + FORMER
        for name, low, high, least in (("below", 0, 16, 1.0), ("from", 16, 10**9, -0.1)):
            if former in self.methods and (cells := self.of_bin(low, high)):
                mean, error = self.difference(cells, former)
                yield Bar(
                    f"{self.ours} - {former}, {name} 16 rows per pick >= {least}", mean, mean >= least,
                    f"± {error:.1f} over {len(cells)} cells",
                )  # fmt: skip
        if "random" in self.methods:
            found = list(self.losses(self.ours, ["random"]))
            yield Bar(
                "cells significantly below random = 0", len(found), not found,
                "; ".join(f"{one.cell} -{one.points:.1f}" for one in found),
            )  # fmt: skip
        regret = float(np.mean([self.regret(cell, self.ours) for cell in self.cells]))
        yield Bar(f"mean regret over {len(self.cells)} cells <= 0.3", regret, regret <= 0.3)
        worst = max(self.losses(self.ours, self.rivals), default=None)
        yield Bar(
            "worst significant loss <= 2", worst.points if worst else 0.0, worst is None or worst.points <= 2.0,
            f"to {worst.method}, {worst.cell}" if worst else "",
        )  # fmt: skip
        if self.half:
            mean = float(np.mean(self.half))
            yield Bar("first half of the order - fresh selection >= -1.5", mean, mean >= -1.5)
        if steady:
            ratio = float(np.mean([one["usl"] / max(one["random"], 1e-9) for one in steady]))
            yield Bar("stability, s.d. usl / random <= 0.6", ratio, ratio <= 0.6)


def plot(results: Results, path: Path) -> None:
    """Write an SVG: per method a line of accuracy minus random's over rows per pick; ours is drawn thick."""
    bins = [cells for low, high in BINS if (cells := results.of_bin(low, high))]
    names = [f"{low}+" for low, high in BINS if results.of_bin(low, high)]
    lines = {
        method: [
            float(np.mean([(results.cells[c][method] - results.cells[c]["random"]).mean() for c in cells]))
            for cells in bins
        ]
        for method in results.methods
    }
    low, high = (
        edge(min(line) if edge is min else max(line) for line in lines.values()) for edge in (min, max)
    )

    def x(step: int) -> float:
        return LEFT + step * (WIDTH - LEFT - LEGEND - 10) / max(1, len(bins) - 1)

    def y(value: float) -> float:
        return TOP + (high + 1 - value) / (high - low + 2) * (HEIGHT - TOP - 50)

    size = f'width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="#fff"/>',
    ]
    for value in range(int(low // 5) * 5, int(high) + 5, 5):
        parts += [
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - LEGEND}" stroke="#ddd"/>',
            f'<text x="20" y="{y(value) + 4:.1f}">{value}</text>',
        ]
    parts += [
        f'<text x="{x(step):.1f}" y="{HEIGHT - 30}" text-anchor="middle">{name}</text>'
        for step, name in enumerate(names)
    ]
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">rows per pick; points above random</text>')
    told = {name: f"{name} {np.mean(line):+.1f}" for name, line in lines.items()}
    for place, name in enumerate(sorted(lines, key=lambda one: -sum(lines[one]))):
        color, thick = COLORS[place % len(COLORS)], 3 if name == results.ours else 1.5
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in enumerate(lines[name]))
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{thick}"/>',
            f'<text x="{WIDTH - LEGEND + 10}" y="{TOP + 16 + 18 * place}" fill="{color}">{told[name]}</text>',
        ]
    parts.append("</svg>")
    path.write_text("\n".join(parts), encoding="utf-8")
