"""Repulsion of each row from the picks of other clusters. Choosing the picks is `usl.py`.

R_i = sum over picks j of 1 / d2(i, j)^alpha within a horizon (section 3.3 of Wang, Lian, Yu, ECCV 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .rows import squared_distances
from .threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

Horizon = Literal["distance", "nearest", "nearest-other"]
BLOCK_CELLS = 8_000_000
"""Distances held at once per worker."""


def repulsion(
    rows: NDArray[np.floating[Any]],
    *,
    picks: NDArray[np.int64],
    own: NDArray[np.integer[Any]],
    alpha: float,
    horizon: Horizon,
    horizon_distance: float = np.inf,
    horizon_picks: int = 128,
    floor: float = 0.0,
    workers: int = 1,
) -> NDArray[Any]:
    """Sum of 1 / d2^alpha over the picks within the horizon.

    Parameters
    ----------
    rows : (n, d) float32 or float64
    picks : (p,) int64
        Rows picked, one per cluster.
    own : (n,) integers
        Position in `picks` of each row's own cluster, -1 where it has none.
    alpha
        Exponent on the squared distance.
    horizon
        "distance": all picks nearer than `horizon_distance` (squared) but not the own cluster's;
        "nearest": the `horizon_picks` nearest, a pick at distance 0 skipped;
        "nearest-other": the `horizon_picks` nearest, the own cluster's skipped.
    horizon_distance
        Squared distance, exclusive.
    horizon_picks
        Picks looked at, those skipped included.
    floor
        Smallest squared distance; 0 as in the official code.
    workers
        Threads over blocks; no influence on the result.

    Returns
    -------
    (n,) float, the dtype of `rows`
        Non-negative; higher = more crowded by other picks = less wanted.
    """
    n, p = len(rows), len(picks)
    result = np.zeros(n, dtype=rows.dtype)
    centers = rows[picks]
    nearest = min(horizon_picks, p)

    def one(block: slice) -> None:
        distances = squared_distances(rows[block], centers)
        mine = own[block]
        places = np.flatnonzero(mine >= 0)
        if horizon == "distance":
            keep = distances < horizon_distance
            keep[places, mine[places]] = False
        else:
            keep = np.ones(distances.shape, dtype=bool)
            if horizon == "nearest-other":
                keep[places, mine[places]] = False
            else:
                keep = distances > 0.0
            if nearest < p:
                near = np.argpartition(distances, nearest - 1, axis=1)[:, :nearest]
                distances = np.take_along_axis(distances, near, axis=1)
                keep = np.take_along_axis(keep, near, axis=1)
        if floor > 0.0:
            np.maximum(distances, floor, out=distances)
        with np.errstate(divide="ignore"):
            force = 1.0 / (np.sqrt(distances) if alpha == 0.5 else distances**alpha)
        force[~keep] = 0.0
        result[block] = force.sum(axis=1)

    for _ in map_blocks(one, row_blocks(n, size=max(1, BLOCK_CELLS // p)), workers=workers):
        pass
    return result
