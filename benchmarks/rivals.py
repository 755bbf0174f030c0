"""Rivals of USL outside the product: selection methods that lose to it, and two other pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usl_backend.selection import Selector
from usl_backend.selection.greedy import TARGET_ROWS, gaussian, greedy_cover
from usl_backend.selection.parameters import option
from usl_backend.selection.row_method import Picks, Problem, RowMethod
from usl_backend.selection.rows.kmeans import kmeans
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import row_blocks

BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class KCenter(RowMethod):
    """Farthest-first traversal: the row farthest from all picks, again and again (Sener, Savarese, ICLR 2018).

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    """

    name = "k-center"

    def choose(self, problem: Problem) -> Picks:
        """Start at a random row, or at the labeled rows where there are any."""
        rows, n = problem.rows, len(problem.rows)
        taken = np.zeros(n, dtype=bool)
        taken[problem.held] = True
        distance = np.full(n, np.inf, dtype=np.float32)
        for row in problem.held:
            np.minimum(distance, squared_distances(rows[row : row + 1], rows)[0], out=distance)
        chosen = np.empty(problem.budget, dtype=np.int64)
        gain = np.empty(problem.budget)
        for step in range(problem.budget):
            if step == 0 and not len(problem.held):
                row = int(problem.rng.integers(n))
                gain[step] = float(squared_distances(rows[row : row + 1], rows).max())
            else:
                row = int(np.where(taken, -1.0, distance).argmax())
                gain[step] = float(distance[row])
            chosen[step], taken[row] = row, True
            np.minimum(distance, squared_distances(rows[row : row + 1], rows)[0], out=distance)
            problem.report("pick", step + 1, problem.budget)
        return Picks(rows=chosen, gain=gain)


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
    """Find the largest radius at which `purity` of the balls hold one cluster only, on at most 5,000 rows."""
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


RIVALS: dict[str, type[Selector]] = {"k-center": KCenter, "probcover": ProbCover, "rdss": RDSS}
"""Method name -> class, as `usl_backend.selection.METHODS`."""


@dataclass(frozen=True)
class Choice:
    """Picks and the cluster of every row."""

    picks: NDArray[np.int64]
    clusters: NDArray[np.integer[Any]]


def sklearn_pipeline(rows: NDArray[np.float32], budget: int, *, k: int, seed: int) -> Choice:
    """Run NearestNeighbors, KMeans, and one round of repulsion from the 64 nearest picks."""
    from sklearn.cluster import KMeans
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows).kneighbors(rows)
    score = 1.0 / (distances[:, 1:] ** 2).mean(axis=1)
    labels = KMeans(budget, n_init=1, random_state=seed).fit(rows).labels_
    picks = _argmax(score, labels, budget)
    force = np.empty(len(rows), dtype=np.float32)
    near = min(64, budget)
    for begin in range(0, len(rows), BLOCK):
        apart = _squared(rows[begin : begin + BLOCK], rows[picks])
        apart = np.partition(apart, near - 1, axis=1)[:, :near]
        force[begin : begin + BLOCK] = (1.0 / np.sqrt(np.maximum(apart, 1e-6))).sum(axis=1)
    score, force = score / np.median(score), force / np.median(force)
    return Choice(_argmax(score - 0.5 * force, labels, budget), labels)


def official_port(rows: NDArray[np.float32], budget: int, *, k: int, seed: int) -> Choice:
    """Run the official CIFAR-10 settings with K = k: 200 Lloyd steps, 10 rounds, everything computed anew each time.

    Neighbors come from faiss and distances from matrix products: it is not slow on purpose.
    """
    import faiss

    distances, _ = faiss.knn(rows, rows, k)
    score = 1.0 / np.maximum(distances, 0).mean(axis=1)
    centers = rows[np.random.default_rng(seed).permutation(len(rows))[:budget]]
    labels = np.zeros(len(rows), dtype=np.int64)
    for _ in range(200):
        half = (centers**2).sum(axis=1) / 2
        for begin in range(0, len(rows), BLOCK):
            product = rows[begin : begin + BLOCK] @ centers.T
            labels[begin : begin + BLOCK] = (product - half).argmax(axis=1)
        sums = np.zeros((budget, rows.shape[1]), dtype=np.float64)
        order = np.argsort(labels, kind="stable")
        present, first = np.unique(labels[order], return_index=True)
        for label, part in zip(present, np.split(order, first[1:]), strict=True):
            sums[label] = rows[part].sum(axis=0, dtype=np.float64)
        counts = np.maximum(np.bincount(labels, minlength=budget), 1)
        centers = (sums / counts[:, None]).astype(np.float32)
    force = np.zeros(len(rows), dtype=np.float32)
    picks: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for _ in range(10):
        picks = _argmax(score - 0.5 * force, labels, budget)
        new = np.empty_like(force)
        for begin in range(0, len(rows), BLOCK):
            block = slice(begin, begin + BLOCK)
            apart = np.maximum(_squared(rows[block], rows[picks]), 1e-12)
            pull = np.where(apart < 4.0, 1.0 / np.sqrt(apart), 0.0)
            pull[labels[block, None] == labels[picks][None, :]] = 0.0
            new[block] = pull.sum(axis=1)
        force = 0.9 * force + 0.1 * new
    return Choice(picks, labels)


def _argmax(utility: NDArray[Any], labels: NDArray[Any], clusters: int) -> NDArray[np.int64]:
    """Find the best row of each cluster that has one."""
    order = np.lexsort((-utility, labels))
    present, first = np.unique(labels[order], return_index=True)
    return np.asarray(order[first][present < clusters], dtype=np.int64)


def _squared(rows: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Compute squared distances by matrix product."""
    return np.asarray((rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * rows @ others.T)
