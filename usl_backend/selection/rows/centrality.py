"""Rows averaged with their neighbors, and the distance of a row to its cluster's mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.assignment import cluster_sums
from usl_backend.selection.rows.threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray


def smooth(rows: NDArray[Any], indices: NDArray[np.int32], *, workers: int = 1) -> NDArray[Any]:
    """Average each row (n, d) with its neighbors and bring the sum to unit length: one step of a mean shift.

    The row itself counts once, whether `indices` (n, k) has it or not; a sum of zero stays zero. `workers` are threads
    over blocks, without influence on the result.
    """
    result = np.empty_like(rows)
    blocks = row_blocks(len(rows), size=512)
    for block, found in zip(
        blocks, map_blocks(_Average(rows, indices), blocks, workers=workers), strict=True
    ):
        result[block] = found
    return result


@dataclass(frozen=True)
class _Average:
    """Adds each row of a block and its neighbors, and brings the sum to unit length."""

    rows: NDArray[Any]
    indices: NDArray[np.int32]

    def __call__(self, block: slice) -> NDArray[Any]:
        near = self.indices[block]
        total: NDArray[Any] = self.rows[near].sum(axis=1)
        absent = ~(near == np.arange(block.start, block.stop)[:, None]).any(axis=1)
        total[absent] += self.rows[block][absent]
        length = np.sqrt(np.einsum("ij,ij->i", total, total))
        total /= np.where(length > 1e-12, length, 1.0)[:, None]
        return total


def distance_to_mean(rows: NDArray[Any], labels: NDArray[np.int32], *, clusters: int) -> NDArray[Any]:
    """Return the squared distance (n,) of each row to the mean of its cluster's rows."""
    sums, mass = cluster_sums(rows, labels, clusters=clusters)
    means = (sums / np.maximum(mass, 1.0)[:, None]).astype(rows.dtype)
    result = np.empty(len(rows), dtype=rows.dtype)
    for block in row_blocks(len(rows), size=4096):
        difference = rows[block] - means[labels[block]]
        result[block] = np.einsum("ij,ij->i", difference, difference)
    return result
