"""Unsupervised Selective Labeling (Wang, Lian, Yu, ECCV 2022), training-free. USL-T's learned heads are not here.

Neighbors give each row a density, k-means gives as many clusters as picks, and in every cluster the row with the
highest utility is picked. The paper's settings are presets of the same class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .assignment import cluster_sums
from .base import Neighbors, Selection
from .density import density
from .duplicates import Groups, same_rows
from .kmeans import Clustering, kmeans, paper_kmeans
from .neighborhood import neighborhood
from .ordering import order_picks
from .parameters import option, resolve
from .picking import fill, pick_rounds
from .repulsion import Horizon, Kind, Repulsion
from .rows import check_budget, check_embeddings, fit_projection, generator, squared_distances
from .threads import one_thread, row_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from numpy.typing import NDArray

    from .base import Progress
else:
    from typing import Literal


@dataclass(frozen=True)
class USLParameters:
    """Options of `USL`; the defaults are one setting for every encoder and size."""

    projection: int = option(
        128,
        "principal components kept after centring when there are more dimensions; 0 = leave rows as they are",
        least=0,
    )
    normalize: bool = option(True, "bring rows to unit length")
    neighbors: int = option(20, "nearest neighbors that density and smoothing look at", least=1)
    count_self: bool = option(False, "count a row itself among its neighbors, as the paper's code does")
    smoothing: bool = option(
        True, "cluster rows averaged with their neighbors instead of the rows themselves"
    )
    centrality_weight: float = option(
        1.0, "weight of closeness to the cluster's mean in the utility", least=0
    )
    density_weight: float = option(0.0, "weight of density in the utility", least=0)
    repulsion_weight: float = option(0.0, "weight of repulsion from other clusters' picks (lambda)", least=0)
    scale_free: bool = option(True, "divide each term of the utility by its median before weighting")
    rounds: int = option(2, "times the picks are made; repulsion is updated in between", least=1)
    momentum: float = option(0.0, "share of the earlier repulsion kept at an update", least=0, most=1)
    alpha: float = option(0.5, "exponent of the squared distance in the repulsion", least=0)
    horizon: Kind = option(  # noqa: RUF009 - the name of the type hides that this is a field
        "nearest-other",
        "picks that repel: 'distance' = within horizon_distance, 'nearest' = the horizon_picks nearest, "
        "'nearest-other' = the same without the own cluster's",
    )
    horizon_distance: float = option(4.0, "squared distance from which a pick no longer repels", least=0)
    horizon_picks: int = option(64, "number of nearest picks that repel", least=1)
    start: Literal["plusplus", "rows"] = option(
        "plusplus",
        "k-means starts: 'plusplus' = the best of several greedy ones, 'rows' = random rows, as the paper",
    )
    restarts: int = option(10, "k-means starts compared", least=1)
    iterations: int = option(20, "k-means steps on all rows", least=1)
    near_duplicates: float = option(
        0.01,
        "squared distance up to which rows are one thing seen twice; 0 = equal rows only, -1 = never",
        least=-1,
    )
    exact: bool = option(False, "compare all pairs of rows, and of rows and picks, whatever their number")
    workers: int = option(1, "compute threads; no influence on the result", least=1)


def _paper(**options: Any) -> USLParameters:
    """Parameters of the official code, except those named."""
    shared: dict[str, Any] = {
        "projection": 0,
        "normalize": False,
        "count_self": True,
        "smoothing": False,
        "centrality_weight": 0.0,
        "density_weight": 1.0,
        "scale_free": False,
        "start": "rows",
        "restarts": 1,
        "near_duplicates": -1.0,
        "exact": True,
    }
    return USLParameters(**(shared | options))


PRESETS: dict[str, USLParameters] = {
    "paper-cifar10": _paper(
        neighbors=400, repulsion_weight=0.5, rounds=10, momentum=0.9, alpha=0.5,
        horizon="distance", horizon_distance=4.0, iterations=200,
    ),
    "paper-cifar100": _paper(
        neighbors=400, repulsion_weight=1.0, rounds=10, momentum=0.9, alpha=1.0,
        horizon="distance", horizon_distance=1.0, iterations=200,
    ),
    "paper-imagenet-moco": _paper(
        neighbors=20, repulsion_weight=1.5, rounds=2, momentum=0.0, alpha=0.5,
        horizon="nearest", horizon_picks=128, iterations=100,
    ),
    "paper-imagenet-clip": _paper(
        neighbors=20, repulsion_weight=0.05, rounds=2, momentum=0.0, alpha=1.0,
        horizon="nearest-other", horizon_picks=32, iterations=100, normalize=True,
    ),
}  # fmt: skip


class USL:
    """Representative and diverse rows to label, chosen once before any label exists.

    Parameters
    ----------
    preset
        "paper-cifar10", "paper-cifar100", "paper-imagenet-moco", "paper-imagenet-clip", or None for the default.
    **options
        Fields of `USLParameters`, laid over the preset.

    Raises
    ------
    SettingsError
        Unknown preset or option (the nearest known name is suggested) or an impossible value.

    Notes
    -----
    Source: sections 3.2-3.3 of the paper and its official code (squared distances, self among the neighbors,
    labels of the last assignment, repulsion averaged from zero and never updated after the last picks).
    float64 embeddings are selected from in float64 by the presets; everything else is computed in float32.

    Differs, in the default:
    - rows are centred, projected to at most 128 principal components and brought to unit length;
    - a row is not its own neighbor, and a floor keeps the density of exact duplicates finite;
    - k-means runs on rows averaged with their neighbors, from the best of several greedy starts;
    - the pick is the row closest to the mean of its cluster's own (unsmoothed) rows; density and repulsion stay
      as terms of the same utility, each divided by its median, so that one weight serves every encoder;
    - near-duplicates count as one row; all groups are listed in `diagnostics["near_duplicates"]`;
    - picks come in an order in which every prefix is a selection of its own (`ordering.py`).

    Differs, always: exactly `budget` picks. Where the official code crashes or cuts its list because a cluster
    lost all its rows, the missing picks come from the largest clusters, copies of picks last.
    Rows named in `labeled` hold fixed clusters of their own, and are never picked.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    >>> USL().select(rows, 10, rng=0).indices.shape
    (10,)
    """

    parameters_type: ClassVar[type[USLParameters]] = USLParameters
    presets: ClassVar[Mapping[str, USLParameters]] = PRESETS

    def __init__(self, *, preset: str | None = None, **options: Any) -> None:
        self.parameters = resolve(
            USLParameters, method="usl", presets=PRESETS, preset=preset, options=options
        )

    def select(
        self,
        embeddings: NDArray[np.floating[Any]],
        budget: int,
        *,
        rng: int | np.random.Generator,
        labeled: NDArray[np.int64] | None = None,
        neighbors: Neighbors | None = None,
        progress: Progress | None = None,
    ) -> Selection:
        """Choose `budget` rows.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64
            Finite; any memory layout; may be memory-mapped.
        budget
            Picks, 1 to the number of unlabeled rows.
        rng
            Seed or generator. The presets start k-means at the first rows of `rng.permutation` over the
            unlabeled rows.
        labeled : (l,) int64 or None
            Rows that have labels already.
        neighbors
            Result of `nearest_neighbors` on these rows *as this selection sees them* (`prepare`), with at least
            the wanted number of neighbors; searched here when None.
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
        budget, held = check_budget(budget, n=len(embeddings), labeled=labeled)
        with one_thread():
            return _Run(self.parameters, generator(rng), progress).select(embeddings, budget, held, neighbors)

    def prepare(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Rows as `select` sees them: projected and normalized as the parameters say.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64

        Returns
        -------
        (n, p) float32, or float64 for float64 embeddings under a preset without projection
        """
        check_embeddings(embeddings)
        return _prepare(self.parameters, embeddings)


def _prepare(p: USLParameters, embeddings: NDArray[Any]) -> NDArray[Any]:
    """Project and normalize; presets keep float64."""
    dtype = np.float64 if p.projection == 0 and embeddings.dtype == np.float64 else np.float32
    if p.projection == 0 and not p.normalize:
        return np.ascontiguousarray(embeddings, dtype=dtype)
    projection = fit_projection(embeddings, dimensions=p.projection, normalize=p.normalize)
    return projection.apply(embeddings, dtype=dtype)


class _Run:
    """One selection: the steps of `USL.select` and what they share."""

    def __init__(self, p: USLParameters, rng: np.random.Generator, progress: Progress | None) -> None:
        self.p, self.rng, self.progress = p, rng, progress

    def select(
        self, embeddings: NDArray[Any], budget: int, held: NDArray[np.int64], neighbors: Neighbors | None
    ) -> Selection:
        p = self.p
        self.report("project", 0, 1)
        rows = _prepare(p, embeddings)
        self.report("project", 1, 1)
        groups, near, typicality = self.neighborhood(rows, held, neighbors, budget)
        # From here on a row is a leader of near-duplicates; `place` says where each held row went.
        leaders = rows if len(groups.leaders) == len(rows) else rows[groups.leaders]
        place = groups.member_of[held]
        weights = None if len(leaders) == len(rows) else groups.weights()
        points = smooth(leaders, near.indices) if p.smoothing and near is not None else leaders
        found = self.cluster(points, budget, place, weights)
        picks, labels, filled = self.pick(leaders, found, typicality, place, budget)
        chosen = picks[len(held) :]
        order, gain = self.order(leaders, labels, picks, len(held))
        position = np.full(len(picks), -1, dtype=np.int32)
        position[len(held) + order] = np.arange(budget, dtype=np.int32)
        chosen = chosen[order]
        cluster = position[labels]
        cluster = _stand_in(leaders, cluster, chosen)
        # A pick that only repeats another (nothing else was left) stands for itself.
        cluster[chosen] = np.arange(budget, dtype=np.int32)
        score = np.nan_to_num(typicality.astype(np.float32), posinf=float(np.finfo(np.float32).max))
        return Selection(
            indices=groups.leaders[chosen],
            gain=gain,
            score=score[groups.member_of],
            cluster=cluster[groups.member_of],
            parameters={"method": "usl", **asdict(p)},
            diagnostics={
                "inertia": found.inertia,
                "filled": filled,
                "neighbors_exact": near.exact if near is not None else True,
                "near_duplicate_rows": int(len(rows) - len(leaders)),
                "near_duplicates": groups.listing(),
                "zero_rows": int((~rows.any(axis=1)).sum()),
            },
        )

    def report(self, step: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(step, done, total)

    def neighborhood(
        self, rows: NDArray[Any], held: NDArray[np.int64], given: Neighbors | None, budget: int
    ) -> tuple[Groups, Neighbors | None, NDArray[Any]]:
        """Groups of near-duplicates, neighbors among their leaders, and density of the leaders."""
        p = self.p
        found = neighborhood(
            rows, k=p.neighbors, radius=p.near_duplicates, enough=budget + len(held), include_self=p.count_self,
            held=held, given=given, exact=True if p.exact else None, workers=p.workers, progress=self.progress,
        )  # fmt: skip
        if found.neighbors is None:
            return found.groups, None, np.ones(len(found.groups.leaders), dtype=rows.dtype)
        return (
            found.groups,
            found.neighbors,
            density(found.neighbors.distances, floor=0.0 if p.count_self else 1e-3),
        )

    def cluster(
        self, points: NDArray[Any], budget: int, held: NDArray[np.int64], weights: NDArray[np.float64] | None
    ) -> Clustering:
        """Clusters: held ones first, then one per pick."""
        p = self.p
        fixed = points[held] if len(held) else None
        if p.start == "rows":
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
        typicality: NDArray[Any],
        held: NDArray[np.int64],
        budget: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
        """One row per cluster by utility; missing ones filled."""
        p = self.p
        clusters = len(held) + budget
        base = np.zeros(len(rows), dtype=rows.dtype)
        if p.centrality_weight > 0.0:
            base -= p.centrality_weight * self.scaled(distance_to_mean(rows, found.labels, clusters=clusters))
        if p.density_weight > 0.0:
            base += p.density_weight * self.scaled(typicality)
        allowed = np.ones(len(rows), dtype=bool)
        allowed[held] = False
        base[held] = -np.inf

        horizon = Horizon(p.horizon, p.horizon_distance, p.horizon_picks)
        crowd = Repulsion(
            rows, labels=found.labels, alpha=p.alpha, horizon=horizon, floor=1e-6 if p.scale_free else 0.0,
            exact=p.exact, workers=p.workers,
        )  # fmt: skip
        picks, utility = pick_rounds(
            base, found.labels, clusters=clusters, held=held, weight=p.repulsion_weight, rounds=p.rounds,
            momentum=p.momentum, repulsion=lambda picks: self.scaled(crowd.of(picks)),
            report=lambda done, total: self.report("pick", done, total),
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

    def order(
        self, rows: NDArray[Any], labels: NDArray[np.int32], picks: NDArray[np.int64], held: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Order and gain of the clusters that are not held."""
        sums, mass = cluster_sums(rows, labels, clusters=len(picks))
        mass = np.maximum(mass, 1.0)
        means = sums / mass[:, None]
        return order_picks(
            means[held:], weights=mass[held:], picks=rows[picks[held:]], rng=self.rng, progress=self.progress
        )


def smooth(rows: NDArray[Any], indices: NDArray[np.int32]) -> NDArray[Any]:
    """Average each row with its neighbors and bring the sum to unit length: one step of a mean shift.

    Parameters
    ----------
    rows : (n, d) float
    indices : (n, k) int32
        Neighbors, the row itself among them or not: it is counted once.

    Returns
    -------
    (n, d) float, the dtype of `rows`
        A sum of zero stays zero.
    """
    result = np.empty_like(rows)
    for block in row_blocks(len(rows), size=512):
        near = indices[block]
        total = rows[near].sum(axis=1)
        absent = ~(near == np.arange(block.start, block.stop)[:, None]).any(axis=1)
        total[absent] += rows[block][absent]
        length = np.sqrt(np.einsum("ij,ij->i", total, total))
        result[block] = total / np.where(length > 1e-12, length, 1.0)[:, None]
    return result


def distance_to_mean(rows: NDArray[Any], labels: NDArray[np.int32], *, clusters: int) -> NDArray[Any]:
    """Squared distance of each row to the mean of its cluster's rows.

    Parameters
    ----------
    rows : (n, d) float
    labels : (n,) int32
    clusters
        Number of clusters.

    Returns
    -------
    (n,) float, the dtype of `rows`
    """
    sums, mass = cluster_sums(rows, labels, clusters=clusters)
    means = (sums / np.maximum(mass, 1.0)[:, None]).astype(rows.dtype)
    result = np.empty(len(rows), dtype=rows.dtype)
    for block in row_blocks(len(rows), size=4096):
        difference = rows[block] - means[labels[block]]
        result[block] = np.einsum("ij,ij->i", difference, difference)
    return result


def _stand_in(rows: NDArray[Any], cluster: NDArray[np.int32], chosen: NDArray[np.int64]) -> NDArray[np.int32]:
    """Nearest pick for rows whose cluster is held by a labeled row (-1)."""
    cluster = cluster.copy()
    lost = np.flatnonzero(cluster < 0)
    for part in row_blocks(len(lost), size=4096):
        cluster[lost[part]] = squared_distances(rows[lost[part]], rows[chosen]).argmin(axis=1)
    return cluster
