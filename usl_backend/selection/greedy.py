"""Greedy methods on a kernel: MaxHerding and facility location."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.parameters import option
from usl_backend.selection.row_method import Picks, Problem, RowMethod
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress

TARGET_ROWS = 20_000
"""Rows, evenly spaced, over which coverage is summed in a larger pool."""
LAZY_ROWS = 32
"""Candidates whose gain is computed at once."""

Similarity = Callable[["NDArray[Any]", "NDArray[Any]"], "NDArray[Any]"]
"""(a, d) and (b, d) rows -> (a, b) similarities, 0 or more."""


def greedy_cover(
    rows: NDArray[np.floating[Any]],
    *,
    similarity: Similarity,
    budget: int,
    held: NDArray[np.int64],
    barred: NDArray[np.int64] | None = None,
    report: Progress | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Maximize the sum over rows (n, d) of the similarity to their best pick, greedily and lazily.

    `held` rows (l,) cover already; `barred` rows (b,), by default the same, are never picked. Returns the
    picks (budget,) in pick order, ties to the lower row, and the rise of the sum by each pick, which never rises along
    the order.

    Notes
    -----
    The sum is submodular, so a gain computed earlier bounds today's: only candidates at the top of the queue are
    computed again (Minoux 1978), and the picks are those of the plain greedy method.
    """
    n = len(rows)
    targets = rows if n <= TARGET_ROWS else rows[np.linspace(0, n - 1, TARGET_ROWS).astype(np.int64)]
    cover = np.zeros(len(targets), dtype=np.float32)
    for block in row_blocks(len(held), size=512):
        np.maximum(cover, similarity(rows[held[block]], targets).max(axis=0), out=cover)
    gains = np.empty(n)
    for block in row_blocks(n, size=256):
        above = similarity(rows[block], targets)
        above -= cover
        gains[block] = np.maximum(above, 0.0, out=above).sum(axis=1, dtype=np.float64)
        if report is not None:
            report("computing gains", block.stop, n)
    forbidden = set((held if barred is None else barred).tolist())
    queue = [(-gain, row) for row, gain in enumerate(gains.tolist()) if row not in forbidden]
    heapq.heapify(queue)
    fresh = np.zeros(n, dtype=np.int64)
    picks, gain = np.empty(budget, dtype=np.int64), np.empty(budget)
    for step in range(budget):
        while fresh[queue[0][1]] != step:
            stale: list[int] = []
            while queue and fresh[queue[0][1]] != step and len(stale) < LAZY_ROWS:
                stale.append(heapq.heappop(queue)[1])
            above = similarity(rows[np.array(stale)], targets)
            above -= cover
            renewed = np.maximum(above, 0.0, out=above).sum(axis=1, dtype=np.float64)
            for row, value in zip(stale, renewed.tolist(), strict=True):
                fresh[row] = step
                heapq.heappush(queue, (-value, row))
        negative, row = heapq.heappop(queue)
        picks[step], gain[step] = row, -negative
        np.maximum(cover, similarity(rows[row : row + 1], targets)[0], out=cover)
        if report is not None:
            report("picking", step + 1, budget)
    return picks, gain


def gaussian(width: float) -> Similarity:
    """Return the kernel exp(-squared distance / width^2)."""

    def similarity(rows: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
        distances = squared_distances(rows, others)
        distances *= -1.0 / width**2
        return np.asarray(np.exp(distances, out=distances))

    return similarity


@dataclass(frozen=True, kw_only=True)
class MaxHerding(RowMethod):
    """Greedy coverage under a Gaussian kernel (Bae, Noh, Sutherland, ECCV 2024).

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    width : float >= 0.001, default 1.0
        Width of the Gaussian kernel on unit-length rows.

    Notes
    -----
    Source: generalized coverage with k(x, y) = exp(-|x - y|^2 / width^2), width 1 on unit-length rows as in the
    paper. Differs: above 20,000 rows coverage is summed over 20,000 evenly spaced ones.
    """

    name = "maxherding"
    width: float = option(1.0, "width of the Gaussian kernel on unit-length rows", least=1e-3)

    def choose(self, problem: Problem) -> Picks:
        """Pick greedily."""
        picks, gain = greedy_cover(
            problem.rows, similarity=gaussian(self.width), budget=problem.budget, held=problem.held,
            barred=problem.barred, report=problem.report,
        )  # fmt: skip
        return Picks(rows=picks, gain=gain)


@dataclass(frozen=True, kw_only=True)
class FacilityLocation(RowMethod):
    """Greedy facility location under the cosine, brought to [0, 1].

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    """

    name = "facility-location"

    def choose(self, problem: Problem) -> Picks:
        """Pick greedily."""

        def similarity(rows: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
            product = rows @ others.T
            product += 1.0
            product /= 2.0
            return np.asarray(np.maximum(product, 0.0, out=product))

        picks, gain = greedy_cover(
            problem.rows,
            similarity=similarity,
            budget=problem.budget,
            held=problem.held,
            barred=problem.barred,
            report=problem.report,
        )
        return Picks(rows=picks, gain=gain)
