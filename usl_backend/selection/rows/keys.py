"""Distances and rows in one number each, so that neighbors are ranked by one sort: nearest first, ties by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


def distance_keys(distances: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Join squared distances and rows to numbers above 2^32 that sort by distance, then by row; -inf is 0."""
    # The bits of floats from +0 on ascend with them.
    keys: NDArray[np.uint64] = np.abs(np.maximum(distances, 0.0)).view(np.uint32).astype(np.uint64)
    keys += np.uint64(1)
    keys <<= np.uint64(32)
    keys |= rows.view(np.uint32)
    keys[distances == -np.inf] = 0
    return keys


def of_keys(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Take keys above 2^32 apart: rows, and squared distances from +0 on."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    bits -= np.uint32(1)
    return keys.astype(np.uint32).view(np.int32), bits.view(np.float32)


def rowwise(
    keys: NDArray[np.uint64], row: NDArray[np.integer[Any]], column: NDArray[np.integer[Any]], *, count: int
) -> NDArray[np.uint64]:
    """Put keys into a table of `count` rows and sort each row: (count, widest), filled up with the largest number.

    No two keys have the same `row` and `column`; which column one has does not matter then.
    """
    table = np.full((count, int(column.max(initial=-1)) + 1), np.iinfo(np.uint64).max)
    table[row, column] = keys
    table.sort(axis=1)
    return table
