"""Density of a row from the distances to its neighbors.

The paper estimates the density p(V, k) = k / (n A_d D^d), D the mean distance to the k nearest neighbors; only its
order matters, so D alone is kept (section 3.2 of Wang, Lian, Yu, ECCV 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def density(distances: NDArray[np.floating[Any]], *, floor: float = 0.0) -> NDArray[Any]:
    """Return one over the mean squared distance of each row to its neighbors, (n,): higher = denser = more typical.

    Parameters
    ----------
    distances : (n, k) float
        Squared distances to the k nearest neighbors.
    floor
        Smallest mean distance, as a fraction of the median one: keeps exact duplicates finite. 0 as in the
        official code, where k exact duplicates give infinity.

    Notes
    -----
    Source: section 3.2; official code, `get_mean_nearest_neighbor_distance` ranks by 1 / D on squared distances.
    Differs: the floor.
    """
    mean = distances.mean(axis=1)
    if floor > 0.0:
        positive = mean[mean > 0.0]
        least = floor * float(np.median(positive)) if len(positive) else 1.0
        mean = np.maximum(mean, least)
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / mean, dtype=distances.dtype)
