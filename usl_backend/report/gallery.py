"""Rows of the gallery besides the picks: runners-up, cluster members, least typical rows, near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.selection.rows.neighborhood import neighborhood

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from usl_backend.selection.base import Neighbors, Selection

MEMBERS: Final = 6
"""Cluster members shown per pick."""
LOWEST: Final = 48
"""Least typical tasks shown."""
OUTLIERS: Final = 48
"""Outliers shown."""
GROUPS: Final = 60
"""Groups of near-duplicates shown."""
COPIES: Final = 8
"""Tasks shown per group."""
NEAR_DUPLICATE: Final = 0.002
"""Squared distance up to which tasks count as near-duplicates, if the method does not define it."""
_NEIGHBORS: Final = 15
"""Neighbors per row among which they are looked for."""


@dataclass(frozen=True)
class PickCluster:
    """A pick's cluster: row of the runner-up, or None, and rows of a few members."""

    runner_up: int | None
    members: tuple[int, ...]


@dataclass(frozen=True)
class Copies:
    """Near-duplicates of a pool.

    Attributes
    ----------
    groups
        Rows of the largest groups, at most 1,000, largest first, the representative first in each.
    count
        Number of all groups.
    repeats
        Number of rows that repeat a representative.
    merged
        True if the method counted each group as one row; False if it took each row for itself.
    """

    groups: list[list[int]]
    count: int
    repeats: int
    merged: bool


def neighborhoods(
    rows: NDArray[np.floating[Any]],
    selection: Selection,
    *,
    barred: NDArray[np.integer[Any]] | None = None,
    duplicate_radius: float = NEAR_DUPLICATE,
) -> list[PickCluster]:
    """Return the cluster of each pick, in pick order.

    The runner-up is the method's second choice, by the larger of its two weights: the row nearest to the cluster's
    mean, or the row with the highest score. Near-duplicates of the pick and barred rows are excluded.

    Parameters
    ----------
    rows : (n, d) float
        Normalized embeddings of the report.
    selection
        Picks, clusters, scores and the method's parameters.
    barred : (b,) integers or None
        Rows that may not be picked: labeled and excluded ones, and outliers that are kept out.
    duplicate_radius
        Squared distance up to which a row is a near-duplicate of the pick.

    Returns
    -------
    list of PickCluster
        Members are distinct, exclude pick and runner-up, and are sorted by distance to the pick.
    """
    m = len(selection.indices)
    order = np.argsort(selection.cluster, kind="stable")
    bounds = np.searchsorted(selection.cluster[order], np.arange(m + 1))
    able = np.ones(len(rows), dtype=bool)
    able[[] if barred is None else barred] = False
    weights = selection.parameters
    by_score = selection.score is not None and (
        float(weights.get("density_weight", 0.0)) > float(weights.get("centrality_weight", 0.0))
    )
    result = []
    for rank, pick in enumerate(selection.indices.tolist()):
        mine = order[bounds[rank] : bounds[rank + 1]]
        others = mine[mine != pick]
        if not len(others):
            result.append(PickCluster(None, ()))
            continue
        apart = _squared_to(rows[others], rows[pick])
        worth = (
            np.asarray(selection.score)[others].astype(np.float64)
            if by_score and selection.score is not None
            else -_squared_to(rows[others], rows[mine].mean(axis=0))
        )
        worth = np.where(able[others] & (apart > duplicate_radius), worth, -np.inf)
        best = int(worth.argmax())
        runner_up = int(others[best]) if worth[best] > -np.inf else None
        left = others[others != runner_up]
        left = left[np.argsort(_squared_to(rows[left], rows[pick]), kind="stable")]
        places = np.unique(np.linspace(0, len(left) - 1, min(MEMBERS, len(left))).round().astype(np.int64))
        result.append(PickCluster(runner_up, tuple(int(row) for row in left[places])))
    return result


def lowest_rows(score: NDArray[np.floating[Any]], *, count: int = LOWEST) -> NDArray[np.int64]:
    """Return the rows with the lowest scores: typically ambiguous, truncated or outliers.

    Parameters
    ----------
    score : (n,) float
        Higher = more typical.
    count
        Number of rows; fewer if the pool is smaller.

    Returns
    -------
    (c,) int64
        Lowest first, ties by row.
    """
    return np.argsort(score, kind="stable")[:count].astype(np.int64)


def near_duplicates(
    diagnostics: Mapping[str, Any], rows: NDArray[np.floating[Any]], *, neighbors: Neighbors | None
) -> Copies:
    """Return the near-duplicates of a pool: those that the method merged, or else those that a search finds.

    Parameters
    ----------
    diagnostics
        Diagnostics of the selection.
    rows : (n, d) float
        Normalized embeddings of the report.
    neighbors
        Neighbor search over all rows; None runs it here, if the method merged none.
    """
    if repeats := int(diagnostics.get("near_duplicate_rows", 0)):
        listed = [[int(row) for row in group] for group in diagnostics["near_duplicates"]]
        # Runs of former versions tell no number of groups.
        return Copies(
            listed, int(diagnostics.get("near_duplicate_groups", len(listed))), repeats, merged=True
        )
    found = neighborhood(
        rows,
        k=_NEIGHBORS if neighbors is None else neighbors.indices.shape[1],
        radius=NEAR_DUPLICATE,
        enough=1,
        held=np.empty(0, dtype=np.int64),
        given=neighbors,
    ).groups
    return Copies(found.listing(), found.shared, len(rows) - len(found.leaders), merged=False)


def _squared_to(rows: NDArray[Any], point: NDArray[Any]) -> NDArray[np.float64]:
    """Return the squared distance of each row to a point."""
    difference = rows.astype(np.float64) - point
    return np.asarray(np.einsum("ij,ij->i", difference, difference))
