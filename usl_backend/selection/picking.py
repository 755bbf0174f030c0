"""One pick per cluster by utility, in rounds under repulsion, and exactly as many as asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.selection.rows.preparation import fit_projection, squared_distances
from usl_backend.selection.rows.threads import one_thread, row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_DIMENSIONS: Final = 128


def cluster_argmax(
    utility: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], *, clusters: int
) -> NDArray[np.int64]:
    """Return the row of the highest utility in each cluster, (clusters,): ties go to the lower row.

    -1 for a cluster without a row above -inf. `utility` and `labels` are (n,).
    """
    picks = np.full(clusters, -1, dtype=np.int64)
    able = np.flatnonzero(utility > -np.inf)
    # Sorted by cluster, then by falling utility, then by row: the first of each cluster is its pick.
    order = able[np.lexsort((able, -utility[able], labels[able]))]
    found, first = np.unique(labels[order], return_index=True)
    picks[found] = order[first]
    return picks


def pick_rounds(
    base: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    clusters: int,
    held: NDArray[np.int64],
    weight: float,
    rounds: int,
    momentum: float,
    repulsion: Callable[[NDArray[np.int64]], NDArray[Any]],
    report: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Pick by utility, update the repulsion from the picks, pick again.

    Parameters
    ----------
    base : (n,) float
        Utility before repulsion; -inf marks rows that must not be picked.
    labels : (n,) integers
        Cluster of each row, 0 to `clusters` - 1; the first `len(held)` clusters are held.
    held : (l,) int64
        Labeled rows: the unchanging picks of clusters 0..l-1.
    weight
        Weight of the repulsion (lambda).
    rounds
        Times the picks are made; the repulsion is updated between them, so once less.
    momentum
        R <- momentum R + (1 - momentum) new, from R = 0.
    repulsion
        Called with the picks (clusters,), -1 where a cluster has none; returns (n,).
    report
        Called as `report(rounds done, rounds)`.

    Returns
    -------
    picks : (clusters,) int64
        Of the last round, -1 where a cluster has none.
    utility : (n,) float
        Of the last round.
    """
    force: NDArray[Any] = np.zeros_like(base)
    utility = base
    picks: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for step in range(rounds):
        utility = base - weight * force if step else base
        picks = cluster_argmax(utility, labels, clusters=clusters)
        picks[: len(held)] = held
        if report is not None:
            report(step + 1, rounds)
        if step == rounds - 1 or weight == 0.0:
            break
        new = repulsion(picks)
        force = momentum * force + (1.0 - momentum) * new
    return picks, utility


def fill(
    picks: NDArray[np.int64],
    labels: NDArray[np.int32],
    utility: NDArray[np.floating[Any]],
    *,
    allowed: NDArray[np.bool_],
    repeats: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """Give clusters without a pick one from the largest cluster, so that the count is exact.

    Parameters
    ----------
    picks : (k,) int64
        One row per cluster, -1 where missing.
    labels : (n,) int32
        Cluster of each row.
    utility : (n,) float
        Higher = better.
    allowed : (n,) bool
        Rows that may be picked.
    repeats : (n,) bool
        Rows that copy another row: taken only when nothing else is left.

    Returns
    -------
    picks : (k,) int64
        All >= 0, unless `allowed` has too few rows.
    labels : (n,) int32
        As before, but that each new pick alone has moved to the cluster it fills.
    filled
        Picks made here.
    """
    picks, labels = picks.copy(), labels.copy()
    free = allowed.copy()
    free[picks[picks >= 0]] = False
    missing: NDArray[np.int64] = np.flatnonzero(picks < 0)
    if not len(missing):
        return picks, labels, 0
    sizes = np.bincount(labels, minlength=len(picks)).astype(np.float64)
    for first_choice in (free & ~repeats, free):
        for cluster in missing:
            if picks[cluster] >= 0:
                continue
            able: NDArray[np.int64] = np.flatnonzero(first_choice & free)
            if not len(able):
                break
            largest = sizes[labels[able]]
            able = able[largest == largest.max()]
            row = able[np.nanargmax(utility[able])] if not np.isnan(utility[able]).all() else able[0]
            # Halving what is left of the donor spreads the next ones over the next largest.
            sizes[labels[row]] /= 2
            picks[cluster], labels[row] = row, cluster
            free[row] = False
    return picks, labels, int((picks[missing] >= 0).sum())


def nearest_pick(rows: NDArray[np.floating[Any]], picks: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the position (n,) of the pick nearest to each row (n, d); a pick stands for itself."""
    result = np.empty(len(rows), dtype=np.int32)
    for block in row_blocks(len(rows), size=max(1, 4_000_000 // len(picks))):
        result[block] = squared_distances(rows[block], rows[picks]).argmin(axis=1)
    result[picks] = np.arange(len(picks), dtype=np.int32)
    return result


def nearest_projected_pick(
    embeddings: NDArray[np.floating[Any]], picks: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return `nearest_pick` (n,) of rows (n, d) as an encoder gives them, projected as methods project them."""
    with one_thread():
        rows = fit_projection(embeddings, dimensions=_DIMENSIONS).apply(embeddings)
        return nearest_pick(rows, picks)


def stand_in(
    rows: NDArray[np.floating[Any]], cluster: NDArray[np.int32], picks: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Give rows whose cluster has no pick (-1) the nearest one: (n,)."""
    cluster = cluster.copy()
    lost = np.flatnonzero(cluster < 0)
    for part in row_blocks(len(lost), size=4096):
        cluster[lost[part]] = squared_distances(rows[lost[part]], rows[picks]).argmin(axis=1)
    return cluster
