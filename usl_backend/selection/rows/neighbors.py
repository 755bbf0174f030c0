"""The k nearest neighbors of every row, exact or by cells.

Exact search compares all pairs (n^2 d). The other sorts the rows into cells, and compares each row only with those of
the cells nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection.base import Neighbors
from usl_backend.selection.rows.cells import candidates_wanted, make_cells
from usl_backend.selection.rows.exact import nearest_rows
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.reverse import add_reverse
from usl_backend.selection.rows.threads import map_blocks, one_thread, row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from usl_backend.progress import Progress

EXACT_ROWS = 5_000
"""Up to this many rows every pair is compared; above it cells are used unless asked otherwise."""
SEARCHED_ROWS = 2048
"""Rows searched for at once, an eighth of it in float64."""
SPARE = 8
"""Neighbours looked up beyond k, so that ties at the border are settled by recomputed distances."""


def nearest_neighbors(
    rows: NDArray[np.floating[Any]],
    *,
    k: int,
    include_self: bool = False,
    exact: bool | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Neighbors:
    """Find the k nearest rows of every row by squared Euclidean distance.

    Parameters
    ----------
    rows : (n, d) float32 or float64, C-contiguous
        float64 is searched in float64, always exactly.
    k
        Neighbours per row, at least 1; cut to what the pool has.
    include_self
        Count the row itself (at distance 0) among the k, as the paper's code does.
    exact
        True compares all pairs, False uses cells, None decides by size (exact up to 5,000 rows).
    workers
        Threads over blocks; no influence on the result.
    seed
        Of the cells.
    progress
        Called as `progress("finding neighbors", rows done, n)`.

    Returns
    -------
    Neighbors
        Sorted by distance, ties by row. Distances of near-equal rows are recomputed from differences, so that
        exact duplicates are exactly 0 apart.

    Raises
    ------
    SelectionError
        k is below 1, or the pool has a single row and self does not count.
    """
    n = len(rows)
    if k < 1:
        raise SelectionError(f"k is {k} neighbors; give at least 1")
    available = n if include_self else n - 1
    if available < 1:
        raise SelectionError("the pool has 1 row and no neighbors; give at least 2 rows")
    k = min(k, available)
    if exact is None:
        exact = n <= EXACT_ROWS
    with one_thread():
        if rows.dtype == np.float64 or exact or 2 * candidates_wanted(k, rows=n) > n:
            return _of_all(rows, k, include_self, workers, progress)
        found = _of_cells(rows, max(k - include_self, 1), seed, workers, progress)
    return _with_self(found, k) if include_self else found


def _of_all(
    rows: NDArray[Any], k: int, include_self: bool, workers: int, progress: Progress | None
) -> Neighbors:
    """Find neighbors by comparing every pair."""
    indices = np.empty((len(rows), k), dtype=np.int32)
    distances = np.empty((len(rows), k), dtype=rows.dtype if rows.dtype == np.float64 else np.float32)
    work = _ExactSearch(rows, np.arange(len(rows)), k, include_self)
    report = _reporter(progress, len(rows))
    for own, found in map_blocks(work, work.blocks(), workers=workers):
        indices[own], distances[own] = found
        report(len(own))
    return Neighbors(indices, distances, exact=True)


def _of_cells(rows: NDArray[Any], k: int, seed: int, workers: int, progress: Progress | None) -> Neighbors:
    """Find neighbors in the nearest cells of each row, and those that found the row from elsewhere."""
    n = len(rows)
    cells = make_cells(rows, k=k, seed=seed, workers=workers)
    indices, distances = np.empty((n, k), dtype=np.int32), np.empty((n, k), dtype=np.float32)
    looked = np.empty((n, cells.probes), dtype=cells.near.dtype)
    report = _reporter(progress, n)
    for own, found, probed in map_blocks(cells, cells.blocks(), workers=workers):
        indices[own], distances[own] = found
        looked[own] = probed
        report(len(own))
    add_reverse(indices, distances, cells=cells, looked=looked)
    places = np.empty(n, dtype=np.int32)
    places[cells.order] = np.arange(n, dtype=np.int32)
    return Neighbors(indices, distances, exact=False, places=places)


def _with_self(found: Neighbors, k: int) -> Neighbors:
    """Put each row before its first k - 1 neighbors."""
    own = np.arange(len(found.indices), dtype=np.int32)
    return Neighbors(
        np.column_stack([own, found.indices[:, : k - 1]]),
        np.column_stack([np.zeros(len(own), np.float32), found.distances[:, : k - 1]]),
        found.exact,
        found.places,
    )


def _reporter(progress: Progress | None, n: int) -> Callable[[int], None]:
    """Return what is to be told of every few rows done, and passes every few thousand on."""
    done = 0

    def report(rows: int) -> None:
        nonlocal done
        before, done = done, done + rows
        if progress is not None and (done == n or before // 4096 != done // 4096):
            progress("finding neighbors", done, n)

    return report


def nearest_of_some(
    rows: NDArray[np.floating[Any]],
    targets: NDArray[np.int64],
    *,
    k: int,
    include_self: bool = False,
    workers: int = 1,
) -> Neighbors:
    """Find the k nearest rows of `targets` (t,) among `rows` (n, d), exactly: (t, k) indices and distances.

    `workers` are threads over blocks, without influence on the result.
    """
    search = _ExactSearch(rows, targets, k, include_self)
    return _joined([found for _, found in map_blocks(search, search.blocks(), workers=workers)])


def nearest_of_others(
    rows: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]], *, k: int, workers: int = 1
) -> Neighbors:
    """Find the k nearest `others` (n, d) of each row (b, d), exactly, in float32: (b, k) indices and distances.

    `workers` are threads over blocks, without influence on the result.
    """
    blocks = row_blocks(len(rows), size=SEARCHED_ROWS)
    return _joined(list(map_blocks(_SearchOthers(others, rows, k), blocks, workers=workers)))


@dataclass(frozen=True)
class _ExactSearch:
    """Finds the k nearest rows of each target of a block by comparing every pair."""

    rows: NDArray[Any]
    targets: NDArray[np.int64]
    k: int
    include_self: bool

    def blocks(self) -> list[slice]:
        """Cut the targets into blocks."""
        size = SEARCHED_ROWS if self.rows.dtype == np.float32 else SEARCHED_ROWS // 8
        return row_blocks(len(self.targets), size=size)

    def __call__(self, block: slice) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[Any]]]:
        targets = self.targets[block]
        search = _exact_float64 if self.rows.dtype == np.float64 else nearest_rows
        found = search(self.rows[targets], self.rows, min(self.k + SPARE, len(self.rows)))
        return targets, _nearest_of(self.rows, targets, found, self.k, include_self=self.include_self)


@dataclass(frozen=True)
class _SearchOthers:
    """Finds the k nearest of `rows` for each of a block of others."""

    rows: NDArray[Any]
    others: NDArray[Any]
    k: int

    def __call__(self, block: slice) -> tuple[NDArray[np.int64], NDArray[Any]]:
        others = self.others[block]
        found = nearest_rows(others, self.rows, min(self.k + SPARE, len(self.rows)))
        distances = _squared(others, self.rows, found)
        order = np.lexsort((found, distances), axis=1)[:, : self.k]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _joined(found: list[tuple[NDArray[np.int64], NDArray[Any]]]) -> Neighbors:
    """Join the exact neighbors of consecutive blocks."""
    return Neighbors(
        np.concatenate([indices for indices, _ in found]).astype(np.int32),
        np.concatenate([distances for _, distances in found]),
        exact=True,
    )


def _exact_float64(targets: NDArray[Any], rows: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Find the k nearest rows of the targets in float64."""
    distances = squared_distances(targets, rows)
    if k == len(rows):
        return np.broadcast_to(np.arange(k), distances.shape)
    return np.argpartition(distances, k - 1, axis=1)[:, :k]


