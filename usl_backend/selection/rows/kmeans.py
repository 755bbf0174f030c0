"""k-means: the paper's plain Lloyd steps, and for the default good starts with re-seeding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.assignment import (
    MENDING_CENTERS,
    Assignment,
    assign,
    assign_coarse,
    assign_near,
    cluster_sums,
)
from usl_backend.selection.rows.centrality import Smoothed, taken
from usl_backend.selection.rows.kmeans_start import (
    FEW_ROWS_LOCAL_CLUSTERS,
    LOCAL_CLUSTERS,
    greedy_starts,
    local_start,
)
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from usl_backend.progress import Progress

SAMPLE_ROWS = 64
"""Rows per cluster, at least 5,000 and at most 250,000 in all, on which starts are compared."""
SAMPLES = 2
"""Samples of so many rows per cluster in a pool from which on its centers are those of one sample."""
ASSIGNED_ROWS = 262_144
"""Rows that are then assigned to them at once."""
SAMPLE_STEPS, FIRST_STEPS = 15, 5
"""Steps on them, at most: in a pool that is sampled, first so many from every start, then the others from the best."""
SEED_ROWS, FEWEST_SEED_ROWS = 16, 5000
"""Rows per cluster, and at least so many in all, that starts are chosen from."""
ALL_CENTERS_ROWS = 20_000
"""Rows up to which every assignment looks at all centers: looking at some costs a step of its own per center."""
ALL_CENTERS_STEP, ALL_CENTERS_END = 256, 1024
"""Clusters up to which the assignments of the steps, and the last, do so above; the others look at the 32 centers
nearest to a row's own, and the last at 128."""
CELL_SAMPLE_ROWS, CELL_STEPS = 32, 5
"""Rows per cell that rough centers are made from, in so many steps."""
STARTED_TOGETHER = 8192
"""Rows times starts up to which all starts are chosen together: small steps cost most by their number. In a pool that
is sampled all are, on one sample."""
RESTART_CLUSTERS, SAMPLED_RESTART_CLUSTERS = 400, 200
"""Starts times clusters, at most, beyond the first start; the second in a pool that is sampled."""
SETTLED = 2e-4
"""Relative fall of the inertia below which k-means has settled."""
MANY_CLUSTERS, MANY_SETTLED = 512, 1e-3
"""From so many clusters on it has settled earlier: the last steps cost most and bring 0.2 % of the inertia."""


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
        Called as `progress("clustering", step, iterations)`.

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
            progress("clustering", iterations if unchanged else step + 1, iterations)
        if unchanged:
            # The remaining steps would repeat this one.
            break
    return Clustering(found.labels, centers, float(found.distances.sum(dtype=np.float64)))


def quick_centers(
    rows: NDArray[np.floating[Any]],
    *,
    clusters: int,
    rng: np.random.Generator,
    workers: int = 1,
) -> NDArray[Any]:
    """Make rough centers for cells: five Lloyd steps on at most 32 rows per cluster from a random start."""
    n = len(rows)
    size = min(n, CELL_SAMPLE_ROWS * clusters)
    part = rows[np.sort(rng.choice(n, size, replace=False))] if size < n else rows
    centers = part[np.sort(rng.choice(len(part), min(clusters, len(part)), replace=False))]
    labels = assign_coarse(part, centers, workers=workers).labels
    for step in range(CELL_STEPS):
        if step > 0:
            labels = _assign_again(part, centers, labels, workers=workers).labels
        sums, mass = cluster_sums(part, labels, clusters=len(centers))
        filled = mass > 0
        centers = centers.copy()
        centers[filled] = (sums[filled] / mass[filled, None]).astype(rows.dtype)
    return centers


