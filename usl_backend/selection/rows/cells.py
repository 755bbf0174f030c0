"""Rows in small cells, of which every row looks only into those nearest to it: neighbors of large pools.

An inverted file as faiss's IndexIVFFlat, with the cells that each row itself probes. Rows that lie near each other are
searched for together, so that most of the work is matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.assignment import assign_coarse
from usl_backend.selection.rows.keys import distance_keys, of_keys, rowwise
from usl_backend.selection.rows.kmeans import quick_centers
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.smallest import group_minima, smallest
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Found = tuple[NDArray[np.int32], NDArray[np.float32]]

CELL_ROWS = 128
"""Most rows of a cell."""
FEWEST_ROWS = 16
"""Fewest rows of a cell: a row that looked into a few tiny ones would find too few neighbors."""
CENTER_ROWS = 300
"""Rows per center of the k-means whose clusters are cut into cells: cutting is cheaper than more centers."""
PER_NEIGHBOR, LEAST_CANDIDATES = 32, 768
"""Rows that each row is compared with: so many per neighbor, at least and at most so many in all."""
LARGE_ROWS, LARGE_PER_NEIGHBOR, LARGE_LEAST_CANDIDATES = 100_000, 24, 640
"""Above so many rows fewer, because more of them cost as much time as finding the cells."""
MOST_CANDIDATES = 8192
GROUP = 8
"""Rows of a cell of which only the nearest is looked at first: most neighbors are in few cells."""
SEARCHED_ROWS = 1024
"""Rows searched for at once, at most."""
SCORES = 1_310_720
"""Products held at once, unless a single cell's rows need more."""
BLOCK_CELLS = 8
"""Cells searched for at once, on average."""
ORDERED_BYTES = 2**26
"""Size of the rows up to which a copy of them is made cell by cell."""
NEAR_CELLS = 9
"""Cells that the rows searched for at once choose from, for each that a row looks into."""
SAME = 1e-6
"""Relative difference of numbers in float32 that are the same but for rounding."""
DIRECTION_STEPS = 2
"""Power iterations towards the direction that a cluster is cut across."""


def candidates_wanted(k: int, *, rows: int) -> int:
    """Number of rows that each row of a pool of so many `rows` is compared with."""
    if rows > LARGE_ROWS:
        return min(max(LARGE_PER_NEIGHBOR * k, LARGE_LEAST_CANDIDATES), MOST_CANDIDATES)
    return min(max(PER_NEIGHBOR * k, LEAST_CANDIDATES), MOST_CANDIDATES)


