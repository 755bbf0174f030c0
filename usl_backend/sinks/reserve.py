"""Selection of the reserve: spare tasks queued after the picks so annotators do not run out."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.base import Neighbors, Selection


def reserve_rows(
    selection: Selection,
    count: int,
    *,
    excluded: NDArray[np.int64],
    neighbors: Neighbors | None = None,
) -> NDArray[np.int64]:
    """Return the next-best rows, an approximation of what a larger budget would have added.

    Rows are chosen one at a time. Each time, the cluster with the most rows per row already chosen from it
    (size / (1 + chosen), the highest-averages rule) contributes its highest-scored row that is not a
    neighbor of a chosen row, or if all are, its highest-scored row. So large clusters come first, clusters
    alternate, and near-duplicates of a pick come last.

    Parameters
    ----------
    selection
        The picks, with score and cluster of every row. Without scores, lower row numbers come first.
    count
        Number of rows to return; fewer if fewer are left.
    excluded : (e,) int64
        Rows that must not be chosen: those with labels.
    neighbors
        Nearest neighbors of every row; None disables the check for near-duplicates.

    Returns
    -------
    (r,) int64
        Distinct rows, best first, disjoint from the picks and from `excluded`.
    """
    cluster = np.asarray(selection.cluster)
    free = np.ones(len(cluster), dtype=bool)
    free[selection.indices] = False
    free[excluded] = False
    near = np.zeros(len(cluster), dtype=bool)
    if neighbors is not None:
        near[np.asarray(neighbors.indices)[selection.indices].ravel()] = True

    rows = np.flatnonzero(free)
    worth = np.zeros(len(rows)) if selection.score is None else np.asarray(selection.score, float)[rows]
    rows = rows[np.lexsort((rows, -worth, cluster[rows]))]
    starts = np.searchsorted(cluster[rows], np.arange(len(selection.indices) + 1))
    candidates = {c: rows[starts[c] : starts[c + 1]] for c in range(len(selection.indices))}
    sizes = np.bincount(cluster, minlength=len(selection.indices))

    # Heap of (-size / (1 + chosen), cluster): the most underserved cluster first, ties in pick order.
    chosen_from = np.ones(len(sizes), dtype=np.int64)
    queue = [(-sizes[c] / 2, c) for c, left in candidates.items() if len(left)]
    heapq.heapify(queue)
    found: list[int] = []
    while queue and len(found) < count:
        _, c = heapq.heappop(queue)
        left = candidates[c]
        far = np.flatnonzero(~near[left])
        position = int(far[0]) if len(far) else 0
        row = int(left[position])
        found.append(row)
        if neighbors is not None:
            near[np.asarray(neighbors.indices[row])] = True
        candidates[c] = np.delete(left, position)
        chosen_from[c] += 1
        if len(candidates[c]):
            heapq.heappush(queue, (-sizes[c] / (1 + chosen_from[c]), c))
    return np.asarray(found, dtype=np.int64)
