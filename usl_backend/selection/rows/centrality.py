"""Rows averaged with their neighbors, and the distance of a row to its cluster's mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.assignment import cluster_sums
from usl_backend.selection.rows.threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

GATHERED_ROWS = 1280
"""Neighbors whose rows are gathered at once."""


def smooth(rows: NDArray[Any], indices: NDArray[np.int32], *, workers: int = 1) -> NDArray[Any]:
    """Average each row (n, d) with its neighbors and bring the sum to unit length: one step of a mean shift.

    The row itself counts once, whether `indices` (n, k) has it or not; a sum of zero stays zero. `workers` are threads
    over blocks, without influence on the result.
    """
    return Smoothed(rows, indices, workers=workers).take(slice(0, len(rows)))


@dataclass(frozen=True)
class Smoothed:
    """Rows averaged with their neighbors as `smooth` does it, computed where they are asked for.

    Attributes
    ----------
    rows : (n, d) float
        Rows as they are.
    indices : (n, k) int32
        Neighbors of each.
    places : (n,) int32 or None
        Numbers that sort rows so that those near each other stand together: in that order they are computed, because
        the rows of neighbors are then in the cache.
    workers
        Threads over blocks, without influence on the result.
    """

    rows: NDArray[Any]
    indices: NDArray[np.int32]
    places: NDArray[np.int32] | None = None
    workers: int = 1

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def take(self, chosen: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Compute some of the smoothed rows: a slice with its ends, or the rows named."""
        named = np.arange(chosen.start, chosen.stop) if isinstance(chosen, slice) else chosen
        result = np.empty((len(named), self.rows.shape[1]), dtype=self.rows.dtype)
        order = np.arange(len(named)) if self.places is None else np.argsort(self.places[chosen])
        blocks = row_blocks(len(named), size=1024)
        work = _Average(self.rows, self.indices, named[order])
        for block, found in zip(blocks, map_blocks(work, blocks, workers=self.workers), strict=True):
            result[order[block]] = found
        return result


def taken(rows: NDArray[Any] | Smoothed, chosen: slice | NDArray[np.int64]) -> NDArray[Any]:
    """Take some rows (a slice with its ends, or the rows named), smoothed first where they shall be."""
    return rows.take(chosen) if isinstance(rows, Smoothed) else rows[chosen]


@dataclass(frozen=True)
class _Average:
    """Adds each row of a block and its neighbors, and brings the sum to unit length."""

    rows: NDArray[Any]
    indices: NDArray[np.int32]
    targets: NDArray[np.int64]

    def __call__(self, block: slice) -> NDArray[Any]:
        targets = self.targets[block]
        near = self.indices.take(targets, axis=0)
        total = np.empty((len(targets), self.rows.shape[1]), dtype=self.rows.dtype)
        ones = np.ones((1, near.shape[1]), dtype=self.rows.dtype)
        # A few targets at a time: what is gathered for them stays in the cache.
        for some in row_blocks(len(targets), size=max(1, GATHERED_ROWS // near.shape[1])):
            gathered = self.rows.take(near[some], axis=0)
            np.matmul(ones, gathered, out=total[some, None])
        own = self.rows.take(targets, axis=0)
        # A row that is among its neighbors counts once.
        own[np.flatnonzero(near == targets[:, None]) // near.shape[1]] = 0.0
        total += own
        length = np.sqrt(np.einsum("ij,ij->i", total, total))
        total /= np.where(length > 1e-12, length, 1.0)[:, None]
        return total


def cluster_means(
    rows: NDArray[Any], labels: NDArray[np.int32], *, clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the mean of each cluster's rows and their number: (clusters, d) and (clusters,); zeros and 1 without."""
    sums, mass = cluster_sums(rows, labels, clusters=clusters)
    mass = np.maximum(mass, 1.0)
    return sums / mass[:, None], mass


def distance_to_mean(
    rows: NDArray[Any], labels: NDArray[np.int32], *, means: NDArray[np.float64]
) -> NDArray[Any]:
    """Return the squared distance (n,) of each row to its cluster's mean."""
    means = means.astype(rows.dtype)
    result = np.empty(len(rows), dtype=rows.dtype)
    for block in row_blocks(len(rows), size=4096):
        difference = rows[block] - means[labels[block]]
        result[block] = np.einsum("ij,ij->i", difference, difference)
    return result
