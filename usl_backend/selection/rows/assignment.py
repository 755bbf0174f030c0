"""The nearest center of each row, and the sums of each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.smallest import smallest
from usl_backend.selection.rows.threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 4096
"""Rows per block of sums."""
BLOCK_CELLS = 524_288
"""Products held at once, so that they stay in the cache."""
NEAR_CENTERS = 32
"""Centers that a row looks at before the exact assignment."""
EXACT_CENTERS = 1024
"""Up to so many centers looking at all of them costs no more than a guess."""
COARSE_DENSITY = 8
"""Coarse centers: so many times the square root of the centers."""
COARSE_CENTERS = 256
"""Centers that a first guess looks at."""
COARSE_STEPS = 4
"""Steps that refine the coarse centers."""
MENDING_CENTERS = 128
"""Centers around the guessed one that are looked at to mend it."""


@dataclass(frozen=True)
class Assignment:
    """Nearest center of every row.

    Attributes
    ----------
    labels : (n,) int32
        Row of `centers`; ties to the first.
    distances : (n,) float
        Squared distance to it.
    """

    labels: NDArray[np.int32]
    distances: NDArray[Any]


def assign(
    rows: NDArray[np.floating[Any]],
    centers: NDArray[np.floating[Any]],
    *,
    settle_ties: bool = False,
    workers: int = 1,
) -> Assignment:
    """Give every row (n, d) its nearest center (k, d); centers of NaN attract nothing.

    `settle_ties` recomputes near-ties from the differences and gives exact ties to the first center: the paper's
    presets need it where a pool has duplicates. `workers` are threads over blocks, without influence on the result.
    """
    n = len(rows)
    alive = ~np.isnan(centers[:, 0])
    usable = np.where(alive[:, None], centers, 0.0).astype(rows.dtype)
    half = np.einsum("ij,ij->i", usable, usable) / 2
    half[~alive] = np.inf
    labels = np.empty(n, dtype=np.int32)
    distances = np.empty(n, dtype=rows.dtype)
    work = _Nearest(rows, usable, half, settle_ties)
    blocks = row_blocks(n, size=min(max(BLOCK_CELLS // len(centers), 64), 8192))
    for block, found in zip(blocks, map_blocks(work, blocks, workers=workers), strict=True):
        labels[block], distances[block] = found
    return Assignment(labels=labels, distances=distances)


@dataclass(frozen=True)
class _Nearest:
    """Finds the nearest center, and the squared distance to it, of each row of a block."""

    rows: NDArray[Any]
    centers: NDArray[Any]
    half_norms: NDArray[Any]
    settle_ties: bool

    def __call__(self, block: slice) -> tuple[NDArray[np.int64], NDArray[Any]]:
        part = self.rows[block]
        score = part @ self.centers.T
        score -= self.half_norms
        best = score.argmax(axis=1)
        places = np.arange(len(part))
        norms = np.einsum("ij,ij->i", part, part)
        if self.settle_ties:
            tolerance = 1e-5 if part.dtype == np.float32 else 1e-12
            top = score[places, best]
            close = score >= (top - tolerance * (np.abs(top) + norms))[:, None]
            for row in np.flatnonzero(close.sum(axis=1) > 1):
                rivals = np.flatnonzero(close[row])
                difference = part[row] - self.centers[rivals]
                best[row] = rivals[np.einsum("ij,ij->i", difference, difference).argmin()]
        return best, np.maximum(norms - 2.0 * score[places, best], 0.0)


def assign_near(
    rows: NDArray[np.floating[Any]],
    centers: NDArray[np.floating[Any]],
    labels: NDArray[np.int32],
    *,
    near: int = NEAR_CENTERS,
    workers: int = 1,
) -> Assignment:
    """Give every row the best of the `near` centers nearest to its present one (`labels`, (n,)), that one included.

    Exact for all rows but those whose nearest center is not among these. `workers` are threads over clusters, without
    influence on the result.
    """
    k = len(centers)
    usable = centers.astype(rows.dtype)
    half = np.einsum("ij,ij->i", usable, usable) / 2
    candidates = np.empty((k, near), dtype=np.int64)
    for block in row_blocks(k, size=1024):
        apart = half - usable[block] @ usable.T
        apart[np.arange(len(apart)), np.arange(block.start, block.stop)] = -np.inf
        candidates[block], _ = smallest(apart, near)
    return _assign_among(rows, usable, labels, np.sort(candidates, axis=1), workers)


def assign_coarse(
    rows: NDArray[np.floating[Any]],
    centers: NDArray[np.floating[Any]],
    *,
    workers: int = 1,
) -> Assignment:
    """Give every row the best of the centers around its coarse cell, then of those around that one.

    A first guess for very many centers: exact up to 1,024, above that most rows get their nearest center. Without its
    second half many a cluster would seem to be empty that is not, and its center would be moved away from where it
    belongs. `workers` are threads over cells, without influence on the result.
    """
    k = len(centers)
    if k <= EXACT_CENTERS:
        return assign(rows, centers, workers=workers)
    usable = centers.astype(rows.dtype)
    coarse = _refined(usable[:: max(1, int(np.sqrt(k) / COARSE_DENSITY))], usable)
    apart = squared_distances(coarse, usable)
    candidates, _ = smallest(apart, COARSE_CENTERS)
    cells = assign(rows, coarse, workers=workers).labels
    guess = _assign_among(rows, usable, cells, np.sort(candidates, axis=1), workers)
    return assign_near(rows, centers, guess.labels, near=MENDING_CENTERS, workers=workers)


def _refined(coarse: NDArray[Any], centers: NDArray[Any]) -> NDArray[Any]:
    """Move coarse centers to the middle of the centers around them, by a few Lloyd steps."""
    coarse = coarse.copy()
    for _ in range(COARSE_STEPS):
        labels = assign(centers, coarse).labels
        sums, mass = cluster_sums(centers, labels, clusters=len(coarse))
        filled = mass > 0
        coarse[filled] = (sums[filled] / mass[filled, None]).astype(centers.dtype)
    return coarse


def _assign_among(
    rows: NDArray[Any],
    centers: NDArray[Any],
    groups: NDArray[np.int32],
    candidates: NDArray[np.int64],
    workers: int,
) -> Assignment:
    """Find the nearest center of each row among its group's candidates."""
    half = np.einsum("ij,ij->i", centers, centers) / 2
    order = np.argsort(groups, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(candidates)))])
    result = np.empty(len(rows), dtype=np.int32)
    distances = np.empty(len(rows), dtype=rows.dtype)
    work = _NearestAmong(rows, centers, half, candidates, order, begin)
    filled = np.flatnonzero(np.diff(begin)).tolist()
    for group, found in zip(filled, map_blocks(work, filled, workers=workers), strict=True):
        members = order[begin[group] : begin[group + 1]]
        result[members], distances[members] = found
    return Assignment(labels=result, distances=distances)