def kmeans(
    rows: NDArray[np.floating[Any]] | Smoothed,
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
    rows : (n, d) float32 or float64, or such rows to be smoothed
    clusters
        Clusters that move, at most n.
    rng
        Source of starts.
    weights : (n,) float or None
        Mass of each row; None = 1.
    fixed : (l, d) float or None
        Centers that never move; their clusters come first (labels 0..l-1).
    restarts
        Starts compared after 15 steps each on part of the rows, at most; from 40 clusters on fewer
        (400 / clusters; half as many where a sample finds the centers), because the starts of many clusters differ
        little.
    iterations
        Steps on all rows from the best start, at most.
    workers
        Threads over blocks; no influence on the result.
    progress
        Called as `progress("clustering", step, total)`.

    Returns
    -------
    Clustering
        Every moving cluster has a row, unless the pool has fewer distinct rows than clusters or, where a sample finds
        the centers, all its rows go over to others in the end. The labels are those of one last assignment to the last
        centers.

    Notes
    -----
    Steps stop when the inertia falls by less than one part in 5,000 (1,000 from 512 clusters on). Of more than 20,000
    rows and 256 clusters a row looks only at the 32 centers nearest to its own before the last assignment, and of more
    than 1,024 clusters at the 128 nearest in it. In a pool of more than two samples of 64 rows per cluster, at least
    5,000, one sample finds the centers, and all rows are assigned to them: on 200,000 rows that costs .1 % of the
    coverage.
    """
    n, wanted = len(rows), max(5000, SAMPLE_ROWS * clusters)
    sampled = n > SAMPLES * wanted
    most = SAMPLED_RESTART_CLUSTERS if sampled else RESTART_CLUSTERS
    attempts = max(1, min(restarts, most // clusters))
    size = wanted if sampled else min(n, wanted, 250_000)
    if isinstance(rows, Smoothed) and (not sampled or n <= ASSIGNED_ROWS):
        rows = rows.take(slice(0, n))
    together = sampled or (size == n and attempts * n <= STARTED_TOGETHER)
    total = attempts + (1 if sampled else iterations)
    held = np.zeros((0, 0)) if fixed is None else fixed.astype(np.float64)
    best: Clustering | None = None
    begin: list[NDArray[np.int64]] = []
    for attempt in range(attempts):
        if not begin:
            chosen = np.sort(rng.choice(n, size, replace=False)) if size < n else slice(0, n)
            part, part_weights = taken(rows, chosen), None if weights is None else weights[chosen]
            starts = attempts if together else 1
            begin = list(_starts(part, clusters, rng, part_weights, held, workers, starts=starts))
        centers = part[begin.pop(0)].astype(np.float64)
        if len(held):
            centers = np.concatenate([held, centers])
        if size == n and attempts == 1:
            best = Clustering(np.empty(0, np.int32), centers, np.inf)
            break
        trial = descend(
            part, centers, held=len(held), iterations=FIRST_STEPS if sampled else SAMPLE_STEPS, weights=part_weights,
            end=attempts > 1, workers=workers,
        )  # fmt: skip
        if best is None or trial.inertia < best.inertia:
            best = trial
        if progress is not None:
            progress("clustering", attempt + 1, total)
    assert best is not None

    def report(step: int) -> None:
        if progress is not None:
            progress("clustering", attempts + step, total)

    if sampled:
        centers = descend(
            part, best.centers, held=len(held), iterations=SAMPLE_STEPS - FIRST_STEPS, weights=part_weights, end=False,
            workers=workers,
        ).centers  # fmt: skip
        del part
        return _assign_all(rows, centers, weights=weights, workers=workers, report=report)
    return descend(
        taken(rows, slice(0, n)), best.centers, held=len(held), iterations=iterations, weights=weights,
        workers=workers, report=report,
    )  # fmt: skip


def _assign_all(
    rows: NDArray[Any] | Smoothed,
    centers: NDArray[np.float64],
    *,
    weights: NDArray[Any] | None,
    workers: int,
    report: Callable[[int], None],
) -> Clustering:
    """Assign all rows to the centers of a sample; smoothed rows are held block by block."""
    labels, inertia = np.empty(len(rows), dtype=np.int32), 0.0
    for block in row_blocks(len(rows), size=ASSIGNED_ROWS):
        found = assign_coarse(taken(rows, block), centers, workers=workers)
        labels[block] = found.labels
        inertia += _served(found, None if weights is None else weights[block])
    report(1)
    return Clustering(labels, centers, inertia)


def _assign_again(
    rows: NDArray[Any], centers: NDArray[Any], labels: NDArray[np.int32], *, workers: int
) -> Assignment:
    """Give every row its nearest center: of many, its nearest among those around its present one (`labels`)."""
    if len(centers) <= ALL_CENTERS_END or len(rows) <= ALL_CENTERS_ROWS:
        return assign(rows, centers, workers=workers)
    return assign_near(rows, centers, labels, near=MENDING_CENTERS, workers=workers)


def _starts(
    rows: NDArray[Any], clusters: int, rng: np.random.Generator, weights: NDArray[Any] | None, held: NDArray[Any],
    workers: int, *, starts: int,
) -> NDArray[np.int64]:  # fmt: skip
    """Choose starting rows (starts, clusters) among 16 per cluster at most: greedily, or one start cell by cell."""
    size = min(len(rows), max(FEWEST_SEED_ROWS, SEED_ROWS * clusters))
    chosen = np.sort(rng.choice(len(rows), size, replace=False)) if size < len(rows) else np.arange(len(rows))
    part, part_weights = rows[chosen], None if weights is None else weights[chosen]
    fixed = held if len(held) else None
    many = LOCAL_CLUSTERS if len(rows) > FEWEST_SEED_ROWS else FEW_ROWS_LOCAL_CLUSTERS
    if clusters < many or fixed is not None:
        return chosen[
            greedy_starts(part, clusters=clusters, rng=rng, starts=starts, weights=part_weights, fixed=fixed)
        ]
    centers = quick_centers(part, clusters=int(np.sqrt(clusters)), rng=rng, workers=workers)
    found = assign(part, centers, workers=workers)
    begin = local_start(
        part, cells=found.labels, distances=found.distances, clusters=clusters, rng=rng, weights=part_weights
    )
    return chosen[begin[None]]


def descend(
    rows: NDArray[np.floating[Any]],
    centers: NDArray[np.float64],
    *,
    held: int = 0,
    iterations: int,
    weights: NDArray[np.floating[Any]] | None = None,
    end: bool = True,
    workers: int = 1,
    report: Callable[[int], None] | None = None,
) -> Clustering:
    """Run Lloyd steps from `centers` (k, d) until the inertia settles; the labels are those of the last centers.

    Without `end` labels of many clusters stay those of the last step, which looks at some centers only. The first
    `held` centers never move; an empty cluster restarts at the worst-served row of the heaviest one. `report` is called
    with the number of steps done; `workers` are threads over blocks, without influence on the result.
    """
    centers = centers.copy()
    k = len(centers)
    found = assign_coarse(rows, centers, workers=workers)
    sums, mass = cluster_sums(rows, found.labels, clusters=k, weights=weights)
    inertia = _served(found, weights)
    settled = SETTLED if k < MANY_CLUSTERS else MANY_SETTLED
    exact = k <= ALL_CENTERS_STEP or len(rows) <= ALL_CENTERS_ROWS
    for step in range(iterations):
        filled = mass > 0
        filled[:held] = False
        centers[filled] = sums[filled] / mass[filled, None]
        homes = _reseed(rows, found, centers, mass, held)
        moved = homes is not found.labels
        following = (
            assign(rows, centers, workers=workers) if exact
            else assign_near(rows, centers, homes, workers=workers)
        )  # fmt: skip
        changed = np.flatnonzero(following.labels != found.labels)
        if len(changed) > 0.2 * len(rows):
            sums, mass = cluster_sums(rows, following.labels, clusters=k, weights=weights)
        elif len(changed):
            part, part_weights = rows[changed], None if weights is None else weights[changed]
            gained, got = cluster_sums(part, following.labels[changed], clusters=k, weights=part_weights)
            lost, gave = cluster_sums(part, found.labels[changed], clusters=k, weights=part_weights)
            sums += gained - lost
            mass += got - gave
            # Masses are sums of the same numbers in another order: what is left of an emptied cluster is noise.
            mass[np.abs(mass) < 1e-9] = 0.0
        found, before = following, inertia
        inertia = _served(found, weights)
        if report is not None:
            report(step + 1)
        if not len(changed) or (not moved and before - inertia < settled * before):
            break
    if end and not exact:
        found = _assign_again(rows, centers, found.labels, workers=workers)
    if report is not None:
        report(iterations)
    return Clustering(found.labels, centers, _served(found, weights))


def _served(found: Assignment, weights: NDArray[Any] | None) -> float:
    """Compute the inertia of an assignment."""
    served = found.distances if weights is None else found.distances * weights
    return float(served.sum(dtype=np.float64))


def _reseed(
    rows: NDArray[Any], found: Assignment, centers: NDArray[np.float64], mass: NDArray[np.float64], held: int
) -> NDArray[np.int32]:
    """Move empty clusters, in place, to the worst-served rows of the heaviest ones.

    Returns the labels to look for the nearest center from: a moved center may lie too far from every other one to be
    looked at from there, so its row looks from it. They are `found.labels` itself where no center moved.
    """
    empty = np.flatnonzero(mass[held:] == 0) + held
    homes = found.labels
    if not len(empty):
        return homes
    distances, heavy = found.distances.copy(), mass.copy()
    for cluster in empty:
        members = np.flatnonzero(found.labels == int(heavy.argmax()))
        heavy[int(heavy.argmax())] /= 2
        worst = int(members[distances[members].argmax()]) if len(members) else 0
        if distances[worst] <= 0.0:
            worst = int(distances.argmax())
        if distances[worst] <= 0.0:
            break
        centers[cluster] = rows[worst]
        distances[worst] = 0.0
        if homes is found.labels:
            homes = found.labels.copy()
        homes[worst] = cluster
    return homes
