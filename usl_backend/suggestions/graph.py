"""Symmetric graph of nearest neighbors: average over it, and spread labels over it. No classifier is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBORS: Final = 10
"""Nearest neighbors of a row that become its edges; rows that name it add theirs."""
ALPHA: Final = 0.95
"""Share of a row's belief that comes from its neighbors."""
STEPS: Final = 12
"""Steps of the accelerated spreading: what is left of the start is below 3.1 %; 50 plain steps leave 7.7 %."""
_CELLS: Final = 65_536
"""Values summed at once, so that sums stay in the cache."""


@dataclass(frozen=True)
class Graph:
    """P, the row-normalised adjacency: P[i, j] = 1 / degree(i) where i or j is among the other's neighbors.

    Attributes
    ----------
    nodes
        Number of rows.
    groups
        Rows of equal degree and their neighbors, as (rows (m,) int64, columns (degree, m) int32).
    """

    nodes: int
    groups: tuple[tuple[NDArray[np.int64], NDArray[np.int32]], ...]

    def average(
        self, values: NDArray[np.float32], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """P @ values: the mean of each row's neighbors.

        Parameters
        ----------
        values : (n, c) float32, C-contiguous
        out : (n, c) float32 or None
            Array to write to, another one than `values`: fresh memory takes a tenth of the time.

        Returns
        -------
        (n, c) float32
            Zeros where a row has no neighbor.
        """
        result = np.empty_like(values) if out is None else out
        if sum(len(rows) for rows, _ in self.groups) < self.nodes:
            result[:] = 0.0
        size = max(64, _CELLS // values.shape[1])
        for rows, columns in self.groups:
            degree = len(columns)
            for block in row_blocks(len(rows), size=size):
                part = columns[:, block]
                if degree > 4 * part.shape[1]:
                    # A few rows that very many name.
                    result[rows[block]] = values[part].mean(axis=0, dtype=np.float64)
                    continue
                total = np.take(values, part[0], axis=0)
                other = np.empty_like(total)
                for column in part[1:]:
                    np.take(values, column, axis=0, out=other, mode="clip")
                    total += other
                total /= degree
                result[rows[block]] = total
        return result

    def agreement(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Share of each row's neighbors that have its label.

        Parameters
        ----------
        labels : (n,) integers

        Returns
        -------
        (n,) float32
            0 to 1; 0 where a row has no neighbor.
        """
        result = np.zeros(self.nodes, dtype=np.float32)
        for rows, columns in self.groups:
            same = np.zeros(len(rows), dtype=np.int32)
            for column in columns:
                same += labels[column] == labels[rows]
            result[rows] = same / np.float32(len(columns))
        return result


def first_neighbors(indices: NDArray[np.int32], *, k: int = NEIGHBORS) -> NDArray[np.int32]:
    """First k neighbors of each row, cut to what there is; the row itself, where every row has itself in front, not."""
    itself = bool((indices[:, 0] == np.arange(len(indices))).all())
    return indices[:, 1 : k + 1] if itself else indices[:, :k]


def symmetric_graph(neighbors: NDArray[np.int32], *, extra: NDArray[np.int32] | None = None) -> Graph:
    """Join every row with its neighbors, in both directions.

    Parameters
    ----------
    neighbors : (n, k) int32
        Of each row, itself not among them.
    extra : (e, k) int32 or None
        Neighbors, among the n rows, of e more nodes, which become nodes n, n + 1, ...

    Returns
    -------
    Graph
        Of n + e nodes.
    """
    n = len(neighbors)
    # Who names a row without being named by it adds an edge of the other direction.
    source, target = _one_sided(neighbors)
    names = np.empty((0, 0), dtype=np.int32) if extra is None else extra
    nodes = n + len(names)
    source = np.concatenate([source, np.repeat(np.arange(n, nodes), names.shape[1])])
    keys = np.concatenate([target, names.ravel()]).astype(np.int64) * nodes + source
    del source, target
    keys.sort()
    named = (keys // nodes).astype(np.int32)
    sources = (keys % nodes).astype(np.int32)
    del keys
    incoming = np.bincount(named, minlength=n)
    begin = np.cumsum(incoming) - incoming
    by_count = np.argsort(incoming, kind="stable")
    counts, first = np.unique(incoming[by_count], return_index=True)
    groups = []
    for count, rows in zip(counts.tolist(), np.split(by_count, first[1:]), strict=True):
        columns = np.empty((neighbors.shape[1] + count, len(rows)), dtype=np.int32)
        columns[: neighbors.shape[1]] = neighbors[rows].T
        for place in range(count):
            columns[neighbors.shape[1] + place] = sources[begin[rows] + place]
        if len(columns):
            groups.append((rows, columns))
    if len(names):
        groups.append((np.arange(n, nodes), np.ascontiguousarray(names.T)))
    return Graph(nodes, tuple(groups))


def local_order(neighbors: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Order of rows in which neighbors stand near each other, so that averages find them in the cache.

    Parameters
    ----------
    neighbors : (n, k) integers
        Rows.

    Returns
    -------
    (n,) int64
        A permutation: rows that reach the same top stand together, where each row leads to the neighbor that most
        rows name, until none is named more often.
    """
    everyone = np.arange(len(neighbors))
    named = np.bincount(neighbors.ravel(), minlength=len(neighbors)).astype(np.int32)
    best = neighbors[everyone, named[neighbors].argmax(axis=1)]
    top = np.where(named[best] > named, best, everyone)
    while not np.array_equal(following := top[top], top):
        top = following
    return np.argsort(top, kind="stable")


def _one_sided(neighbors: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Pairs (row, neighbor) in which the neighbor does not name the row."""
    sources, targets = [], []
    for block in row_blocks(len(neighbors), size=8192):
        near = neighbors[block]
        rows = np.arange(block.start, block.start + len(near))
        back = (neighbors[near] == rows[:, None, None]).any(axis=2)
        row, column = np.nonzero(~back)
        sources.append(rows[row])
        targets.append(near[row, column])
    return np.concatenate(sources), np.concatenate(targets)


def smooth(rows: NDArray[np.float32], graph: Graph, *, times: int = 2) -> NDArray[np.float32]:
    """Move each row half the way to the mean of its neighbors, `times` times, then to unit length.

    Parameters
    ----------
    rows : (n, d) float32
    graph
        Of n nodes.
    times
        Steps of X <- X + P X; only directions matter, so that nothing is halved.

    Returns
    -------
    (n, d) float32
        Rows of length 1; those at zero stay there.
    """
    result: NDArray[np.float32] = rows
    for _ in range(times):
        moved = graph.average(result)
        for block in row_blocks(len(rows), size=512):
            moved[block] += result[block]
        result = moved
    for block in row_blocks(len(rows), size=512):
        length = np.sqrt(np.einsum("ij,ij->i", result[block], result[block]))
        result[block] /= np.where(length > 1e-12, length, 1.0)[:, None]
    return result


def spread(
    graph: Graph,
    labeled: NDArray[np.int64],
    *,
    classes: NDArray[np.integer[Any]],
    count: int,
    alpha: float = ALPHA,
    steps: int = STEPS,
) -> NDArray[np.float32]:
    """Spread labels over the graph: local and global consistency, its columns normalised.

    Parameters
    ----------
    graph
        Of n nodes.
    labeled : (l,) int64
        Nodes that have a label.
    classes : (l,) integers
        Their classes, 0 <= class < count, each with a label at least.
    count
        Number of classes.
    alpha
        Share of a belief that comes from the neighbors, 0 < alpha < 1.
    steps
        Of the iteration, at least 1.

    Returns
    -------
    (n, count) float32
        Beliefs, 0 or more, higher = more likely; 0 where no label reaches. Only comparisons within a row mean
        something.

    Notes
    -----
    F solves F = alpha P F + (1 - alpha) Y, with Y one-hot on the labeled rows; then each column is divided by the
    root of its sum, so that a class does not win by where its labels lie.

    Source: Zhou, Bousquet, Lal, Weston, Schölkopf, *Learning with Local and Global Consistency*, NIPS 2003, equation
    (4), with P = D^-1 W in the place of S = D^-1/2 W D^-1/2.

    Differs: the iteration is accelerated by Chebyshev's recurrence (Golub and Varga 1961), which is possible because
    P's eigenvalues are real and within [-1, 1]. 12 steps come nearer to the solution than 60 plain ones.
    """
    before: NDArray[np.float32] = np.zeros((graph.nodes, count), dtype=np.float32)
    belief: NDArray[np.float32] = np.zeros_like(before)
    belief[labeled, classes] = 1.0 - alpha
    omega = 2.0
    spare: NDArray[np.float32] = np.empty_like(before)
    for _ in range(steps):
        omega = 1.0 / (1.0 - alpha * alpha * omega / 4.0)
        following = graph.average(belief, out=spare)
        for block in row_blocks(graph.nodes, size=max(1, 4 * _CELLS // count)):
            following[block] *= alpha * omega
            before[block] *= omega - 1.0
            following[block] -= before[block]
        following[labeled, classes] += omega * (1.0 - alpha)
        before, belief, spare = belief, following, before
    belief /= np.sqrt(np.maximum(belief.sum(axis=0, dtype=np.float64), 1e-30)).astype(np.float32)
    return belief