@dataclass(frozen=True)
class Cells:
    """Finds the neighbors of the rows of a block of cells.

    Attributes
    ----------
    rows : (n, d) float32
        The pool.
    half_norms : (n,) float32
        Half the squared length of each row.
    common
        What all of `half_norms` are but for rounding, as rows of unit length have it; 0 where they differ.
    order : (n,) int32
        Rows cell by cell.
    ordered : (n, d) float32 or None
        Copy of the rows in this order, where it is small: rows of a cell need not be gathered then.
    begin : (c + 1,) int64
        Places in `order` where the cells begin.
    centers : (c, d) float32
        Means of the cells.
    ends : (b + 1,) int64
        Cells where the blocks begin.
    near : (b, w) uint16 or longer
        Cells that the rows of each block choose from, ascending; its own are among them.
    probes
        Cells that a row looks into.
    k
        Neighbors wanted, without the row itself.
    """

    rows: NDArray[Any]
    half_norms: NDArray[Any]
    common: float
    order: NDArray[np.int32]
    ordered: NDArray[Any] | None
    begin: NDArray[np.int64]
    centers: NDArray[Any]
    ends: NDArray[np.int64]
    near: NDArray[np.unsignedinteger[Any]]
    probes: int
    k: int

    def blocks(self) -> list[int]:
        """List the blocks."""
        return list(range(len(self.ends) - 1))

    def __call__(self, block: int) -> tuple[NDArray[np.int32], Found, NDArray[np.unsignedinteger[Any]]]:
        """Find the neighbors of one block's rows.

        Returns the rows (t,), the indices and distances (t, k) of their neighbors, and the cells (t, probes) that each
        looked into.
        """
        first, last = self.ends[block], self.ends[block + 1]
        places = slice(self.begin[first], self.begin[last])
        own, targets = self.order[places], self._rows_at(places)
        pairs = self._pairs(targets, first, last, self.near[block])
        scores = self._scores(targets, pairs)
        # The row itself comes first, whatever its score says.
        home = pairs.place[:, 0]
        scores[home, np.arange(places.start, places.stop) - pairs.start[home]] = -np.inf
        wide = self.k + 1
        least = group_minima(scores, group=GROUP)[pairs.place].reshape(len(own), -1)
        bound = np.partition(least, wide - 1, axis=1)[:, wide - 1]
        hit = np.flatnonzero(scores <= bound[pairs.target, None])
        keys = self._ranked(targets, own, pairs, hit, scores.ravel()[hit])
        return own, of_keys(keys[:, 1:wide]), pairs.looked

    def _ranked(
        self,
        targets: NDArray[Any],
        own: NDArray[np.int32],
        pairs: _Pairs,
        hit: NDArray[np.int64],
        score: NDArray[Any],
    ) -> NDArray[np.uint64]:
        """Turn scores at places of the table into keys of squared distances and rows: (targets, w), ascending."""
        pair = hit // CELL_ROWS
        target = pairs.target[pair]
        found = self.order[pairs.start[pair] + hit % CELL_ROWS]
        half = self.half_norms[own][target]
        value = score + half
        value += np.float32(self.common)
        value *= 2.0
        # Near-equal rows lose their digits in the product: take those distances from the differences.
        near = np.flatnonzero((value < 2e-3 * half) & (value > -np.inf))
        if len(near):
            difference = targets[target[near]] - self.rows[found[near]]
            value[near] = np.einsum("ij,ij->i", difference, difference)
        # Where each is in its target's row: behind those of the cells before its own.
        held = np.bincount(pair, minlength=len(pairs.target))
        per_cell = held[pairs.place]
        start = np.cumsum(held) - held
        start[pairs.place] -= np.cumsum(per_cell, axis=1) - per_cell
        return rowwise(
            distance_keys(value, found), target, np.arange(len(pair)) - start[pair], count=len(own)
        )

    def _pairs(
        self, targets: NDArray[Any], first: int, last: int, near: NDArray[np.unsignedinteger[Any]]
    ) -> _Pairs:
        """Choose the cells that each target looks into: its own, and those with the nearest centers."""
        centers = self.centers[near]
        apart = np.einsum("ij,ij->i", centers, centers) / 2 - targets @ centers.T
        home = np.repeat(np.searchsorted(near, np.arange(first, last)), np.diff(self.begin[first : last + 1]))
        apart[np.arange(len(targets)), home] = np.inf
        probed = np.empty((len(targets), self.probes), dtype=np.int64)
        probed[:, 0] = home
        probed[:, 1:] = smallest(apart, self.probes - 1)[0]
        # Numbers of 16 bits are sorted by radix.
        chosen = probed.astype(np.uint16).ravel()
        by_cell = np.argsort(chosen, kind="stable")
        place = np.empty(len(by_cell), dtype=np.int64)
        place[by_cell] = np.arange(len(by_cell))
        counts = np.bincount(chosen, minlength=len(near))
        used = counts > 0
        return _Pairs(
            target=by_cell // self.probes,
            start=np.repeat(self.begin[near], counts),
            place=place.reshape(probed.shape),
            cells=near[used],
            ends=np.concatenate([[0], np.cumsum(counts[used])]),
            looked=near[probed],
        )

    def _scores(self, targets: NDArray[Any], pairs: _Pairs) -> NDArray[Any]:
        """Compare the targets with the rows of the cells they look into: (pairs, CELL_ROWS), filled up with infinity.

        A score is half the squared distance less the target's own norm, and less `common`: the same order, and one or
        two passes less.
        """
        scores = np.empty((len(pairs.target), CELL_ROWS), dtype=targets.dtype)
        away = -targets
        for cell, begin, end in zip(
            pairs.cells.tolist(), pairs.ends[:-1].tolist(), pairs.ends[1:].tolist(), strict=True
        ):
            members = slice(self.begin[cell], self.begin[cell + 1])
            others = self._rows_at(members)
            part = scores[begin:end, : len(others)]
            np.matmul(away.take(pairs.target[begin:end], axis=0), others.T, out=part)
            if not self.common:
                part += self.half_norms[self.order[members]]
            scores[begin:end, len(others) :] = np.inf
        return scores

    def _rows_at(self, places: slice) -> NDArray[Any]:
        """Return the rows of some places, from the copy in their order where there is one."""
        return self.rows.take(self.order[places], axis=0) if self.ordered is None else self.ordered[places]


