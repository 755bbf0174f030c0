"""Methods by clusters and distances to compare USL with. Greedy kernel methods are in `greedy.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.method import Method, Picks, RowParameters, Task
from usl_backend.selection.parameters import option
from usl_backend.selection.picking import cluster_argmax, fill
from usl_backend.selection.rows.centrality import distance_to_mean
from usl_backend.selection.rows.kmeans import Clustering, kmeans
from usl_backend.selection.rows.preparation import squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Random(Method):
    """Distinct rows drawn uniformly: what every method has to beat."""

    name = "random"

    def choose(self, task: Task) -> Picks:
        """Draw without replacement; the order is random too."""
        free = np.setdiff1d(np.arange(len(task.rows)), task.held)
        return Picks(rows=task.rng.permutation(free)[: task.budget], gain=np.zeros(task.budget))


@dataclass(frozen=True)
class KMeansParameters(RowParameters):
    """Options of `KMeans`."""

    restarts: int = option(5, "k-means starts compared", least=1)
    iterations: int = option(20, "k-means steps on all rows", least=1)


class KMeans(Method):
    """k-means, then the row nearest to each mean."""

    name = "k-means"
    parameters_type = KMeansParameters

    def choose(self, task: Task) -> Picks:
        """Pick per cluster, largest cluster first."""
        found = _clusters(task, self.parameters)
        closeness = -distance_to_mean(task.rows, found.labels, clusters=task.budget + len(task.held))
        return _one_per_cluster(task, found, closeness, score=None)


@dataclass(frozen=True)
class TypiClustParameters(KMeansParameters):
    """Options of `TypiClust`."""

    neighbors: int = option(20, "nearest neighbors inside the cluster that typicality looks at", least=1)


class TypiClust(Method):
    """Densest row of each k-means cluster (Hacohen, Dekel, Weinshall, ICML 2022).

    Notes
    -----
    Source: TPC_RP, typicality = 1 / mean distance to the 20 nearest rows *of the same cluster*.
    Differs: as many clusters as picks whatever the budget (the official code stops at 500); clusters of fewer
    than 5 rows are not passed over.
    """

    name = "typiclust"
    parameters_type = TypiClustParameters

    def choose(self, task: Task) -> Picks:
        """Pick per cluster, largest cluster first."""
        found = _clusters(task, self.parameters)
        typicality = np.zeros(len(task.rows), dtype=np.float32)
        order = np.argsort(found.labels, kind="stable")
        ends = np.cumsum(np.bincount(found.labels, minlength=task.budget + len(task.held)))
        for begin, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
            members = order[begin:end]
            k = min(self.parameters.neighbors, len(members) - 1)
            if k < 1:
                continue
            for start in range(0, len(members), 1024):
                some = members[start : start + 1024]
                distances = np.sqrt(squared_distances(task.rows[some], task.rows[members]))
                # The k + 1 smallest hold the row itself, at distance 0.
                near = np.partition(distances, k, axis=1)[:, : k + 1]
                typicality[some] = k / np.maximum(near.sum(axis=1), 1e-6)
        return _one_per_cluster(task, found, typicality, score=typicality)


class KCenter(Method):
    """Farthest-first traversal: the row farthest from all picks, again and again (Sener, Savarese, ICLR 2018)."""

    name = "k-center"

    def choose(self, task: Task) -> Picks:
        """Start at a random row, or at the labeled rows where there are any."""
        rows, n = task.rows, len(task.rows)
        taken = np.zeros(n, dtype=bool)
        taken[task.held] = True
        distance = np.full(n, np.inf, dtype=np.float32)
        for row in task.held:
            np.minimum(distance, squared_distances(rows[row : row + 1], rows)[0], out=distance)
        chosen = np.empty(task.budget, dtype=np.int64)
        gain = np.empty(task.budget)
        for step in range(task.budget):
            if step == 0 and not len(task.held):
                row = int(task.rng.integers(n))
                gain[step] = float(squared_distances(rows[row : row + 1], rows).max())
            else:
                row = int(np.where(taken, -1.0, distance).argmax())
                gain[step] = float(distance[row])
            chosen[step], taken[row] = row, True
            np.minimum(distance, squared_distances(rows[row : row + 1], rows)[0], out=distance)
            task.report("pick", step + 1, task.budget)
        return Picks(rows=chosen, gain=gain)


def _clusters(task: Task, parameters: Any) -> Clustering:
    """k-means with the labeled rows as fixed centers."""
    fixed = task.rows[task.held] if len(task.held) else None
    return kmeans(
        task.rows, clusters=task.budget, rng=task.rng, fixed=fixed, restarts=parameters.restarts,
        iterations=parameters.iterations, progress=task.report,
    )  # fmt: skip


def _one_per_cluster(
    task: Task, found: Clustering, utility: NDArray[Any], *, score: NDArray[np.float32] | None
) -> Picks:
    """Row of the highest utility in each cluster that no labeled row holds, largest cluster first."""
    held, clusters = len(task.held), task.budget + len(task.held)
    allowed = np.ones(len(task.rows), dtype=bool)
    allowed[task.held] = False
    able = np.where(allowed, utility, -np.inf)
    picks = cluster_argmax(able, found.labels, clusters=clusters)
    picks[:held] = task.held
    picks, labels, _ = fill(picks, found.labels, able, allowed=allowed, repeats=~allowed)
    sizes = np.bincount(labels, minlength=clusters)[held:]
    order = np.argsort(-sizes, kind="stable")
    return Picks(rows=picks[held:][order], gain=sizes[order].astype(np.float64), score=score)
