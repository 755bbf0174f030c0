"""k-means: the paper's plain Lloyd steps and the default's good start. Which row stands for a cluster is `usl.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .rows import squared_distances
from .threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .base import Progress

BLOCK = 4096
"""Rows per matrix product."""
SEED_CANDIDATES = 6
"""Rows tried per step of greedy k-means++."""
SEED_ROWS = 64
"""Rows per cluster, at least 5,000 in all, on which starts are compared."""


@dataclass(frozen=True)
class Assignment:
    """Nearest center of every row.

    Attributes
    ----------
    labels : (n,) int32
        Row of `centers`; ties to the first.
    distances : (n,) float
        Squared distance to it.
    """

    labels: NDArray[np.int32]
    distances: NDArray[Any]


@dataclass(frozen=True)
class Clustering:
    """A partition of the rows.

    Attributes
    ----------
    labels : (n,) int32
        Cluster of each row.
    centers : (k, d) float
        Means after the last update; NaN for a cluster that lost all rows in the paper's version.
    inertia
        Sum of the (weighted) squared distances to the assigned centers; lower = better.
    """

    labels: NDArray[np.int32]
    centers: NDArray[Any]
    inertia: float


def assign(
    rows: NDArray[np.floating[Any]],
    centers: NDArray[np.floating[Any]],
    *,
    settle_ties: bool = False,
    workers: int = 1,
) -> Assignment:
    """Give every row its nearest center.

    Parameters
    ----------
    rows : (n, d) float32 or float64
    centers : (k, d) float
        Rows of NaN attract nothing.
    settle_ties
        Recompute near-ties from the differences and give exact ties to the first center; the paper presets need
        it where a pool has duplicates.
    workers
        Threads over blocks; no influence on the result.

    Returns
    -------
    Assignment
    """
    n = len(rows)
    alive = ~np.isnan(centers[:, 0])
    usable = np.where(alive[:, None], centers, 0.0).astype(rows.dtype)
    half = np.einsum("ij,ij->i", usable, usable) / 2
    half[~alive] = np.inf
    labels = np.empty(n, dtype=np.int32)
    distances = np.empty(n, dtype=rows.dtype)
    tolerance = 1e-5 if rows.dtype == np.float32 else 1e-12

    def one(block: slice) -> None:
        part = rows[block]
        score = part @ usable.T
        score -= half
        best = score.argmax(axis=1)
        places = np.arange(len(part))
        norms = np.einsum("ij,ij->i", part, part)
        if settle_ties:
            top = score[places, best]
            close = score >= (top - tolerance * (np.abs(top) + norms))[:, None]
            for row in np.flatnonzero(close.sum(axis=1) > 1):
                rivals = np.flatnonzero(close[row])
                difference = part[row] - usable[rivals]
                best[row] = rivals[np.einsum("ij,ij->i", difference, difference).argmin()]
        labels[block] = best
        distances[block] = np.maximum(norms - 2.0 * score[places, best], 0.0)

    for _ in map_blocks(one, row_blocks(n, size=BLOCK), workers=workers):
        pass
    return Assignment(labels=labels, distances=distances)


def cluster_sums(
    rows: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    clusters: int,
    weights: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the rows and of the weights of each cluster, in float64.

    Parameters
    ----------
    rows : (n, d) float
    labels : (n,) integers
        0 <= label < clusters.
    clusters
        Number of clusters.
    weights : (n,) float or None
        None counts each row once.

    Returns
    -------
    sums : (clusters, d) float64
    mass : (clusters,) float64
    """
    sums = np.zeros((clusters, rows.shape[1]))
    for block in row_blocks(len(rows), size=16 * BLOCK):
        order = np.argsort(labels[block], kind="stable")
        part = rows[block][order]
        if weights is not None:
            part = part * weights[block][order, None].astype(part.dtype)
        present, first = np.unique(labels[block][order], return_index=True)
        sums[present] += np.add.reduceat(part, first, axis=0, dtype=np.float64)
    return sums, np.bincount(labels, weights=weights, minlength=clusters).astype(np.float64)