@dataclass(frozen=True)
class _Pairs:
    """Targets and the cells they look into, cell by cell.

    `target` (p,) and `start` (p,), the place where its cell begins, of each pair; `place` (t, probes) of each target's
    pairs, that of its own cell first; `cells` (u,) looked into at all, and `ends` (u + 1,) where their pairs begin;
    `looked` (t, probes), the cells of each target.
    """

    target: NDArray[np.int64]
    start: NDArray[np.int64]
    place: NDArray[np.int64]
    cells: NDArray[np.unsignedinteger[Any]]
    ends: NDArray[np.int64]
    looked: NDArray[np.unsignedinteger[Any]]


def make_cells(rows: NDArray[Any], *, k: int, seed: int = 0, workers: int = 1) -> Cells:
    """Sort rows (n, d) float32 into cells and blocks of cells that lie near each other.

    Parameters are those of `nearest_neighbors`; the pool has more rows than `candidates_wanted`.
    """
    rng = np.random.default_rng(seed)
    order, begin = _cut_clusters(rows, rng=rng, workers=workers)
    centers = np.stack(
        [_mean(rows.take(order[here:there], axis=0)) for here, there in pairwise(begin.tolist())]
    )
    probes = min(len(centers), -(-candidates_wanted(k, rows=len(rows)) * len(centers) // len(rows)))
    together = quick_centers(centers, clusters=max(1, len(centers) // BLOCK_CELLS), rng=rng, workers=workers)
    labels = assign_coarse(centers, together, workers=workers).labels
    by_block = np.argsort(labels, kind="stable")
    order = np.concatenate([order[begin[cell] : begin[cell + 1]] for cell in by_block.tolist()])
    sizes, centers = np.diff(begin)[by_block], centers[by_block]
    most = min(SEARCHED_ROWS, max(CELL_ROWS, SCORES // (probes * CELL_ROWS)))
    ends = _ends(sizes, labels[by_block], most=most)
    half_norms = np.einsum("ij,ij->i", rows, rows) / 2
    return Cells(
        rows=rows,
        half_norms=half_norms,
        common=_common(half_norms),
        order=order,
        ordered=rows.take(order, axis=0) if rows.nbytes <= ORDERED_BYTES else None,
        begin=np.concatenate([[0], np.cumsum(sizes)]),
        centers=centers,
        ends=ends,
        near=_near(centers, ends, wanted=max(SEARCHED_ROWS // FEWEST_ROWS, NEAR_CELLS * probes)),
        probes=probes,
        k=k,
    )


def _cut_clusters(
    rows: NDArray[Any], *, rng: np.random.Generator, workers: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Make the clusters of a rough k-means, and cut the large ones: the rows cell by cell, and where cells begin."""
    centers = quick_centers(rows, clusters=max(2, len(rows) // CENTER_ROWS), rng=rng, workers=workers)
    labels = assign_coarse(rows, centers, workers=workers).labels
    sizes = np.bincount(labels, minlength=len(centers))
    small = np.flatnonzero(sizes[labels] < FEWEST_ROWS)
    if len(small):
        kept = np.flatnonzero(sizes >= FEWEST_ROWS)
        labels[small] = kept[assign_coarse(rows[small], centers[kept], workers=workers).labels]
        sizes = np.bincount(labels, minlength=len(centers))
    order = np.argsort(labels, kind="stable").astype(np.int32)
    begin = np.concatenate([[0], np.cumsum(sizes)])
    cells = [size for here, there in pairwise(begin.tolist()) for size in _cut(rows, order[here:there])]
    return order, np.concatenate([[0], np.cumsum(cells)])


def _cut(rows: NDArray[Any], members: NDArray[np.int32]) -> list[int]:
    """Cut members across their widest direction, again and again, into as few cells as hold them, of equal size.

    Sorts `members` in place, because very many small arrays would leave the memory in pieces; returns the sizes.
    """
    cells = -(-len(members) // CELL_ROWS)
    if cells <= 1:
        return [len(members)] * cells
    part = rows.take(members, axis=0)
    part -= _mean(part)
    # From the widest column, not from a row: rows rounded to float16 are cut into the same cells.
    along = part[:, np.einsum("ij,ij->j", part, part).argmax()]
    for _ in range(DIRECTION_STEPS):
        along = _scaled(part @ _scaled(_scaled(along) @ part))
    members[:] = members[np.argsort(along, kind="stable")]
    first = len(members) * (cells // 2) // cells
    del part
    return _cut(rows, members[:first]) + _cut(rows, members[first:])


def _mean(part: NDArray[Any]) -> NDArray[Any]:
    """Mean of a few hundred rows, by a product: faster than numpy's."""
    mean: NDArray[Any] = np.full(len(part), 1.0 / len(part), dtype=part.dtype) @ part
    return mean


def _scaled(vector: NDArray[Any]) -> NDArray[Any]:
    """Scale a vector to largest values of 1, so that no product overflows; zeros stay zeros."""
    largest = np.abs(vector).max()
    return vector / largest if largest > 0.0 else vector


def _ends(sizes: NDArray[np.int64], labels: NDArray[np.integer[Any]], *, most: int) -> NDArray[np.int64]:
    """Cut cells, sorted by label, into blocks of one label and at most so many rows; or one cell, if that has more."""
    ends, held = [0], 0
    for cell, size in enumerate(sizes.tolist()):
        if held and (held + size > most or labels[cell] != labels[cell - 1]):
            ends.append(cell)
            held = 0
        held += size
    return np.array([*ends, len(sizes)])


def _near(centers: NDArray[Any], ends: NDArray[np.int64], *, wanted: int) -> NDArray[np.unsignedinteger[Any]]:
    """Find the cells nearest to each block: (b, wanted or all), ascending, its own always among them."""
    wanted = min(len(centers), wanted)
    sizes = np.diff(ends)
    middle = (np.add.reduceat(centers, ends[:-1], axis=0) / sizes[:, None]).astype(centers.dtype)
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    near = np.empty((len(sizes), wanted), dtype=np.uint16 if len(centers) <= 2**16 else np.uint32)
    for part in row_blocks(len(sizes), size=64):
        apart = squared_distances(middle[part], centers)
        own = np.arange(ends[part.start], ends[part.stop])
        apart[block_of[own] - part.start, own] = -1.0
        near[part] = smallest(apart, wanted)[0]
    near.sort(axis=1)
    return near


def _common(values: NDArray[Any]) -> float:
    """Return the middle of values that are the same but for rounding, or 0."""
    least, most = float(values.min()), float(values.max())
    return (least + most) / 2 if most - least <= SAME * most else 0.0