def _squared(targets: NDArray[Any], rows: NDArray[Any], found: NDArray[np.int64]) -> NDArray[Any]:
    """Squared distances (t, w) of targets (t, d) to the rows found for each, from the differences."""
    distances = np.empty(found.shape, dtype=rows.dtype)
    # Differences take (b, w, d) memory: a few hundred rows at a time stay in the cache.
    for part in row_blocks(len(found), size=max(1, 2_000_000 // (found.shape[1] * rows.shape[1]))):
        difference = rows[found[part]]
        difference -= targets[part, None, :]
        distances[part] = np.einsum("ikd,ikd->ik", difference, difference)
    return distances


def _nearest_of(
    rows: NDArray[Any], targets: NDArray[np.int64], found: NDArray[np.int64], k: int, *, include_self: bool
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Recompute the distances of the rows found exactly, put self first or drop it, sort, and cut to k."""
    distances = _squared(rows[targets], rows, found)
    itself = found == targets[:, None]
    distances[itself] = -1.0 if include_self else np.inf
    if include_self:
        # Among many exact duplicates the search may have missed the row itself: it takes the last place.
        absent = ~itself.any(axis=1)
        last = distances[absent].argmax(axis=1)
        found = found.copy()
        found[np.flatnonzero(absent), last] = targets[absent]
        distances[np.flatnonzero(absent), last] = -1.0
    order = np.lexsort((found, distances), axis=1)[:, :k]
    found = np.take_along_axis(found, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    return found, np.maximum(distances, 0.0, out=distances)