@dataclass(frozen=True)
class _NearestAmong:
    """Finds the nearest center of each row of a group, and the distance to it, among the group's candidates."""

    rows: NDArray[Any]
    centers: NDArray[Any]
    half_norms: NDArray[Any]
    candidates: NDArray[np.int64]
    order: NDArray[np.int64]
    begin: NDArray[np.int64]

    def __call__(self, group: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        seen = self.candidates[group]
        near, near_half = self.centers[seen].T, self.half_norms[seen]
        members = self.order[self.begin[group] : self.begin[group + 1]]
        labels = np.empty(len(members), dtype=np.int64)
        distances = np.empty(len(members), dtype=self.rows.dtype)
        for block in row_blocks(len(members), size=BLOCK):
            part = self.rows.take(members[block], axis=0)
            score = part @ near
            score -= near_half
            best = score.argmax(axis=1)
            labels[block] = seen[best]
            norms = np.einsum("ij,ij->i", part, part)
            distances[block] = np.maximum(norms - 2.0 * score[np.arange(len(part)), best], 0.0)
        return labels, distances


def cluster_sums(
    rows: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    clusters: int,
    weights: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the rows (n, d) and the weights (n,) of each cluster in float64: sums (clusters, d) and mass (clusters,).

    Without weights each row counts once.
    """
    sums = np.zeros((clusters, rows.shape[1]))
    for block in row_blocks(len(rows), size=16 * BLOCK):
        order = np.argsort(labels[block], kind="stable")
        part = rows[block].take(order, axis=0)
        if weights is not None:
            part = part * weights[block][order, None].astype(part.dtype)
        named = labels[block][order]
        first = np.flatnonzero(np.append(True, named[1:] != named[:-1]))
        present = named[first]
        if 4 * len(present) > len(part):
            sums[present] += np.add.reduceat(part, first, axis=0, dtype=np.float64)
        else:
            # reduceat walks the columns row by row: a sum per cluster is ten times faster on long runs.
            ends = np.append(first[1:], len(part))
            for label, begin, end in zip(present.tolist(), first.tolist(), ends.tolist(), strict=True):
                sums[label] += part[begin:end].sum(axis=0, dtype=np.float64)
    return sums, np.bincount(labels, weights=weights, minlength=clusters).astype(np.float64)
