"""Starts of k-means: greedy k-means++ on part of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.smallest import smallest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED_CANDIDATES = 6
"""Rows tried per step of greedy k-means++."""
LOCAL_CLUSTERS, FEW_ROWS_LOCAL_CLUSTERS = 256, 1000
"""From this many clusters on, starts are chosen cell by cell; the second where there are at most 5,000 rows."""


def greedy_starts(
    rows: NDArray[np.floating[Any]],
    *,
    clusters: int,
    rng: np.random.Generator,
    starts: int = 1,
    weights: NDArray[np.floating[Any]] | None = None,
    fixed: NDArray[np.floating[Any]] | None = None,
    candidates: int = SEED_CANDIDATES,
) -> NDArray[np.int64]:
    """Choose starting rows by greedy k-means++ (Arthur and Vassilvitskii 2007, the variant of their section 4).

    Each step draws `candidates` rows with probability proportional to weight x squared distance to the nearest
    center so far, and keeps the one that lowers the sum of those most. The draw is a race: each row gets an
    exponential time divided by its weight, and the first ones win. So rows that change by a hair, as float16 on disk
    makes them, draw the same candidates, which a draw along the cumulated weights would not.

    Returns (starts, clusters): distinct rows in the order chosen, for each of several starts, whose steps are computed
    together; `fixed` (l, d) are centers that are there already.
    """
    races = _Races(rows, weights, starts=starts, candidates=candidates, fixed=fixed)
    doubled = races.nearest is None

    def times(step: int) -> NDArray[Any]:
        return _times(rng, len(rows), first=doubled and step == 0)

    if starts == 1:
        # A step's times are drawn when it comes: those of all steps may be more than the memory holds.
        steps = (times(step)[None] for step in range(clusters))
    else:
        each = [[times(step) for step in range(clusters)] for _ in range(starts)]
        steps = (np.stack(drawn) for drawn in zip(*each, strict=True))
    return np.stack([races.winners(drawn) for drawn in steps], axis=1)


class _Races:
    """Greedy k-means++ on some rows, one center after the other, from several starts at once."""

    def __init__(
        self,
        rows: NDArray[Any],
        weights: NDArray[Any] | None,
        *,
        starts: int = 1,
        candidates: int = SEED_CANDIDATES,
        fixed: NDArray[Any] | None = None,
    ) -> None:
        self.rows, self.candidates = rows, min(candidates, len(rows))
        self.mass = np.ones(len(rows)) if weights is None else weights.astype(np.float64)
        self.summed = self.mass.astype(rows.dtype)
        self.norms = np.einsum("ij,ij->i", rows, rows)
        self.taken = np.zeros((starts, len(rows)), dtype=bool)
        self.each = np.arange(starts)
        self.nearest: NDArray[Any] | None = None
        if fixed is not None and len(fixed):
            self.nearest = np.tile(_nearest_distance(rows, fixed.astype(rows.dtype)), (starts, 1))

    def winners(self, times: NDArray[Any]) -> NDArray[np.int64]:
        """Choose the next row of each start (starts,) by the exponential times (starts, n) drawn for the rows."""
        if self.nearest is None:
            chosen: NDArray[np.int64] = (times / self.mass).argmin(axis=1)
            self.nearest = squared_distances(self.rows[chosen], self.rows)
        else:
            chosen, self.nearest = self._next(self.nearest, times)
        self.taken[self.each, chosen] = True
        return chosen

    def _next(self, nearest: NDArray[Any], times: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Choose one more row of each start; return them and the squared distances to the nearest row chosen then."""
        weight = nearest * self.mass
        with np.errstate(divide="ignore", invalid="ignore"):
            race = times / weight
        drawn, _ = smallest(race, self.candidates)
        drawn.sort(axis=1)
        named = drawn.ravel()
        tried = (self.rows[named] * self.rows.dtype.type(-2)) @ self.rows.T
        tried += self.norms
        tried += self.norms[named, None]
        tried = tried.reshape(*drawn.shape, -1)
        np.minimum(tried, nearest[:, None], out=tried)
        # A row without weight, drawn where fewer have one than are drawn, lowers nothing.
        best = (tried @ self.summed).argmin(axis=1)
        chosen = drawn[self.each, best]
        following = np.maximum(tried[self.each, best], 0.0)
        following[self.each, chosen] = 0.0
        over = np.flatnonzero(weight.max(axis=1) <= 0.0)
        if len(over):
            # Only copies of chosen rows are left: any of them will do.
            chosen[over] = np.where(self.taken[over], np.inf, times[over]).argmin(axis=1)
            following[over] = nearest[over]
        return chosen, following


