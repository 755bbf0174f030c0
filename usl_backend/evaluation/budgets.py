"""Coverage of the pool over budgets: what more or fewer picks would reach, beside random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.evaluation.reach import coverage_curve, reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress

TIMES: Final = 10
"""Budgets go up to so many times the default one."""
MOST: Final = 1_000
"""Budgets go no further: pools with hundreds of classes would take minutes."""
DRAWS: Final = 5
"""Random orders for comparison."""
EVALUATED: Final = 5_000
"""Number of evenly spaced rows on which coverage is measured; 5,000 give a precision of 0.7 points."""
POINTS: Final = 100
"""Budgets that are kept."""


@dataclass(frozen=True)
class BudgetCurve:
    """Coverage over budgets, along one pick order.

    Attributes
    ----------
    default
        The budget of which as many random rows set the radius, as in `reach`.
    budgets
        Numbers of picks, rising.
    picks, random
        Share of the pool that so many picks, or random rows on average, reach; 0 to 1, rising.
    before
        Share that labeled rows reach before the first pick.
    """

    default: int
    budgets: tuple[int, ...]
    picks: tuple[float, ...]
    random: tuple[float, ...]
    before: float = 0.0


def budget_curve(
    rows: NDArray[np.floating[Any]],
    order: NDArray[np.integer[Any]],
    *,
    default: int,
    rng: np.random.Generator,
    held: NDArray[np.integer[Any]] | None = None,
    evaluated: int = EVALUATED,
    progress: Progress | None = None,
) -> BudgetCurve:
    """Measure the coverage of every budget up to the length of a pick order.

    Parameters
    ----------
    rows : (n, d) float
        The pool.
    order : (m,) integers
        Rows in pick order.
    default
        Default budget, at most m; sets the radius, as in `reach`.
    rng
        Random generator of the draws.
    held : (l,) integers or None
        Labeled rows: never drawn, and covering from the start.
    evaluated
        Maximum number of rows on which coverage is measured.
    progress
        Called as `progress(step, done, total)`.
    """
    held = np.asarray([] if held is None else held, dtype=np.int64)
    usual = reach(
        rows, order[:default], rng=rng, held=held, draws=DRAWS, evaluated=evaluated, progress=progress
    )
    seen = np.ascontiguousarray(rows[:: usual.every])
    known = rows[held] if len(held) else None
    free = np.setdiff1d(np.arange(len(rows)), held)
    orders = [order, *(rng.choice(free, len(order), replace=False) for _ in range(DRAWS))]
    curves = []
    for number, one in enumerate(orders):
        if progress is not None:
            progress("comparing budgets", number, len(orders))
        curves.append(coverage_curve(seen, rows[np.asarray(one)], radius=usual.radius, held=known))
    kept = np.unique(np.geomspace(1, len(order), POINTS).round().astype(int))
    kept = np.unique(np.append(kept, default))
    return BudgetCurve(
        default=default,
        budgets=tuple(kept.tolist()),
        picks=_at(curves[0], kept),
        random=_at(np.mean(curves[1:], axis=0), kept),
        before=round(usual.before, 5),
    )


def _at(curve: NDArray[np.float64], budgets: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the shares at some budgets, to five decimals."""
    return tuple(np.round(curve[budgets - 1], 5).tolist())
