"""Unsupervised Selective Labeling (Wang, Lian, Yu, ECCV 2022), the half without training.

Neighbors give each row a density, k-means gives as many clusters as picks, and in every cluster the row with the
highest utility is picked. The paper's settings are presets of the same class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.base import Neighbors, Selection
from usl_backend.selection.ordering import order_picks
from usl_backend.selection.picking import fill, pick_rounds, stand_in
from usl_backend.selection.presets import USLParameters
from usl_backend.selection.repulsion import Horizon, Repulsion
from usl_backend.selection.row_method import Untrained
from usl_backend.selection.rows.centrality import Smoothed, cluster_means, distance_to_mean, taken
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.duplicates import same_rows
from usl_backend.selection.rows.kmeans import Clustering, kmeans, paper_kmeans
from usl_backend.selection.rows.neighborhood import Neighborhood, cut, neighbor_count, neighborhood, searched
from usl_backend.selection.rows.neighbors import nearest_neighbors
from usl_backend.selection.rows.preparation import (
    Projection,
    check_budget,
    check_embeddings,
    fit_projection,
    generator,
)
from usl_backend.selection.rows.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress


@dataclass(frozen=True, kw_only=True)
class USL(USLParameters, Untrained):
    """Representative and diverse rows to label, chosen once before any label exists.

    Parameters
    ----------
    preset
        "paper-cifar10", "paper-cifar100", "paper-imagenet-moco" or "paper-imagenet-clip": the paper's settings,
        over which single options are laid; None for the defaults below.
    projection : int >= 0, default 128
        Principal components kept after centring when there are more dimensions; 0 = leave rows as they are.
    normalize : bool, default True
        Bring rows to unit length.
    neighbors : int >= 1 or "auto", default "auto"
        Nearest neighbors that density and smoothing look at; 'auto' = half the rows per pick, 2 to 20.
    count_self : bool, default False
        Count a row among its own neighbors, as the paper's code does.
    smoothing : bool, default True
        Cluster rows averaged with their neighbors instead of the rows themselves.
    centrality_weight : float >= 0, default 1.0
        Weight of closeness to the cluster's mean in the utility.
    density_weight : float >= 0, default 0.0
        Weight of density in the utility.
    repulsion_weight : float >= 0, default 0.0
        Weight of repulsion from other clusters' picks (lambda).
    scale_free : bool, default True
        Divide each term of the utility by its median before weighting.
    rounds : int >= 1, default 2
        Rounds of picking; repulsion is updated in between.
    momentum : float in [0, 1], default 0.0
        Share of the earlier repulsion kept at an update.
    alpha : float >= 0, default 0.5
        Exponent of the squared distance in the repulsion.
    horizon : {"nearest-other", "nearest", "distance"}, default "nearest-other"
        Picks that repel: 'distance' = within horizon_distance, 'nearest' = the horizon_picks nearest,
        'nearest-other' = the same without the own cluster's.
    horizon_distance : float >= 0, default 4.0
        Squared distance from which a pick no longer repels.
    horizon_picks : int >= 1, default 64
        Number of nearest picks that repel.
    start : {"plusplus", "rows"}, default "plusplus"
        Start of k-means: 'plusplus' = the best of several greedy starts, 'rows' = random rows, as in the
        paper.
    restarts : int >= 1, default 10
        K-means starts compared.
    iterations : int >= 1, default 20
        K-means steps on all rows.
    near_duplicates : float >= -1, default 0.01
        Squared distance up to which rows count as near-duplicates; 0 = equal rows only, -1 = never.
    exact : bool, default False
        Compare all pairs of rows, and of rows and picks, whatever their number.
    workers : int >= 1, default 1
        Compute threads; no influence on the result.

    Raises
    ------
    SettingsError
        Unknown preset (the nearest known name is suggested), or a value of another type or out of bounds.

    Notes
    -----
    Source: sections 3.2-3.3 of Wang, Lian, Yu (ECCV 2022) and their code (squared distances, self among the neighbors,
    labels of the last assignment, repulsion averaged from zero and never updated after the last picks).
    float64 embeddings are selected from in float64 by the presets; everything else is computed in float32.

    Differs, in the default:

    - rows are centred, projected to at most 128 principal components and brought to unit length;
    - a row is not its own neighbor, and a floor keeps the density of exact duplicates finite;
    - the number of neighbors follows the mean size of a cluster, because 20 reach over the border of small ones;
    - k-means runs on rows averaged with their neighbors, from the best of several greedy starts;
    - the pick is the row closest to the mean of its cluster's own (unsmoothed) rows; density and repulsion stay
      as terms of the same utility, each divided by its median, so that one weight serves every encoder. Their
      weights are 0: on every set that defaults were chosen on, weight on density cost accuracy;
    - near-duplicates count as one row; the largest groups are listed in `diagnostics["near_duplicates"]`;
    - picks come in an order in which every prefix is a selection of its own (`ordering.py`).

    Differs, always: exactly `budget` picks. Where the official code crashes or cuts its list because a cluster
    lost all its rows, the missing picks come from the largest clusters, copies of picks last.
    Rows named in `labeled` hold fixed clusters of their own, and are never picked. Rows named in `excluded` take part
    in density and clusters like all others, but another row of their cluster is picked; for a near-duplicate of others
    that is one of its copies.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    >>> USL().select(rows, 10, rng=0).indices.shape
    (10,)
    """

    def select(
        self,
        embeddings: NDArray[np.floating[Any]],
        budget: int,
        *,
        rng: int | np.random.Generator,
        labeled: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
        projection: Projection | None = None,
        neighbors: Neighbors | None = None,
        progress: Progress | None = None,
    ) -> Selection:
        """Choose `budget` rows.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64
            Finite; any memory layout; may be memory-mapped.
        budget
            Picks, 1 to the number of rows that are neither labeled nor excluded.
        rng
            Seed or generator. The presets start k-means at the first rows of `rng.permutation` over the
            unlabeled rows.
        labeled : (l,) int64 or None
            Rows that have labels already: each holds a cluster of its own, and is never picked.
        excluded : (e,) int64 or None
            Rows that are never picked; otherwise rows of the pool like all others.
        projection
            Result of `fit` on these embeddings; found here when None.
        neighbors
            Result of `search` on these embeddings; searched here when None.
        progress
            Called as `progress(step, done, total)`; what it raises passes through.

        Returns
        -------
        Selection
            `score` is the density: higher = more typical.

        Raises
        ------
        SelectionError
            Input that no selection can be made from; the message names the value.
        """
        check_embeddings(embeddings)
        budget, held, barred = check_budget(budget, n=len(embeddings), labeled=labeled, excluded=excluded)
        with one_thread():
            return _Run(self, generator(rng), progress).select(
                embeddings, budget, held, barred, projection, neighbors
            )

    def fit(self, embeddings: NDArray[np.floating[Any]]) -> Projection | None:
        """Find the projection of `search` and `select`, to compute it once and pass it to both.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64

        Returns
        -------
        Projection or None
            None where rows stay as they are.
        """
        check_embeddings(embeddings)
        with one_thread():
            return _fit(self, embeddings)

    def search(
        self,
        embeddings: NDArray[np.floating[Any]],
        *,
        projection: Projection | None = None,
        progress: Progress | None = None,
    ) -> Neighbors | None:
        """Find the neighbors that `select` would search on the same embeddings, to keep them and pass them in.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64
        projection
            Result of `fit` on these embeddings; found here when None.
        progress
            Called as `progress(step, done, total)`; what it raises passes through.

        Returns
        -------
        Neighbors or None
            None where there is a single row.
        """
        if len(embeddings) < 2:
            return None
        return nearest_neighbors(
            self.prepare(embeddings, projection=projection), k=searched(self.neighbors), include_self=self.count_self,
            exact=True if self.exact else None, workers=self.workers, progress=progress,
        )  # fmt: skip

    def prepare(
        self, embeddings: NDArray[np.floating[Any]], *, projection: Projection | None = None
    ) -> NDArray[Any]:
        """Project and normalize rows as `select` does.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64
        projection
            Result of `fit` on these embeddings; found here when None.

        Returns
        -------
        (n, p) float32, or float64 for float64 embeddings under a preset without projection
        """
        if projection is None:
            check_embeddings(embeddings)
        return _prepare(self, embeddings, projection)


def _fit(p: USLParameters, embeddings: NDArray[Any]) -> Projection | None:
    """Find the projection; None where rows stay as they are."""
    if p.projection == 0 and not p.normalize:
        return None
    return fit_projection(embeddings, dimensions=p.projection, normalize=p.normalize)


def _prepare(p: USLParameters, embeddings: NDArray[Any], projection: Projection | None) -> NDArray[Any]:
    """Project and normalize; presets keep float64."""
    dtype = np.float64 if p.projection == 0 and embeddings.dtype == np.float64 else np.float32
    projection = projection or _fit(p, embeddings)
    if projection is None:
        return np.ascontiguousarray(embeddings, dtype=dtype)
    return projection.apply(embeddings, dtype=dtype)


class _Run:
    """One selection: the steps of `USL.select` and what they share."""

    def __init__(self, p: USLParameters, rng: np.random.Generator, progress: Progress | None) -> None:
        self.p, self.rng, self.progress = p, rng, progress

    def select(
        self,
        embeddings: NDArray[Any],
        budget: int,
        held: NDArray[np.int64],
        barred: NDArray[np.int64],
        projection: Projection | None,
        neighbors: Neighbors | None,
    ) -> Selection:
        p = self.p
        n = len(embeddings)
        self.report("projecting rows", 0, 1)
        rows = _prepare(p, embeddings, projection)
        zero_rows = int((~rows.any(axis=1)).sum())
        self.report("projecting rows", 1, 1)
        near = self.neighborhood(
            rows, held, neighbors, budget + len(barred), reuse=not np.may_share_memory(rows, embeddings)
        )
        # From here on a row is a leader of near-duplicates; `place` says where each held row went.
        groups, rows = near.groups, near.leaders
        place = groups.member_of[held]
        speakers = groups.speakers(barred)
        weights = None if len(rows) == n else groups.weights()
        typicality, exact, used = np.ones(len(rows), dtype=rows.dtype), True, 0
        points: NDArray[Any] | Smoothed = rows
        if near.neighbors is not None:
            used = neighbor_count(p.neighbors, rows=len(rows), clusters=budget + len(held))
            around = cut(near.neighbors, used)
            exact, used = around.exact, around.indices.shape[1]
            typicality = density(around.distances, floor=0.0 if p.count_self else 1e-3)
            if p.smoothing:
                points = Smoothed(rows, around.indices, around.places, p.workers)
            del around
        # In large pools the neighbors are as large as the rows.
        del near
        found = self.cluster(points, budget, place, weights)
        del points
        means, mass = cluster_means(rows, found.labels, clusters=len(held) + budget)
        picks, labels, filled = self.pick(
            rows, found, means, typicality, place, np.flatnonzero(speakers < 0), budget
        )
        if filled:
            means, mass = cluster_means(rows, labels, clusters=len(picks))
        chosen = picks[len(held) :]
        order, gain = order_picks(
            means[len(held) :],
            weights=mass[len(held) :],
            picks=rows[chosen],
            rng=self.rng,
            progress=self.progress,
        )
        position = np.full(len(picks), -1, dtype=np.int32)
        position[len(held) + order] = np.arange(budget, dtype=np.int32)
        chosen = chosen[order]
        cluster = position[labels]
        cluster = stand_in(rows, cluster, chosen)
        # A pick that only repeats another (nothing else was left) stands for itself.
        cluster[chosen] = np.arange(budget, dtype=np.int32)
        score = np.nan_to_num(typicality.astype(np.float32), posinf=float(np.finfo(np.float32).max))
        return Selection(
            indices=speakers[chosen],
            gain=gain,
            score=score[groups.member_of],
            cluster=cluster[groups.member_of],
            parameters={"method": p.name, **p.values()},
            diagnostics={
                "inertia": found.inertia,
                "filled": filled,
                "neighbors": used,
                "neighbors_exact": exact,
                "near_duplicate_rows": int(n - len(rows)),
                "near_duplicate_groups": groups.shared,
                "near_duplicates": groups.listing(),
                "zero_rows": zero_rows,
            },
        )

    def report(self, step: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(step, done, total)

    def neighborhood(
        self,
        rows: NDArray[Any],
        held: NDArray[np.int64],
        given: Neighbors | None,
        wanted: int,
        *,
        reuse: bool,
    ) -> Neighborhood:
        """Group near-duplicates, and find the neighbors among their leaders."""
        p = self.p
        return neighborhood(
            rows, k=searched(p.neighbors), radius=p.near_duplicates, enough=wanted + len(held),
            include_self=p.count_self, held=held, given=given, exact=True if p.exact else None, reuse=reuse,
            workers=p.workers, progress=self.progress,
        )  # fmt: skip

    def cluster(
        self,
        points: NDArray[Any] | Smoothed,
        budget: int,
        held: NDArray[np.int64],
        weights: NDArray[np.float64] | None,
    ) -> Clustering:
        """Make the clusters: held ones first, then one per pick."""
        p = self.p
        if p.start == "rows" and isinstance(points, Smoothed):
            points = points.take(slice(0, len(points)))
        fixed = taken(points, held) if len(held) else None
        if p.start == "rows":
            assert not isinstance(points, Smoothed)
            free = np.setdiff1d(np.arange(len(points)), held)
            start = free[self.rng.permutation(len(free))[:budget]]
            return paper_kmeans(
                points,
                start=start,
                iterations=p.iterations,
                fixed=fixed,
                workers=p.workers,
                progress=self.progress,
            )
        return kmeans(
            points, clusters=budget, rng=self.rng, weights=weights, fixed=fixed, restarts=p.restarts,
            iterations=p.iterations, workers=p.workers, progress=self.progress,
        )  # fmt: skip

    def pick(
        self,
        rows: NDArray[Any],
        found: Clustering,
        means: NDArray[np.float64],
        typicality: NDArray[Any],
        held: NDArray[np.int64],
        barred: NDArray[np.int64],
        budget: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
        """Pick one row per cluster by utility, and fill missing ones."""
        p = self.p
        clusters = len(held) + budget
        base = np.zeros(len(rows), dtype=rows.dtype)
        if p.centrality_weight > 0.0:
            base -= p.centrality_weight * self.scaled(distance_to_mean(rows, found.labels, means=means))
        if p.density_weight > 0.0:
            base += p.density_weight * self.scaled(typicality)
        allowed = np.ones(len(rows), dtype=bool)
        allowed[held] = allowed[barred] = False
        base[~allowed] = -np.inf

        horizon = Horizon(p.horizon, p.horizon_distance, p.horizon_picks)
        crowd = Repulsion(
            rows, labels=found.labels, alpha=p.alpha, horizon=horizon, floor=1e-6 if p.scale_free else 0.0,
            exact=p.exact, workers=p.workers,
        )  # fmt: skip
        picks, utility = pick_rounds(
            base, found.labels, clusters=clusters, held=held, weight=p.repulsion_weight, rounds=p.rounds,
            momentum=p.momentum, repulsion=lambda picks: self.scaled(crowd.of(picks)),
            report=lambda done, total: self.report("picking", done, total),
        )  # fmt: skip
        if (picks >= 0).all():
            return picks, found.labels, 0
        copies = np.ones(len(rows), dtype=bool)
        copies[same_rows(rows, preferred=picks[picks >= 0]).leaders] = False
        return fill(picks, found.labels, utility, allowed=allowed, repeats=copies)

    def scaled(self, term: NDArray[Any]) -> NDArray[Any]:
        """Divide a term by its median, where asked."""
        if not self.p.scale_free:
            return term
        finite = term[np.isfinite(term) & (term > 0.0)]
        return term / term.dtype.type(np.median(finite)) if len(finite) else term
