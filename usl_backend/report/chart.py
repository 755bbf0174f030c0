"""Coordinates of the coverage and loss charts; the template draws them and the style sheet colors them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.evaluation.budgets import BudgetCurve
    from usl_backend.report.record import TrainingFigures, Trust

WIDTH: Final = 720
HEIGHT: Final = 360
LEFT: Final = 48
RIGHT: Final = 12
TOP: Final = 12
BOTTOM: Final = 44
_MOST: Final = 400


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: coordinate and label."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Coverage chart for the template; coordinates in SVG units, y downwards.

    Attributes
    ----------
    picks, mean
        Points of the two lines, in SVG format.
    band
        Corners of the band around the mean, in SVG format.
    x_ticks, y_ticks
        Ticks of the axes.
    end_picks, end_mean
        y coordinates of the lines' ends.
    """

    picks: str
    mean: str
    band: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    end_picks: float
    end_mean: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class LossChart:
    """Chart of two losses over the epochs; coordinates as in `Chart`."""

    local_loss: str
    global_loss: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def loss_chart(training: TrainingFigures) -> LossChart:
    """Build the chart of both losses over the epochs, each relative to its first epoch.

    Parameters
    ----------
    training
        Figures of at least two epochs.

    Returns
    -------
    LossChart
        The y axis ends above the highest value, at 1 or more; at most 400 points per line.
    """
    epochs = len(training.local_loss)
    lines = [
        [value / losses[0] if losses[0] > 0.0 else 0.0 for value in losses]
        for losses in (training.local_loss, training.global_loss)
    ]
    peak = max(1.0, *lines[0], *lines[1])
    mark = 0.25 * 2.0 ** max(0, math.ceil(math.log2(peak / 1.5)))
    top = mark * math.ceil(peak / mark - 1e-9)
    chosen = np.unique(np.linspace(0, epochs - 1, min(epochs, _MOST)).round().astype(int))

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / (epochs - 1)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share / top

    local, whole = (_places([(x(index + 1), y(line[index])) for index in chosen]) for line in lines)
    step = _step(epochs)
    return LossChart(
        local_loss=local,
        global_loss=whole,
        x_ticks=tuple(Tick(round(x(epoch), 1), f"{epoch:,}") for epoch in range(step, epochs + 1, step)),
        y_ticks=tuple(
            Tick(round(y(share), 1), f"{100 * share:.0f} %")
            for share in np.arange(0.0, top + mark / 2, mark).tolist()
        ),
    )


def coverage_chart(trust: Trust) -> Chart:
    """Build the chart of the coverage after each pick, and after as many tasks of random selections.

    Parameters
    ----------
    trust
        Coverage curves of m picks.

    Returns
    -------
    Chart
        Both axes begin at zero, the lines at the first pick; at most 400 points per line.
    """
    m = len(trust.picks)
    chosen = np.unique(np.linspace(0, m - 1, min(m, _MOST)).round().astype(int))
    step, top = _scale(trust)

    def x(pick: float) -> float:
        return _x(pick, m)

    def y(share: float) -> float:
        return _y(share, top)

    def line(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(x(index + 1), y(values[index])) for index in chosen]

    high, low = line(trust.random_high), line(trust.random_low)
    shares = np.arange(0.0, top + step / 2, step).tolist()
    every = _step(m)
    return Chart(
        picks=_places(line(trust.picks)),
        mean=_places(line(trust.random_mean)),
        band=_places(high + low[::-1]),
        x_ticks=tuple(Tick(round(x(pick), 1), f"{pick:,}") for pick in range(every, m + 1, every)),
        y_ticks=tuple(Tick(round(y(share), 1), f"{100 * share:.0f} %") for share in shares),
        end_picks=round(y(trust.picks[-1]), 1),
        end_mean=round(y(trust.random_mean[-1]), 1),
    )


def budget_chart(curve: BudgetCurve) -> Chart:
    """Build the chart of the coverage over budgets, of picks and of random tasks; it has no band."""
    most = curve.budgets[-1]
    top, step = 1.0, 0.2

    def line(values: Sequence[float]) -> str:
        return _places(
            [(_x(budget, most), _y(share, top)) for budget, share in zip(curve.budgets, values, strict=True)]
        )

    every = _step(most)
    return Chart(
        picks=line(curve.picks),
        mean=line(curve.random),
        band="",
        x_ticks=tuple(Tick(round(_x(at, most), 1), f"{at:,}") for at in range(every, most + 1, every)),
        y_ticks=tuple(
            Tick(round(_y(share, top), 1), f"{100 * share:.0f} %")
            for share in np.arange(0.0, top + step / 2, step).tolist()
        ),
        end_picks=round(_y(curve.picks[-1], top), 1),
        end_mean=round(_y(curve.random[-1], top), 1),
    )


def pick_place(trust: Trust, labeled: int, share: float) -> tuple[float, float]:
    """Return the place in `coverage_chart` where so many labeled picks reach such a share of the pool."""
    return round(_x(labeled, len(trust.picks)), 1), round(_y(share, _scale(trust)[1]), 1)


def _scale(trust: Trust) -> tuple[float, float]:
    """Return the tick distance of the y axis, and the share at its top."""
    peak = max(max(trust.picks), max(trust.random_high), 0.05)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if peak / step <= 5 or step == 0.25)
    return step, min(1.0, step * math.ceil(peak / step - 1e-9))


def _x(pick: float, picks: int) -> float:
    """Return the x coordinate of a number of picks."""
    return LEFT + (WIDTH - LEFT - RIGHT) * pick / picks


def _y(share: float, top: float) -> float:
    """Return the y coordinate of a share."""
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share / top


def _places(points: Sequence[tuple[float, float]]) -> str:
    """Format points for SVG."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _step(most: int) -> int:
    """Return the tick distance for an axis from 0 to `most`: 1, 2 or 5 times a power of ten, at most eight ticks."""
    sizes: list[int] = [base * 10**power for power in range(9) for base in (1, 2, 5)]
    return next(size for size in sizes if most / size <= 8)
