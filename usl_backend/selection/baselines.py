"""Simple methods beside USL: random rows, k-means, and the densest row of each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.parameters import option
from usl_backend.selection.picking import cluster_argmax, fill
from usl_backend.selection.row_method import Picks, Problem, RowMethod
from usl_backend.selection.rows.centrality import cluster_means, distance_to_mean
from usl_backend.selection.rows.kmeans import Clustering, kmeans
from usl_backend.selection.rows.preparation import squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Random(RowMethod):
    """Distinct rows drawn uniformly: the baseline for every method.

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    """

    name = "random"

    def choose(self, problem: Problem) -> Picks:
        """Draw without replacement; the order is random too."""
        free = np.setdiff1d(np.arange(len(problem.rows)), problem.barred)
        return Picks(rows=problem.rng.permutation(free)[: problem.budget], gain=np.zeros(problem.budget))


@dataclass(frozen=True, kw_only=True)
class KMeans(RowMethod):
    """k-means, then the row nearest to each mean.

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    restarts : int >= 1, default 5
        K-means starts compared.
    iterations : int >= 1, default 20
        K-means steps on all rows.
    """

    name = "k-means"
    restarts: int = option(5, "k-means starts compared", least=1)
    iterations: int = option(20, "k-means steps on all rows", least=1)

    def choose(self, problem: Problem) -> Picks:
        """Pick per cluster, largest cluster first."""
        found = _clusters(problem, restarts=self.restarts, iterations=self.iterations)
        clusters = problem.budget + len(problem.held)
        means, _ = cluster_means(problem.rows, found.labels, clusters=clusters)
        closeness = -distance_to_mean(problem.rows, found.labels, means=means)
        return _one_per_cluster(problem, found, closeness, score=None)


@dataclass(frozen=True, kw_only=True)
class TypiClust(RowMethod):
    """Densest row of each k-means cluster (Hacohen, Dekel, Weinshall, ICML 2022).

    Parameters
    ----------
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    restarts : int >= 1, default 5
        K-means starts compared.
    iterations : int >= 1, default 20
        K-means steps on all rows.
    neighbors : int >= 1, default 20
        Nearest neighbors inside the cluster that typicality looks at.

    Notes
    -----
    Source: TPC_RP, typicality = 1 / mean distance to the 20 nearest rows *of the same cluster*.
    Differs: as many clusters as picks whatever the budget (the official code stops at 500); clusters of fewer
    than 5 rows are not passed over.
    """

    name = "typiclust"
    restarts: int = option(5, "k-means starts compared", least=1)
    iterations: int = option(20, "k-means steps on all rows", least=1)
    neighbors: int = option(20, "nearest neighbors inside the cluster that typicality looks at", least=1)

    def choose(self, problem: Problem) -> Picks:
        """Pick per cluster, largest cluster first."""
        found = _clusters(problem, restarts=self.restarts, iterations=self.iterations)
        typicality = np.zeros(len(problem.rows), dtype=np.float32)
        order = np.argsort(found.labels, kind="stable")
        ends = np.cumsum(np.bincount(found.labels, minlength=problem.budget + len(problem.held)))
        for begin, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
            members = order[begin:end]
            k = min(self.neighbors, len(members) - 1)
            if k < 1:
                continue
            for start in range(0, len(members), 1024):
                some = members[start : start + 1024]
                distances = np.sqrt(squared_distances(problem.rows[some], problem.rows[members]))
                # The k + 1 smallest hold the row itself, at distance 0.
                near = np.partition(distances, k, axis=1)[:, : k + 1]
                typicality[some] = k / np.maximum(near.sum(axis=1), 1e-6)
        return _one_per_cluster(problem, found, typicality, score=typicality)


def _clusters(problem: Problem, *, restarts: int, iterations: int) -> Clustering:
    """Run k-means with the labeled rows as fixed centers."""
    fixed = problem.rows[problem.held] if len(problem.held) else None
    return kmeans(
        problem.rows, clusters=problem.budget, rng=problem.rng, fixed=fixed, restarts=restarts,
        iterations=iterations, progress=problem.report,
    )  # fmt: skip


def _one_per_cluster(
    problem: Problem, found: Clustering, utility: NDArray[Any], *, score: NDArray[np.float32] | None
) -> Picks:
    """Pick the row of the highest utility in each cluster without a labeled row, largest cluster first."""
    held, clusters = len(problem.held), problem.budget + len(problem.held)
    allowed = np.ones(len(problem.rows), dtype=bool)
    allowed[problem.barred] = False
    able = np.where(allowed, utility, -np.inf)
    picks = cluster_argmax(able, found.labels, clusters=clusters)
    picks[:held] = problem.held
    picks, labels, _ = fill(picks, found.labels, able, allowed=allowed, repeats=~allowed)
    sizes = np.bincount(labels, minlength=clusters)[held:]
    order = np.argsort(-sizes, kind="stable")
    return Picks(rows=picks[held:][order], gain=sizes[order].astype(np.float64), score=score)
