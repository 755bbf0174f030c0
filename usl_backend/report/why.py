"""Figures that explain each pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.report.record import Why
from usl_backend.selection.rows.preparation import squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.base import Selection

_BLOCK = 512


def percentiles(score: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the percentage of rows with a lower score, for each row.

    Parameters
    ----------
    score : (n,) float
        Higher = more typical.

    Returns
    -------
    (n,) float64
        0 (none is lower) to below 100.
    """
    below = np.searchsorted(np.sort(score), score, side="left")
    return np.asarray(below * (100.0 / len(score)), dtype=np.float64)


def nearest_others(picks: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest other pick of each pick.

    Parameters
    ----------
    picks : (m, d) float
        At least two.

    Returns
    -------
    nearest : (m,) int64
        Position in `picks`; the first one for ties.
    distance : (m,) float64
        Euclidean distance, not squared.
    """
    m = len(picks)
    nearest = np.empty(m, dtype=np.int64)
    distance = np.empty(m)
    for begin in range(0, m, _BLOCK):
        block = slice(begin, min(begin + _BLOCK, m))
        apart = squared_distances(picks[block], picks)
        own = np.arange(block.start, block.stop)
        apart[own - begin, own] = np.inf
        nearest[block] = apart.argmin(axis=1)
        distance[block] = np.sqrt(apart.min(axis=1))
    return nearest, distance


def explain(
    ids: NDArray[np.int64],
    rows: NDArray[np.floating[Any]],
    selection: Selection,
    *,
    percentile: NDArray[np.float64],
    coverage: NDArray[np.float64],
    before: float = 0.0,
) -> tuple[Why, ...]:
    """Compute the figures of every pick, in pick order.

    Parameters
    ----------
    ids : (n,) int64
        Instance id of each row.
    rows : (n, d) float
        Normalized embeddings of the report.
    selection
        The picks.
    percentile : (n,) float64
        Percentile of the score, from `percentiles`.
    coverage : (m,) float64
        Share of the pool covered after each pick.
    before
        Share of the pool covered by labeled tasks before the first pick.
    """
    picks, m, n = selection.indices, len(selection.indices), len(ids)
    sizes = np.bincount(selection.cluster, minlength=m)
    added = np.diff(coverage, prepend=min(before, float(coverage[0])))
    nearest, distance = nearest_others(rows[picks]) if m > 1 else (None, None)
    return tuple(
        Why(
            rank=rank,
            task=int(ids[row]),
            size=int(sizes[rank]),
            share=float(sizes[rank] / n),
            density_percentile=float(percentile[row]),
            nearest_rank=None if nearest is None else int(nearest[rank]),
            nearest_task=None if nearest is None else int(ids[picks[nearest[rank]]]),
            distance=None if distance is None else float(distance[rank]),
            gain=float(selection.gain[rank]),
            covered=float(added[rank]),
            coverage=float(coverage[rank]),
        )
        for rank, row in enumerate(picks.tolist())
    )
