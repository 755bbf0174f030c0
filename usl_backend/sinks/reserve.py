"""Which tasks queue up behind the picks; the picks themselves are chosen by `selection/`, not here."""

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
    """List the next-ranked rows: what a larger budget would most plausibly have added.

    Rows are given out one at a time. Each time the cluster with the most rows per row already chosen from it
    (size / (1 + chosen), the highest-averages rule) may name one: its row of the highest score that is no
    neighbour of a row already chosen; if all are, its row of the highest score. So large clusters come
    first, a cluster comes again only when the others had their turn, and near-duplicates of a pick come last.

    Parameters
    ----------
    selection
        The picks, with the score and the cluster of every row. Without scores, lower rows come first.
    count
        Rows wanted; fewer are returned when fewer are left.
    excluded : (e,) int64
        Rows that may not be chosen: those with labels.
    neighbors
        Nearest neighbours of every row; None: near-duplicates are not held back.

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
