"""The rows nearest to others by comparing every pair, in float32, by matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.smallest import ROWS_PER_PLACE, below, smallest
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPARED_ROWS = 8192
"""Rows that are compared at once, or more where many are wanted."""
PRODUCTS = 512 * COMPARED_ROWS
"""Products held at once, so that they stay in the cache."""


def nearest_rows(targets: NDArray[np.float32], rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Find the k nearest `rows` (n, d) of each target (t, d), in no particular order: (t, k), k at most n.

    Half the squared distance less half the target's own norm is what they are compared by: the same order, one pass
    less. Rows that tie for the last place, or nearly do, are any of these.
    """
    width = max(COMPARED_ROWS, ROWS_PER_PLACE * k)
    half = np.einsum("ij,ij->i", rows, rows) / 2
    result = np.empty((len(targets), k), dtype=np.int64)
    for some in row_blocks(len(targets), size=max(16, PRODUCTS // width)):
        part = targets[some]
        columns: NDArray[Any] = np.empty((len(part), 0), dtype=np.int64)
        values: NDArray[Any] = np.empty((len(part), 0), dtype=rows.dtype)
        for block in row_blocks(len(rows), size=width):
            score = part @ rows[block].T
            np.subtract(half[block], score, out=score)
            if values.shape[1] < k:
                found, value = smallest(score, min(k, score.shape[1]))
            else:
                found, value = below(score, values.max(axis=1))
            columns = np.concatenate([columns, found + block.start], axis=1)
            values = np.concatenate([values, value], axis=1)
            if values.shape[1] > k:
                best, values = smallest(values, k)
                columns = np.take_along_axis(columns, best, axis=1)
        result[some] = columns
    return result
