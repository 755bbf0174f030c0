"""The k nearest neighbors of every row, exact or blocked over cells.

Exact search compares all pairs (n^2 d). The blocked search sorts the rows into cells of a k-means, and compares
each cell only with the rows of the nearest cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection.base import Neighbors
from usl_backend.selection.rows.assignment import assign_coarse
from usl_backend.selection.rows.exact import nearest_rows
from usl_backend.selection.rows.kmeans import quick_centers
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.smallest import few_smallest
from usl_backend.selection.rows.threads import map_blocks, one_thread, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress

EXACT_ROWS = 5_000
"""Up to this many rows every pair is compared; above it cells are used unless asked otherwise."""
CELL_ROWS, LARGE_CELL_ROWS = 128, 200
"""Rows per cell aimed at; larger cells find fewer neighbors for less time."""
LARGE_ROWS = 100_000
"""Above this many rows cells are larger, because finding many of them costs most."""
CANDIDATES, MOST_CANDIDATES = 2048, 8192
"""Rows that each cell is compared with: 36 per neighbor, but within these bounds. Presets compare all pairs."""
SEARCHED_ROWS = 2048
"""Rows searched for at once, an eighth of it in float64."""
SCORES = 262_144
"""Products of a cell's rows and its candidates held at once, so that they stay in the cache."""
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
    indices = np.empty((n, k), dtype=np.int32)
    distances = np.empty((n, k), dtype=rows.dtype if rows.dtype == np.float64 else np.float32)
    done = 0

    def store(targets: NDArray[np.int64], found: tuple[NDArray[Any], NDArray[Any]]) -> None:
        nonlocal done
        indices[targets], distances[targets] = found
        before, done = done, done + len(targets)
        if progress is not None and (done == n or before // 4096 != done // 4096):
            progress("finding neighbors", done, n)

    with one_thread():
        if rows.dtype == np.float64 or exact or candidates_wanted(k) * 2 > n:
            exact = True
            everyone = _ExactSearch(rows, np.arange(n), k, include_self)
            for targets, found in map_blocks(everyone, everyone.blocks(), workers=workers):
                store(targets, found)
        else:
            cells = _cells(rows, k=k, include_self=include_self, seed=seed, workers=workers)
            for targets, found in map_blocks(cells, cells.filled(), workers=workers):
                store(targets, found)
    return Neighbors(indices=indices, distances=distances, exact=exact)


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


def candidates_wanted(k: int) -> int:
    """Number of rows that each cell is compared with."""
    return int(np.clip(36 * k, CANDIDATES, MOST_CANDIDATES))


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


def _cells(rows: NDArray[Any], *, k: int, include_self: bool, seed: int, workers: int) -> _Cells:
    """Sort the rows into cells and find the cells nearest to each."""
    n = len(rows)
    rng = np.random.default_rng(seed)
    count = max(2, n // (CELL_ROWS if n <= LARGE_ROWS else LARGE_CELL_ROWS))
    centers = quick_centers(rows, clusters=count, rng=rng, workers=workers)
    labels = assign_coarse(rows, centers, workers=workers).labels
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=len(centers))
    filled = sizes[sizes > 0]
    wanted = candidates_wanted(k)
    reach = min(len(filled), int(np.ceil(4 * wanted / max(1.0, float(np.median(filled))))) + 4)
    nearest = np.empty((len(centers), reach), dtype=np.int64)
    for block in row_blocks(len(centers), size=1024):
        between = squared_distances(centers[block], centers)
        between[:, sizes == 0] = np.inf
        between[np.arange(len(between)), np.arange(block.start, block.stop)] = -1.0
        some = np.argpartition(between, reach - 1, axis=1)[:, :reach]
        rank = np.argsort(np.take_along_axis(between, some, axis=1), axis=1, kind="stable")
        nearest[block] = np.take_along_axis(some, rank, axis=1)
    return _Cells(
        rows=rows,
        half_norms=np.einsum("ij,ij->i", rows, rows) / 2,
        order=order,
        sizes=sizes,
        begin=np.concatenate([[0], np.cumsum(sizes)]),
        nearest=nearest,
        wanted=wanted,
        k=k,
        include_self=include_self,
    )


@dataclass(frozen=True)
class _Cells:
    """The rows of each cell, and for each cell the nearest cells that together hold enough candidates."""

    rows: NDArray[Any]
    half_norms: NDArray[Any]
    order: NDArray[np.int64]
    sizes: NDArray[np.int64]
    begin: NDArray[np.int64]
    nearest: NDArray[np.int64]
    wanted: int
    k: int
    include_self: bool

    def filled(self) -> list[int]:
        """List the cells that hold a row."""
        return [int(cell) for cell in np.flatnonzero(self.sizes)]

    def __call__(self, cell: int) -> tuple[NDArray[np.int64], tuple[NDArray[Any], NDArray[Any]]]:
        """Find the neighbors of one cell's rows among its candidates, as (indices, distances)."""
        near = self.nearest[cell]
        enough = int(np.searchsorted(np.cumsum(self.sizes[near]), self.wanted)) + 1
        # The cell's own rows come first; of the last cell only as many as are wanted.
        places = np.concatenate([self.order[self.begin[c] : self.begin[c + 1]] for c in near[:enough]])
        own = places[: self.sizes[cell]]
        places = places[: max(self.wanted, len(own))]
        candidates, half = self.rows.take(places, axis=0), self.half_norms[places]
        wide = min(self.k + 1, len(places))
        indices = np.empty((len(own), self.k), dtype=np.int32)
        distances = np.empty((len(own), self.k), dtype=self.rows.dtype)
        for block in row_blocks(len(own), size=max(1, SCORES // len(places))):
            mine = candidates[block]
            # Half the squared distance less the row's own norm: the same order, one pass less.
            score = mine @ candidates.T
            np.subtract(half, score, out=score)
            itself = np.arange(block.start, block.start + len(mine))
            score[itself - block.start, itself] = -np.inf
            columns, value = few_smallest(score, wide)
            value += half[block, None]
            value *= 2.0
            # Near-equal rows lose their digits in the product: take those distances from the differences.
            row, place = np.nonzero((value < 2e-3 * half[block, None]) & (value > -np.inf))
            if len(row):
                difference = mine[row] - candidates[columns[row, place]]
                value[row, place] = np.einsum("ij,ij->i", difference, difference)
            keys = _keys(value, places[columns])
            keys[value == -np.inf] = 0
            keys.sort(axis=1)
            indices[block], distances[block] = _of_keys(
                keys, own[block], self.k, include_self=self.include_self
            )
        return own, (indices, distances)


def _keys(distances: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Join squared distances and rows to numbers above 2^32 that sort by distance, then by row."""
    # The bits of floats from +0 on ascend with them.
    keys: NDArray[np.uint64] = np.abs(np.maximum(distances, 0.0)).view(np.uint32).astype(np.uint64)
    keys += np.uint64(1)
    keys <<= np.uint64(32)
    keys |= rows.view(np.uint64)
    return keys


def _of_keys(
    keys: NDArray[np.uint64], own: NDArray[np.int64], k: int, *, include_self: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Take sorted keys apart: k rows and their distances; the first key is that of the row itself."""
    keys = keys[:, :k] if include_self else keys[:, 1 : k + 1]
    rows = keys.astype(np.uint32).view(np.int32)
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    if include_self:
        rows[:, 0], bits[:, 0] = own, 1
    bits -= np.uint32(1)
    return rows, bits.view(np.float32)
