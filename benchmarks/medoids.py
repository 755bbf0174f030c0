"""Swaps of a pick for another row where the squared distances of all rows to their nearest pick become less in sum.

Not worth it for the picks of USL (docs/benchmarks.md), so no part of the product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import row_blocks

PASSES = 3
"""Times every row is tried as a pick, at most."""
CELLS = 4_000_000
"""Distances held at once."""
LEAST = 1e-6
"""Share of the sum that a swap must save: less is rounding."""


def swap_medoids(rows: NDArray[np.float32], picks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Swap picks (m,), at least 2, for better rows, one after the other; each swap keeps the place of its pick.

    The eager swaps of FasterPAM (Schubert and Rousseeuw, Information Systems 101, 2021) with squared distances, which
    are computed in blocks instead of held for all pairs.
    """
    state = _State(rows, picks.copy())
    still = 0
    for _ in range(PASSES):
        for block in row_blocks(len(rows), size=max(1, CELLS // len(rows))):
            still = 0 if state.tried(block) else still + block.stop - block.start
            if still >= len(rows):
                return state.picks
    return state.picks


class _State:
    """Picks, and each row's nearest and second nearest of them."""

    def __init__(self, rows: NDArray[np.float32], picks: NDArray[np.int64]) -> None:
        self.rows, self.picks = rows, picks
        n = len(rows)
        self.nearest, self.second = np.empty(n, np.int64), np.empty(n, np.int64)
        self.first, self.next = np.empty(n), np.empty(n)
        self.look(np.arange(n))

    def look(self, some: NDArray[np.int64]) -> None:
        """Find the two nearest picks of some rows."""
        for part in row_blocks(len(some), size=max(1, CELLS // len(self.picks))):
            chosen = some[part]
            apart = squared_distances(self.rows[chosen], self.rows[self.picks]).astype(np.float64)
            two = np.argsort(apart, axis=1, kind="stable")[:, :2]
            self.nearest[chosen], self.second[chosen] = two.T
            self.first[chosen], self.next[chosen] = np.take_along_axis(apart, two, axis=1).T

    def tried(self, block: slice) -> int:
        """Try each row of a block as a pick; return the swaps made."""
        apart = squared_distances(self.rows[block], self.rows).astype(np.float64)
        taken = set(self.picks.tolist())
        limit = LEAST * float(self.first.sum())
        swaps = 0
        for row, distances in enumerate(apart, start=block.start):
            change, place = self.best(distances)
            if change < -limit and row not in taken:
                taken = taken - {int(self.picks[place])} | {row}
                self.swap(place, row, distances)
                swaps += 1
        return swaps

    def best(self, distances: NDArray[np.float64]) -> tuple[float, int]:
        """Return the change of the sum where a row at these distances replaces a pick, and the best pick for it."""
        shared = float(np.minimum(distances - self.first, 0.0).sum())
        # A row of the pick that goes falls to the candidate or to its second pick, whichever is nearer.
        falls = np.minimum(np.maximum(distances, self.first), self.next) - self.first
        change = np.bincount(self.nearest, weights=falls, minlength=len(self.picks))
        place = int(change.argmin())
        return shared + float(change[place]), place

    def swap(self, place: int, row: int, distances: NDArray[np.float64]) -> None:
        """Put a row in the place of a pick."""
        self.picks[place] = row
        lost = (self.nearest == place) | (self.second == place)
        nearer = ~lost & (distances < self.first)
        between = ~lost & ~nearer & (distances < self.next)
        self.second[nearer], self.next[nearer] = self.nearest[nearer], self.first[nearer]
        self.nearest[nearer], self.first[nearer] = place, distances[nearer]
        self.second[between], self.next[between] = place, distances[between]
        self.look(np.flatnonzero(lost))
