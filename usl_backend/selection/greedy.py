"""Greedy kernel methods to compare USL with: MaxHerding, facility location, ProbCover, RDSS."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.parameters import option
from usl_backend.selection.row_method import Picks, Problem, RowMethod
from usl_backend.selection.rows.kmeans import kmeans
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
    report: Progress | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Maximize the sum over rows of the similarity to their best pick, greedily and lazily.

    Parameters
    ----------
    rows : (n, d) float
    similarity
        Of two blocks of rows, never negative.
    budget
        Picks.
    held : (l,) int64
        Rows that cover already and are never picked.
    report
        Called as `report("pick", done, budget)`.

    Returns
    -------
    picks : (budget,) int64
        In pick order; ties to the lower row.
    gain : (budget,) float64
        Rise of the sum by each pick; never rises along the order.

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
            report("gain", block.stop, n)
    forbidden = set(held.tolist())
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
            report("pick", step + 1, budget)
    return picks, gain


def gaussian(width: float) -> Similarity:
    """exp(-squared distance / width^2)."""

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
            report=problem.report,
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
            report=problem.report,
        )
        return Picks(rows=picks, gain=gain)


@dataclass(frozen=True, kw_only=True)
class ProbCover(RowMethod):
    """Greedy covering by balls of one radius (Yehuda, Dekel, Hacohen, Weinshall, NeurIPS 2022).

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    radius : float >= 0, default 0.0
        Radius of a ball (distance, not squared); 0 = by the purity rule.
    purity : float in [0, 1], default 0.95
        Share of pure balls that the radius must keep.
    classes : int >= 0, default 0
        Clusters that stand for classes in the purity rule; 0 = the budget.

    Notes
    -----
    Source: the radius is the largest at which 95 % of the balls hold rows of one k-means cluster only, with as
    many clusters as classes. Differs: a budget stands for the unknown number of classes; once all rows are
    covered the remaining picks go to the lowest rows.
    """

    name = "probcover"
    radius: float = option(0.0, "radius of a ball (distance, not squared); 0 = by the purity rule", least=0)
    purity: float = option(0.95, "share of pure balls that the radius must keep", least=0, most=1)
    classes: int = option(0, "clusters that stand for classes in the purity rule; 0 = the budget", least=0)

    def choose(self, problem: Problem) -> Picks:
        """Find the radius, then pick greedily."""
        classes = self.classes or problem.budget
        square = (self.radius or pure_radius(problem, classes=classes, purity=self.purity)) ** 2

        def similarity(rows: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
            return (squared_distances(rows, others) <= square).astype(np.float32)

        picks, gain = greedy_cover(
            problem.rows,
            similarity=similarity,
            budget=problem.budget,
            held=problem.held,
            report=problem.report,
        )
        return Picks(rows=picks, gain=gain)


def pure_radius(problem: Problem, *, classes: int, purity: float) -> float:
    """Largest radius at which `purity` of the balls hold rows of one cluster only, on at most 5,000 rows."""
    n = len(problem.rows)
    rows = problem.rows if n <= 5000 else problem.rows[np.linspace(0, n - 1, 5000).astype(np.int64)]
    found = kmeans(rows, clusters=min(max(classes, 2), len(rows)), rng=problem.rng, restarts=1)
    foreign = np.empty(len(rows))
    for block in row_blocks(len(rows), size=1024):
        distances = squared_distances(rows[block], rows)
        distances[found.labels[block, None] == found.labels[None, :]] = np.inf
        foreign[block] = distances.min(axis=1)
    finite = foreign[np.isfinite(foreign)]
    if not len(finite):
        return 1.0
    # A ball stays pure up to the nearest row of another cluster.
    return float(np.sqrt(np.quantile(finite, 1.0 - purity))) * (1.0 - 1e-6)


@dataclass(frozen=True, kw_only=True)
class RDSS(RowMethod):
    """Greedy minimization of an alpha-MMD to the pool (Shao et al., NeurIPS 2024).

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    width : float >= 0, default 0.0
        Width of the Gaussian kernel; 0 = the median distance between rows.

    Notes
    -----
    Source: kernel herding without replacement: the i-th pick minimizes
    sum of k(x, earlier picks) - alpha i mean of k(x, pool), alpha = 1 - 1 / sqrt(budget).
    Differs: the mean is over at most 20,000 evenly spaced rows.
    """

    name = "rdss"
    width: float = option(0.0, "width of the Gaussian kernel; 0 = the median distance between rows", least=0)

    def choose(self, problem: Problem) -> Picks:
        """Pick greedily."""
        rows, n = problem.rows, len(problem.rows)
        targets = rows if n <= TARGET_ROWS else rows[np.linspace(0, n - 1, TARGET_ROWS).astype(np.int64)]
        width = self.width
        if width == 0.0:
            some = rows[np.linspace(0, n - 1, min(n, 1000)).astype(np.int64)]
            width = float(np.sqrt(2.0 * np.median(squared_distances(some, some)))) or 1.0
        similarity = gaussian(width)
        mean = np.empty(n)
        for block in row_blocks(n, size=256):
            mean[block] = similarity(rows[block], targets).mean(axis=1, dtype=np.float64)
        alpha = 1.0 - 1.0 / np.sqrt(problem.budget + len(problem.held))
        near = np.zeros(n)
        for block in row_blocks(len(problem.held), size=256):
            near += similarity(rows[problem.held[block]], rows).sum(axis=0)
        taken = np.zeros(n, dtype=bool)
        taken[problem.held] = True
        picks = np.empty(problem.budget, dtype=np.int64)
        for step in range(problem.budget):
            cost = near - alpha * (step + 1 + len(problem.held)) * mean
            cost[taken] = np.inf
            row = int(cost.argmin())
            picks[step], taken[row] = row, True
            near += similarity(rows[row : row + 1], rows)[0]
            problem.report("pick", step + 1, problem.budget)
        return Picks(rows=picks, gain=np.maximum(mean[picks], 0.0), score=mean.astype(np.float32))
