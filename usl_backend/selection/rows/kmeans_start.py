"""Starts of k-means: greedy k-means++ on part of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.preparation import squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED_CANDIDATES = 6
"""Rows tried per step of greedy k-means++."""
LOCAL_CLUSTERS, FEW_ROWS_LOCAL_CLUSTERS = 256, 1000
"""From this many clusters on, starts are chosen cell by cell; the second where there are at most 5,000 rows."""


def greedy_start(
    rows: NDArray[np.floating[Any]],
    *,
    clusters: int,
    rng: np.random.Generator,
    weights: NDArray[np.floating[Any]] | None = None,
    fixed: NDArray[np.floating[Any]] | None = None,
    candidates: int = SEED_CANDIDATES,
) -> NDArray[np.int64]:
    """Choose starting rows by greedy k-means++ (Arthur and Vassilvitskii 2007, the variant of their section 4).

    Each step draws `candidates` rows with probability proportional to weight x squared distance to the nearest
    center so far, and keeps the one that lowers the sum of those most. The draw is a race: each row gets an
    exponential time divided by its weight, and the first ones win. So rows that change by a hair, as float16 on disk
    makes them, draw the same candidates, which a draw along the cumulated weights would not.

    Returns (clusters,) distinct rows in the order chosen; `fixed` (l, d) are centers that are there already.
    """
    n = len(rows)
    mass = np.ones(n) if weights is None else weights.astype(np.float64)
    chosen = np.empty(clusters, dtype=np.int64)
    taken = np.zeros(n, dtype=bool)
    norms = np.einsum("ij,ij->i", rows, rows)
    if fixed is not None and len(fixed):
        nearest = _nearest_distance(rows, fixed.astype(rows.dtype))
        begin = 0
    else:
        first = int((rng.standard_exponential(n) / mass).argmin())
        chosen[0], taken[first] = first, True
        nearest = squared_distances(rows[first : first + 1], rows)[0]
        begin = 1
    for step in range(begin, clusters):
        weight = nearest * mass
        if weight.max() <= 0.0:
            # Only copies of chosen rows are left: any of them will do.
            chosen[step:] = rng.permutation(np.flatnonzero(~taken))[: clusters - step]
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            race = rng.standard_exponential(n, dtype=np.float32) / weight
        drawn = np.argpartition(race, min(candidates, n) - 1)[:candidates]
        drawn = np.sort(drawn[race[drawn] < np.inf])
        tried = rows[drawn] @ rows.T
        tried *= -2.0
        tried += norms
        tried += norms[drawn, None]
        np.minimum(tried, nearest, out=tried)
        best = int((tried @ mass.astype(tried.dtype)).argmin())
        nearest = np.maximum(tried[best], 0.0)
        nearest[drawn[best]] = 0.0
        chosen[step] = drawn[best]
        taken[drawn[best]] = True
    return chosen


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
    chosen = []
    for cell in np.flatnonzero(quota):
        members = order[begin[cell] : begin[cell + 1]]
        part = None if weights is None else weights[members]
        found = greedy_start(rows[members], clusters=int(quota[cell]), rng=rng, weights=part)
        chosen.append(members[found])
    return np.concatenate(chosen)


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