def _times(rng: np.random.Generator, n: int, *, first: bool) -> NDArray[Any]:
    """Draw an exponential time for each of n rows; the first in double precision, or small pools would change picks."""
    return rng.standard_exponential(n, dtype=np.float64 if first else np.float32)


def local_start(
    rows: NDArray[np.floating[Any]],
    *,
    cells: NDArray[np.integer[Any]],
    distances: NDArray[np.floating[Any]],
    clusters: int,
    rng: np.random.Generator,
    weights: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.int64]:
    """Choose starting rows by greedy k-means++ inside each cell, for budgets where one long run is too slow.

    `cells` (n,) is the cell of each row, `distances` (n,) its squared distance to the cell's center. Returns
    (clusters,) distinct rows. A cell gets a share between those of its mass and of its scatter: in d dimensions the
    best density of centers grows slower than that of rows, in one dimension with its cube root.
    """
    mass = np.ones(len(rows)) if weights is None else weights
    count = int(cells.max()) + 1
    sizes = np.bincount(cells, minlength=count)
    share = np.sqrt(
        np.bincount(cells, weights=mass, minlength=count)
        * np.bincount(cells, weights=mass * distances, minlength=count)
    )
    share = np.where(sizes > 0, np.maximum(share, 1e-12), 0.0)
    quota = _apportion(share, sizes, clusters)
    order = np.argsort(cells, kind="stable")
    begin = np.concatenate([[0], np.cumsum(sizes)])
    members = {int(cell): order[begin[cell] : begin[cell + 1]] for cell in np.flatnonzero(quota)}
    races = {
        cell: _Races(rows[own], None if weights is None else weights[own]) for cell, own in members.items()
    }
    chosen: list[int] = []
    # Every row draws a time in every step, whatever its cell: one that rounding moves to another cell changes no other
    # row's times.
    for step in range(int(quota.max())):
        times = _times(rng, len(rows), first=step == 0)
        chosen.extend(
            members[cell][races[cell].winners(times[None, members[cell]])[0]]
            for cell in np.flatnonzero(quota > step).tolist()
        )
    return np.array(chosen, dtype=np.int64)


def _apportion(share: NDArray[np.float64], limit: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Split `total` into whole numbers in proportion to `share`, at most `limit` each."""
    quota = np.zeros(len(share), dtype=np.int64)
    while (left := total - int(quota.sum())) > 0:
        open_share = np.where(quota < limit, share, 0.0)
        wish = open_share / open_share.sum() * left
        grant = np.minimum(np.floor(wish).astype(np.int64), limit - quota)
        if grant.sum() == 0:
            best = np.argsort(-(wish - np.floor(wish)), kind="stable")
            best = best[(quota < limit)[best]][:left]
            grant[best] = 1
        quota += grant
    return quota


def _nearest_distance(rows: NDArray[Any], centers: NDArray[Any]) -> NDArray[Any]:
    """Return the squared distance of each row to its nearest center."""
    nearest = np.full(len(rows), np.inf, dtype=rows.dtype)
    for begin in range(0, len(rows), 4096):
        block = slice(begin, begin + 4096)
        nearest[block] = squared_distances(rows[block], centers).min(axis=1)
    return nearest
