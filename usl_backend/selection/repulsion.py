"""Repulsion of each row from the picks of other clusters.

R_i = sum over picks j of 1 / d2(i, j)^alpha within a horizon (section 3.3 of Wang, Lian, Yu, ECCV 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["nearest-other", "nearest", "distance"]
BLOCK_CELLS = 2_000_000
"""Distances held at once per worker."""
EXACT_CELLS = 400_000_000
"""Rows times picks up to which every pair is looked at; above it a row looks at the picks near its cluster's."""
NEAR_PICKS = 256
"""Picks that it then looks at, or twice the horizon if that is more."""
DOMINANT = 1e5
"""A contribution from here on is never subtracted, as it would take the others' digits with it."""


@dataclass(frozen=True)
class Horizon:
    """The picks that repel a row.

    Attributes
    ----------
    kind
        "distance": all picks nearer than `distance` but not the own cluster's;
        "nearest": the `picks` nearest, a pick at distance 0 skipped;
        "nearest-other": the `picks` nearest, the own cluster's skipped.
    distance
        Squared distance, exclusive.
    picks
        Number of nearest picks, those skipped included.
    """

    kind: Kind
    distance: float = np.inf
    picks: int = 128


class Repulsion:
    """Repulsion under changing picks; terms that do not change between calls are kept.

    Parameters
    ----------
    rows : (n, d) float32 or float64
    labels : (n,) integers
        Cluster of each row.
    alpha
        Exponent on the squared distance.
    horizon
        The picks that repel.
    floor
        Smallest squared distance; 0 as in the official code.
    exact
        Compare every row with every pick whatever their number.
    workers
        Threads over blocks; no influence on the result.

    Notes
    -----
    By distance, a change of some picks subtracts the terms of the old ones and adds those of the new ones, in
    float64; rows that a removed pick dominated (more than 1e5) are summed anew. By number, every call is computed
    anew: above 4e8 pairs of row and pick, from the 256 picks nearest to the own cluster's pick unless `exact`.
    """

    def __init__(
        self,
        rows: NDArray[np.floating[Any]],
        *,
        labels: NDArray[np.integer[Any]],
        alpha: float,
        horizon: Horizon,
        floor: float = 0.0,
        exact: bool = False,
        workers: int = 1,
    ) -> None:
        self._rows, self._labels = rows, labels
        self._force = _Force(alpha, horizon, floor)
        self._horizon, self._exact, self._workers = horizon, exact, workers
        self._before: NDArray[np.int64] | None = None
        self._total: NDArray[np.float64] = np.zeros(0)

    def of(self, picks: NDArray[np.int64]) -> NDArray[Any]:
        """Sum 1 / d2^alpha over the picks within the horizon.

        `picks` (clusters,) is the row picked in each cluster, -1 where there is none. Returns (n,), in the dtype of the
        rows: non-negative; higher = more crowded by other picks = less wanted.
        """
        n = len(self._rows)
        if self._horizon.kind == "distance":
            return self._within(picks).astype(self._rows.dtype)
        present = np.flatnonzero(picks >= 0)
        near = max(NEAR_PICKS, 2 * self._horizon.picks)
        if self._exact or n * len(present) <= EXACT_CELLS or near >= len(present):
            return self._sum(np.arange(n), present, picks)
        return self._near(present, picks, near)

    def _within(self, picks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum by distance, updating the sums of the last call."""
        everyone = np.arange(len(self._rows))
        if self._before is None or 2 * np.count_nonzero(self._before != picks) > len(picks):
            # With most picks changed, subtracting costs more than starting over.
            self._total = self._sum(everyone, np.flatnonzero(picks >= 0), picks).astype(np.float64)
        else:
            changed = np.flatnonzero(self._before != picks)
            gone = self._sum(everyone, changed[self._before[changed] >= 0], self._before)
            self._total -= gone
            self._total += self._sum(everyone, changed[picks[changed] >= 0], picks)
            anew = np.flatnonzero(~(gone < DOMINANT))
            if len(anew):
                self._total[anew] = self._sum(anew, np.flatnonzero(picks >= 0), picks)
        self._before = picks.copy()
        return np.maximum(self._total, 0.0)

    def _near(self, present: NDArray[np.int64], picks: NDArray[np.int64], near: int) -> NDArray[Any]:
        """Sum by number, from the picks nearest to the pick of each cluster."""
        result = np.zeros(len(self._rows), dtype=self._rows.dtype)
        centers = self._rows[picks[present]]
        order = np.argsort(self._labels, kind="stable")
        sorted_labels = self._labels[order]
        for block in row_blocks(len(present), size=1024):
            apart = squared_distances(centers[block], centers)
            candidates = present[np.argpartition(apart, near - 1, axis=1)[:, :near]]
            for cluster, seen in zip(present[block].tolist(), candidates, strict=True):
                begin, end = np.searchsorted(sorted_labels, [cluster, cluster + 1])
                members = order[begin:end]
                result[members] = self._sum(members, np.sort(seen), picks)
        return result

    def _sum(
        self, targets: NDArray[np.int64], clusters: NDArray[np.int64], picks: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Sum over the picks of some clusters for some rows, comparing every pair."""
        result = np.zeros(len(targets), dtype=self._rows.dtype)
        if not len(clusters):
            return result
        whole = len(targets) == len(self._rows)
        work = _Sum(
            self._rows, None if whole else targets, self._labels if whole else self._labels[targets],
            self._rows[picks[clusters]], clusters, self._force,
        )  # fmt: skip
        blocks = row_blocks(len(targets), size=max(1, BLOCK_CELLS // len(clusters)))
        for block, summed in zip(blocks, map_blocks(work, blocks, workers=self._workers), strict=True):
            result[block] = summed
        return result


@dataclass(frozen=True)
class _Sum:
    """Sums the forces on each target of a block; without targets every row is one."""

    rows: NDArray[Any]
    targets: NDArray[np.int64] | None
    labels: NDArray[np.integer[Any]]
    centers: NDArray[Any]
    clusters: NDArray[np.int64]
    force: _Force

    def __call__(self, block: slice) -> NDArray[Any]:
        rows = self.rows[block] if self.targets is None else self.rows[self.targets[block]]
        return self.force.of(squared_distances(rows, self.centers), self.labels[block], self.clusters)


@dataclass(frozen=True)
class _Force:
    """Force of a pick on a row as a function of their squared distance."""

    alpha: float
    horizon: Horizon
    floor: float

    def of(
        self, distances: NDArray[Any], labels: NDArray[np.integer[Any]], clusters: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Sum the forces on one block of rows; the squared distances are overwritten."""
        horizon = self.horizon
        if horizon.kind == "distance":
            skipped = distances >= horizon.distance
        elif horizon.kind == "nearest":
            skipped = distances <= 0.0
        else:
            skipped = np.zeros(distances.shape, dtype=bool)
        if horizon.kind != "nearest":
            # Own cluster's pick: `clusters` ascends.
            place = np.minimum(np.searchsorted(clusters, labels), len(clusters) - 1)
            mine = np.flatnonzero(clusters[place] == labels)
            skipped[mine, place[mine]] = True
        if horizon.kind != "distance" and horizon.picks < len(clusters):
            near = np.argpartition(distances, horizon.picks - 1, axis=1)[:, : horizon.picks]
            distances = np.take_along_axis(distances, near, axis=1)
            skipped = np.take_along_axis(skipped, near, axis=1)
        if self.floor > 0.0:
            np.maximum(distances, self.floor, out=distances)
        with np.errstate(divide="ignore"):
            force = 1.0 / (np.sqrt(distances) if self.alpha == 0.5 else distances**self.alpha)
        force[skipped] = 0.0
        return np.asarray(force.sum(axis=1))
