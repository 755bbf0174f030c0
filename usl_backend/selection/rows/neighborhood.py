"""Neighbors among rows without copies: near-duplicates are found by, and left out of, one neighbor search.

A row's own copies must not count as its neighbors, or copies would look dense.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from usl_backend.selection.base import Neighbors
from usl_backend.selection.rows.cells import candidates_wanted
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.duplicates import Groups, alone, merge, near_rows, same_rows
from usl_backend.selection.rows.neighbors import nearest_neighbors, nearest_of_some
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress

MOST_NEIGHBORS = 20
"""Neighbors that are looked at where the number is left to `neighbor_count`, at most."""
FEWEST_NEIGHBORS = 2
"""The same, at least."""
SPARE = 8
"""Neighbors searched beyond k, to fill the places of near-duplicates."""
MOVED_ROWS = 16_384
"""Rows moved at once."""
PASSES = 5
"""Times groups are looked for: a large group needs more than one, as k neighbors cannot show all of it."""


@dataclass(frozen=True)
class Neighborhood:
    """Groups of near-duplicates and the neighbors among their leaders.

    Attributes
    ----------
    groups
        A group per leader; every row leads itself when copies are not looked for.
    leaders : (g, d) float
        The leaders' rows.
    neighbors
        Rows are positions in `groups.leaders`; None for a single leader that must not count itself.
    """

    groups: Groups
    leaders: NDArray[Any]
    neighbors: Neighbors | None


def searched(neighbors: int | Literal["auto"]) -> int:
    """Return the neighbors to search per row, whatever the budget: a search outlives the selection."""
    return MOST_NEIGHBORS if neighbors == "auto" else neighbors


def neighbor_count(neighbors: int | Literal["auto"], *, rows: int, clusters: int) -> int:
    """Return the number of nearest neighbors to look at: "auto" = half the mean size of a cluster, 2 to 20.

    More reach over the border of small clusters, and whole clusters collapse into one place.
    """
    if neighbors != "auto":
        return neighbors
    return min(MOST_NEIGHBORS, max(FEWEST_NEIGHBORS, round(rows / (2 * clusters))))


def neighborhood(
    rows: NDArray[np.floating[Any]],
    *,
    k: int,
    radius: float,
    enough: int,
    include_self: bool = False,
    held: NDArray[np.int64],
    given: Neighbors | None = None,
    exact: bool | None = None,
    reuse: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Neighborhood:
    """Collapse near-duplicates and find the k nearest leaders of every leader.

    Parameters
    ----------
    rows : (n, d) float32 or float64, C-contiguous
    k
        Neighbors per row, cut to what is there.
    radius
        Squared distance up to which rows are one thing seen twice; 0 = equal rows only, below 0 = never.
    enough
        Leaders that must remain; groups that would leave fewer are not made.
    include_self
        Count a row among its own neighbors.
    held : (l,) int64
        Labeled rows: each leads itself.
    given
        A search over all rows made before, used when it has enough columns.
    reuse
        Write the leaders into `rows`, which is then of no more use: half the memory where there are copies.
    exact, workers, progress
        As for `nearest_neighbors`.

    Returns
    -------
    Neighborhood
    """
    n = len(rows)
    groups = same_rows(rows, preferred=held) if radius >= 0 else alone(n)
    if len(groups.leaders) < enough:
        return Neighborhood(alone(n), rows, _search(rows, k, include_self, given, exact, workers, progress))
    leaders = _part(rows, groups.leaders, reuse=reuse)
    wide = k + SPARE if radius > 0 else k
    if given is not None and given.indices.shape[1] >= k:
        wide = min(wide, given.indices.shape[1])
    near = _search(
        leaders, wide, include_self, given if len(leaders) == n else None, exact, workers, progress
    )
    if radius <= 0 or near is None:
        return Neighborhood(groups, leaders, near)
    for _ in range(PASSES):
        found = near_rows(
            near.indices, near.distances, radius=radius, rank=density(near.distances[:, :k], floor=1e-3),
            preferred=groups.member_of[held],
        )  # fmt: skip
        if len(found.leaders) == len(leaders) or len(found.leaders) < enough:
            break
        # Leaders that are not the rows given are ours to write into.
        leaders = _part(leaders, found.leaders, reuse=reuse or leaders is not rows)
        near = _without_copies(near, found, leaders, k, include_self, exact, workers)
        groups = merge(groups, found)
        if near is None:
            return Neighborhood(groups, leaders, None)
    exact, places = near.exact, near.places
    indices, distances = near.indices, near.distances
    del near
    # One table after the other, because both of them twice may be more than the rows.
    indices = _first_columns(indices, k)
    distances = _first_columns(distances, k)
    return Neighborhood(groups, leaders, Neighbors(indices, distances, exact, places))


def _part(rows: NDArray[Any], chosen: NDArray[np.int64], *, reuse: bool) -> NDArray[Any]:
    """Take the chosen rows (ascending): all as they are, else a copy, or moved to the front of their own array."""
    if len(chosen) == len(rows):
        return rows
    if not reuse:
        return rows[chosen]
    for block in row_blocks(len(chosen), size=MOVED_ROWS):
        rows[block] = rows[chosen[block]]
    return rows[: len(chosen)]


def _search(
    rows: NDArray[Any], k: int, include_self: bool, given: Neighbors | None, exact: bool | None, workers: int,
    progress: Progress | None,
) -> Neighbors | None:  # fmt: skip
    """Return the neighbors given where they fit, or search; None where a single row has none."""
    available = len(rows) if include_self else len(rows) - 1
    if available < 1:
        return None
    k = min(k, available)
    if given is not None and given.indices.shape[0] == len(rows) and given.indices.shape[1] >= k:
        return cut(given, k)
    return nearest_neighbors(
        rows, k=k, include_self=include_self, exact=exact, workers=workers, progress=progress
    )


def cut(near: Neighbors, k: int) -> Neighbors:
    """Copy the first k columns, so that the wider table can be freed."""
    return replace(near, indices=_first_columns(near.indices, k), distances=_first_columns(near.distances, k))


def _first_columns(table: NDArray[Any], k: int) -> NDArray[Any]:
    """Copy the first k columns, unless there are no more."""
    return table if table.shape[1] <= k else table[:, :k].copy()


def _without_copies(
    near: Neighbors, found: Groups, leaders: NDArray[Any], k: int, include_self: bool, exact: bool | None,
    workers: int,
) -> Neighbors | None:  # fmt: skip
    """Leave the rows that leaders lead out of their neighbors; search again where too few are left."""
    k = min(k, len(leaders) if include_self else len(leaders) - 1)
    if k < 1:
        return None
    place = np.full(len(near.indices), -1, dtype=np.int32)
    place[found.leaders] = np.arange(len(found.leaders), dtype=np.int32)
    left = np.empty(len(leaders), dtype=np.int64)
    for block in row_blocks(len(leaders), size=MOVED_ROWS):
        left[block] = (place[near.indices[found.leaders[block]]] >= 0).sum(axis=1)
    short = np.flatnonzero(left < k)
    if not near.exact and len(short) > candidates_wanted(k, rows=len(leaders)):
        # Comparing these with all rows would take longer than cells do for everybody.
        return nearest_neighbors(leaders, k=k, include_self=include_self, exact=exact, workers=workers)
    wide = k if len(short) else int(left.min())
    indices = np.empty((len(leaders), wide), dtype=np.int32)
    distances = np.empty((len(leaders), wide), dtype=near.distances.dtype)
    for block in row_blocks(len(leaders), size=MOVED_ROWS):
        kept = place[near.indices[found.leaders[block]]]
        # Kept columns first, in their old order.
        order = np.argsort(kept < 0, axis=1, kind="stable")[:, :wide]
        indices[block] = np.take_along_axis(kept, order, axis=1)
        distances[block] = np.take_along_axis(near.distances[found.leaders[block]], order, axis=1)
    if len(short):
        again = nearest_of_some(leaders, short, k=k, include_self=include_self, workers=workers)
        indices[short], distances[short] = again.indices, again.distances
    # Places of some of the rows sort them as well.
    return Neighbors(
        indices, distances, near.exact, None if near.places is None else near.places[found.leaders]
    )