def paper_kmeans(
    rows: NDArray[np.floating[Any]],
    *,
    start: NDArray[np.int64],
    iterations: int,
    fixed: NDArray[np.floating[Any]] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Clustering:
    """Run a fixed number of Lloyd steps from given rows, as the official code does.

    Parameters
    ----------
    rows : (n, d) float32 or float64
    start : (k,) int64
        Rows that the centers start at.
    iterations
        Steps; each assigns all rows and then moves all centers.
    fixed : (l, d) float or None
        Centers that never move; their clusters come first (labels 0..l-1).
    workers
        Threads over blocks; no influence on the result.
    progress
        Called as `progress("k-means", step, iterations)`.

    Returns
    -------
    Clustering
        Labels are those of the last assignment, made before the last update of the centers. A center that loses
        all rows becomes NaN and stays empty: labels may name fewer than k clusters.

    Notes
    -----
    Source: official `run_kMeans`. Differs: for 40 clusters or fewer the official code lets a NaN center attract
    every row; here it attracts none, as in its version for more than 40.
    """
    held = 0 if fixed is None else len(fixed)
    centers = rows[start].astype(np.float64)
    if fixed is not None:
        centers = np.concatenate([fixed.astype(np.float64), centers])
    found = Assignment(np.zeros(len(rows), np.int32), np.zeros(len(rows), rows.dtype))
    for step in range(iterations):
        found = assign(rows, centers, settle_ties=True, workers=workers)
        sums, mass = cluster_sums(rows, found.labels, clusters=len(centers))
        with np.errstate(invalid="ignore"):
            moved = sums / mass[:, None]
        unchanged = np.array_equal(moved[held:], centers[held:], equal_nan=True)
        centers[held:] = moved[held:]
        if progress is not None:
            progress("k-means", iterations if unchanged else step + 1, iterations)
        if unchanged:
            # The remaining steps would repeat this one.
            break
    return Clustering(found.labels, centers, float(found.distances.sum(dtype=np.float64)))


def quick_centers(
    rows: NDArray[np.floating[Any]], *, clusters: int, rng: np.random.Generator, steps: int = 5
) -> NDArray[Any]:
    """Rough centers for cells: a few Lloyd steps on at most 64 rows per cluster, no clever start."""
    n = len(rows)
    size = min(n, SEED_ROWS * clusters)
    part = rows[np.sort(rng.choice(n, size, replace=False))] if size < n else rows
    centers = part[np.sort(rng.choice(len(part), min(clusters, len(part)), replace=False))]
    for _ in range(steps):
        labels = assign(part, centers).labels
        sums, mass = cluster_sums(part, labels, clusters=len(centers))
        filled = mass > 0
        centers = centers.copy()
        centers[filled] = (sums[filled] / mass[filled, None]).astype(rows.dtype)
    return centers


def greedy_start(
    rows: NDArray[np.floating[Any]],
    *,
    clusters: int,
    rng: np.random.Generator,
    weights: NDArray[np.floating[Any]] | None = None,
    fixed: NDArray[np.floating[Any]] | None = None,
    candidates: int = SEED_CANDIDATES,
) -> NDArray[np.int64]:
    """Choose starting rows by greedy k-means++ (Arthur and Vassilvitskii 2007, the variant of their section 4).

    Each step draws `candidates` rows with probability proportional to weight x squared distance to the nearest
    center so far, and keeps the one that lowers the sum of those most.

    Parameters
    ----------
    rows : (n, d) float
    clusters
        Rows to choose, at most n.
    rng
        Source of the draws.
    weights : (n,) float or None
        Mass of each row.
    fixed : (l, d) float or None
        Centers that are there already.
    candidates
        Rows tried per step.

    Returns
    -------
    (clusters,) int64
        Distinct rows, in the order chosen.
    """
    n = len(rows)
    mass = np.ones(n) if weights is None else weights.astype(np.float64)
    chosen = np.empty(clusters, dtype=np.int64)
    taken = np.zeros(n, dtype=bool)
    norms = np.einsum("ij,ij->i", rows, rows)
    if fixed is not None and len(fixed):
        nearest = assign(rows, fixed).distances.astype(rows.dtype)
        begin = 0
    else:
        first = int(np.searchsorted(np.cumsum(mass), rng.random() * mass.sum(), side="right"))
        chosen[0], taken[first] = first, True
        nearest = squared_distances(rows[first : first + 1], rows)[0]
        begin = 1
    for step in range(begin, clusters):
        potential = np.cumsum(nearest * mass)
        if potential[-1] <= 0.0:
            # Only copies of chosen rows are left: any of them will do.
            chosen[step:] = rng.permutation(np.flatnonzero(~taken))[: clusters - step]
            break
        drawn = np.searchsorted(potential, rng.random(candidates) * potential[-1], side="right")
        drawn = np.minimum(drawn, n - 1)
        tried = rows[drawn] @ rows.T
        tried *= -2.0
        tried += norms
        tried += norms[drawn, None]
        np.minimum(tried, nearest, out=tried)
        best = int((tried @ mass.astype(tried.dtype)).argmin())
        nearest = np.maximum(tried[best], 0.0)
        nearest[drawn[best]] = 0.0
        chosen[step] = drawn[best]
        taken[drawn[best]] = True
    return chosen


def kmeans(
    rows: NDArray[np.floating[Any]],
    *,
    clusters: int,
    rng: np.random.Generator,
    weights: NDArray[np.floating[Any]] | None = None,
    fixed: NDArray[np.floating[Any]] | None = None,
    restarts: int = 10,
    iterations: int = 20,
    workers: int = 1,
    progress: Progress | None = None,
) -> Clustering:
    """k-means from the best of several greedy starts, empty clusters re-seeded.

    Parameters
    ----------
    rows : (n, d) float32 or float64
    clusters
        Clusters that move, at most n.
    rng
        Source of starts.
    weights : (n,) float or None
        Mass of each row; None = 1.
    fixed : (l, d) float or None
        Centers that never move; their clusters come first (labels 0..l-1).
    restarts
        Starts compared (on 64 rows per cluster, at least 5,000) after 15 steps each.
    iterations
        Steps on all rows from the best start, at most.
    workers
        Threads over blocks; no influence on the result.
    progress
        Called as `progress("k-means", step, total)`.

    Returns
    -------
    Clustering
        Every moving cluster has a row, unless the pool has fewer distinct rows than clusters.
    """
    n = len(rows)
    held = 0 if fixed is None else len(fixed)
    size = min(n, max(5000, SEED_ROWS * clusters))
    total = restarts + iterations
    best: Clustering | None = None
    for attempt in range(restarts):
        chosen = np.sort(rng.choice(n, size, replace=False)) if size < n else np.arange(n)
        part = rows[chosen]
        part_weights = None if weights is None else weights[chosen]
        start = greedy_start(part, clusters=clusters, rng=rng, weights=part_weights, fixed=fixed)
        centers = part[start].astype(np.float64)
        if fixed is not None:
            centers = np.concatenate([fixed.astype(np.float64), centers])
        trial = _descend(part, centers, held, 15, part_weights, workers)
        if best is None or trial.inertia < best.inertia:
            best = trial
        if progress is not None:
            progress("k-means", attempt + 1, total)
    assert best is not None

    def report(step: int) -> None:
        if progress is not None:
            progress("k-means", restarts + step, total)

    return _descend(rows, best.centers, held, iterations, weights, workers, report)


def _descend(
    rows: NDArray[Any],
    centers: NDArray[np.float64],
    held: int,
    iterations: int,
    weights: NDArray[Any] | None,
    workers: int,
    report: Any = None,
) -> Clustering:
    """Lloyd steps until nothing moves; an empty cluster restarts at the worst-served row of the largest one."""
    centers = centers.copy()
    labels: NDArray[np.int32] | None = None
    for step in range(iterations):
        found = assign(rows, centers, workers=workers)
        if labels is not None and np.array_equal(found.labels, labels):
            break
        labels = found.labels
        _update(rows, labels, found.distances, centers, held, weights)
        if report is not None:
            report(step + 1)
    found = assign(rows, centers, workers=workers)
    labels = found.labels
    served = found.distances if weights is None else found.distances * weights
    if report is not None:
        report(iterations)
    return Clustering(labels, centers, float(served.sum(dtype=np.float64)))


def _update(
    rows: NDArray[Any],
    labels: NDArray[np.int32],
    distances: NDArray[Any],
    centers: NDArray[np.float64],
    held: int,
    weights: NDArray[Any] | None,
) -> None:
    """Move the centers, in place; see `_descend` for empty ones."""
    sums, mass = cluster_sums(rows, labels, clusters=len(centers), weights=weights)
    filled = mass > 0
    filled[:held] = False
    centers[filled] = sums[filled] / mass[filled, None]
    empty = np.flatnonzero(mass[held:] == 0) + held
    if not len(empty):
        return
    distances = distances.copy()
    for cluster in empty:
        donor = int(mass.argmax())
        members = np.flatnonzero(labels == donor)
        worst = members[distances[members].argmax()]
        if distances[worst] <= 0.0:
            worst = int(distances.argmax())
            if distances[worst] <= 0.0:
                return
        centers[cluster] = rows[worst]
        distances[worst] = 0.0
        mass[donor] /= 2
