"""Neighbors that the other side has found: what a row misses because it did not look there, its counterpart may have.

The reverse neighbors of NN-descent (Dong, Charikar, Li, WWW 2011, section 2.2), once, and without new distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.keys import distance_keys, of_keys, rowwise
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.rows.cells import Cells

ROWS = 8192
"""Rows looked through at once."""


def add_reverse(
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    *,
    cells: Cells,
    looked: NDArray[np.unsignedinteger[Any]],
) -> None:
    """Give each row those that name it as their neighbor and are nearer than its own last one, in place.

    Parameters
    ----------
    indices, distances : (n, k), k at least 1
        Neighbors of each row and their squared distances, ascending, without the row itself.
    cells
        Where the rows are.
    looked : (n, probes)
        Cells that each row looked into: it has the nearest of their rows already.
    """
    wide = indices.shape[1]
    named, keys = _unseen(indices, distances, cells, looked)
    by_row = np.lexsort((keys, named))
    named, keys = named[by_row], keys[by_row]
    rows, begin, counts = np.unique(named, return_index=True, return_counts=True)
    place, rank = np.repeat(np.arange(len(rows)), counts), np.arange(len(named)) - np.repeat(begin, counts)
    # No more of them than a row has places.
    kept = rank < wide
    place, rank, keys = place[kept], rank[kept], keys[kept]
    for part in row_blocks(len(rows), size=ROWS):
        there = rows[part]
        mine = slice(*np.searchsorted(place, (part.start, part.stop)))
        more = rowwise(keys[mine], place[mine] - part.start, rank[mine], count=len(there))
        both = np.concatenate([distance_keys(distances[there], indices[there]), more], axis=1)
        both.sort(axis=1)
        indices[there], distances[there] = of_keys(both[:, :wide])


def _unseen(
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    cells: Cells,
    looked: NDArray[np.unsignedinteger[Any]],
) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """Find the rows that a nearer one names from a cell they did not look into: the rows, and keys of those."""
    last = distances[:, -1].copy()
    home = np.repeat(np.arange(len(cells.centers), dtype=looked.dtype), np.diff(cells.begin))
    rows: list[NDArray[np.int32]] = []
    keys: list[NDArray[np.uint64]] = []
    # Cell by cell, so that the rows they name are near each other in memory.
    for block in row_blocks(len(cells.order), size=ROWS):
        own = cells.order[block]
        near, apart = indices.take(own, axis=0).ravel(), distances.take(own, axis=0).ravel()
        hit = np.flatnonzero(apart < last.take(near))
        place, named = hit // indices.shape[1], near[hit]
        seen, there = looked.take(named, axis=0), home[block][place]
        # Column by column: faster than along a short axis.
        known = np.zeros(len(named), dtype=bool)
        for column in seen.T:
            known |= column == there
        unseen = np.flatnonzero(~known)
        rows.append(named[unseen])
        keys.append(distance_keys(apart[hit[unseen]], own[place[unseen]]))
    return np.concatenate(rows), np.concatenate(keys)
