"""Tables, bars and plot of the quality benchmark, made of the records that it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PER_CLASS = (1, 2, 4, 10)
"""Labels per class that are bought."""
COLORS = ("#0b6", "#888", "#06c", "#c60", "#c09", "#990", "#09c", "#c33", "#639", "#333", "#6a3")
WIDTH, HEIGHT, LEFT, TOP, LEGEND = 720, 440, 50, 20, 180


class Results:
    """Records as a table of cells x seeds per method."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.cells = sorted({(r["set"], r["per_class"]) for r in records})
        self.seeds = sorted({r["seed"] for r in records})
        self.methods = list(dict.fromkeys(r["method"] for r in records))
        held = {(r["method"], r["set"], r["per_class"], r["seed"]): r for r in records}
        self.values = {
            method: np.array(
                [
                    [np.mean(held[method, *cell, seed]["accuracy"]) for seed in self.seeds]
                    for cell in self.cells
                ]
            )
            for method in self.methods
        }
        self.evenness = {
            method: np.array(
                [[held[method, *cell, seed]["evenness"] for seed in self.seeds] for cell in self.cells]
            )
            for method in self.methods
        }
        self.purity = {
            method: np.array(
                [
                    np.mean([held[method, *cell, seed].get("purity", np.nan) for seed in self.seeds])
                    for cell in self.cells
                ]
            )
            for method in self.methods
        }
        self.half = np.array(
            [
                np.mean(r["half"]) - np.mean(r["fresh_half"])
                for r in records
                if r["method"] == "usl" and "half" in r
            ]
        )

    def means(self) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
        """Average each method in each cell, and find the best method of each cell, the oracle left out."""
        means = {method: values.mean(axis=1) for method, values in self.values.items()}
        return means, np.max([values for method, values in means.items() if "oracle" not in method], axis=0)

    def table(self) -> str:
        """Make a table of the mean accuracy in each cell, best method first, with regret to the best of the cell."""
        means, best = self.means()
        lines = [
            f"{'method':20s} {'mean':>5s} {'regret':>6s} {'worst':>5s} | "
            + " ".join(f"{name[:7]}{name[-3:]}.{each}" for name, each in self.cells)
        ]
        for method in sorted(means, key=lambda name: -means[name].mean()):
            regret = best - means[method]
            cells = " ".join(
                f"{value:{11 + len(str(each))}.1f}"
                for value, (_, each) in zip(means[method], self.cells, strict=True)
            )
            lines.append(
                f"{method:20s} {means[method].mean():5.1f} {regret.mean():6.2f} {regret.max():5.1f} | {cells}"
            )
        return "\n".join(lines)

    def markdown(self, shown: Sequence[str] = ("usl", "k-means", "paper-cifar10", "random")) -> str:
        """Make two Markdown tables: every method at each budget, and cells with s.d. over seeds and purity."""
        means, best = self.means()
        by_budget = self.lines()
        heads = [f"{each} per class" for each in PER_CLASS]
        lines = ["| method | " + " | ".join([*heads, "mean", "mean regret", "worst regret"]) + " |"]
        lines.append("|---" * (len(PER_CLASS) + 4) + "|")
        for method in sorted(means, key=lambda name: -means[name].mean()):
            regret = best - means[method]
            figures = [*by_budget[method], means[method].mean(), regret.mean(), regret.max()]
            lines.append(f"| {method} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
        shown = [method for method in shown if method in means]
        pure = [m for m in ("usl", "random") if m in self.purity and not np.isnan(self.purity[m]).any()]
        purity = [f"purity of the cells, {method}" for method in pure]
        lines += ["", "| set | per class | " + " | ".join([*shown, *purity]) + " |"]
        lines.append("|---" * (len(shown) + len(pure) + 2) + "|")
        for place, (name, each) in enumerate(self.cells):
            cells = [
                f"{self.values[m][place].mean():.1f} ± {self.values[m][place].std(ddof=1):.1f}" for m in shown
            ] + [f"{self.purity[method][place]:.1f}" for method in pure]
            lines.append(f"| {name} | {each} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def lines(self) -> dict[str, list[float]]:
        """Average each method at each budget over all sets."""
        return {
            method: [
                float(
                    np.mean(
                        [row.mean() for row, cell in zip(values, self.cells, strict=True) if cell[1] == each]
                    )
                )
                for each in PER_CLASS
            ]
            for method, values in self.values.items()
        }

    def against(
        self, other: NDArray[np.float64], *, margin: float, ours: str = "usl"
    ) -> tuple[float, float, list[str]]:
        """Compare with another method: paired mean, worst cell, cells below -max(margin, 2 standard errors)."""
        difference = self.values[ours] - other
        mean = difference.mean(axis=1)
        error = (
            difference.std(axis=1, ddof=1) / np.sqrt(difference.shape[1]) if len(self.seeds) > 1 else 0 * mean
        )
        below = [
            f"{name} {each}/class {value:+.1f} (2 s.e. {2 * spread:.1f})"
            for (name, each), value, spread in zip(self.cells, mean, error, strict=True)
            if value < -max(margin, 2 * spread)
        ]
        return float(mean.mean()), float(mean.min()), below

    def bars(self, steady: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """List each figure asked for, its value and whether it holds."""
        means, _ = self.means()
        single = [m for m in self.methods if "oracle" not in m and not m.startswith("usl")]
        rows: list[dict[str, Any]] = []

        def add(name: str, value: float, holds: bool, note: Sequence[str] = ()) -> None:
            rows.append({"figure": name, "value": round(value, 2), "holds": bool(holds), "note": list(note)})

        for name, other, least, margin in (
            ("default - paper-cifar10, mean >= 2", "paper-cifar10", 2.0, 2.0),
            ("default - best single baseline, mean >= 0", "", 0.0, 3.0),
            ("default - random, mean >= 10", "random", 10.0, 1.0),
        ):
            rival = other or max(single, key=lambda method: means[method].mean(), default="")
            if rival not in means:
                continue
            mean, worst, below = self.against(self.values[rival], margin=margin)
            add(f"{name} ({rival})", mean, mean >= least and not below, [f"worst cell {worst:+.1f}", *below])
        regret = np.max([means[m] for m in (*single, "usl")], axis=0) - means["usl"]
        place = self.cells[int(regret.argmax())]
        add("mean regret to the best of each cell <= 0.8", float(regret.mean()), regret.mean() <= 0.8)
        add("worst regret <= 4", float(regret.max()), regret.max() <= 4, [f"at {place[0]} {place[1]}/class"])
        if "usl-t" in means:
            mean, worst, below = self.against(self.values["usl"], margin=2.0, ours="usl-t")
            add("usl-t - usl, mean >= 0", mean, mean >= 0 and not below, [f"worst cell {worst:+.1f}", *below])
            gap = float((self.evenness["usl-t"] - self.evenness["usl"]).mean())
            spread = float(self.evenness["usl"].std(axis=1).mean())
            add("class balance, usl-t - usl >= - s.d. of usl", gap, gap >= -spread, [f"s.d. {spread:.3f}"])
        if len(self.half):
            add("first half - fresh, mean >= -1.5", float(self.half.mean()), self.half.mean() >= -1.5)
        if steady:
            ratio = float(np.mean([r["usl"] / max(r["random"], 1e-9) for r in steady]))
            add("stability, s.d. default / random <= 0.6", ratio, ratio <= 0.6)
        return rows


def plot(lines: Mapping[str, Sequence[float]], steps: Sequence[int], path: Path, *, bold: str) -> None:
    """Write an SVG: per method a line of accuracy in percent over labels per class; `bold` is drawn thick."""
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
