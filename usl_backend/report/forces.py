"""UMAP's layout in numpy, for many rows: without the compiler that umap-learn starts, and in a third of its time.

The graph and the forces are those of UMAP (McInnes, Healy, Melville, arXiv:1802.03426), with `min_dist=0.5` and
`repulsion_strength=0.3` as `layout` sets them for umap-learn. Differs: edges are taken in blocks, whose forces
are all computed from the same positions, instead of one after another; `benchmarks/report_cost.py` measures how many
neighbors stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.base import Neighbors

EPOCHS: Final = 200
NEGATIVES: Final = 5
"""Random rows that each end of an edge is repelled by, as in UMAP."""
BLOCKS: Final = 8
"""Parts of an epoch; with fewer, rows with many edges overshoot."""
_A, _B = np.float32(0.5830300), np.float32(1.3341670)
"""Curve of the similarity over the distance for `min_dist=0.5`: 1 / (1 + a d^2b)."""
_REPULSION = np.float32(0.3)
_LONGEST = np.float32(4.0)
"""Longest step along an axis, as in UMAP."""
_TINY = np.float32(1e-12)
_HALVINGS = 40


@dataclass(frozen=True)
class Edges:
    """Undirected edges between rows.

    Attributes
    ----------
    first, second : (e,) int32
        Rows, each pair once.
    weight : (e,) float32
        0 to 1, higher = more alike.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    weight: NDArray[np.float32]


def fuzzy_graph(neighbors: Neighbors, *, k: int) -> Edges:
    """Return UMAP's graph of rows whose `k` neighbors, themselves excluded, are known."""
    n = len(neighbors.indices)
    weights = _memberships(np.sqrt(neighbors.distances[:, :k].astype(np.float64)))
    rows = np.repeat(np.arange(n, dtype=np.int64), weights.shape[1])
    others = neighbors.indices[:, :k].ravel().astype(np.int64)
    pair = np.minimum(rows, others) * n + np.maximum(rows, others)
    order = np.argsort(pair, kind="stable")
    pair, weight = pair[order], weights.ravel()[order]
    begin = np.flatnonzero(np.diff(pair, prepend=-1))
    # a pair is there once, or twice where both are neighbors of each other: the fuzzy union is a + b - ab
    both = np.diff(begin, append=len(pair)) > 1
    joined = np.add.reduceat(weight, begin)
    joined[both] -= np.multiply.reduceat(weight, begin)[both]
    return Edges(
        (pair[begin] // n).astype(np.int32), (pair[begin] % n).astype(np.int32), joined.astype(np.float32)
    )


def _memberships(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each neighbor belongs: exp(-(d - nearest) / scale), with log2(k + 1) as the sum of a row."""
    n, k = distances.shape
    # of the neighbors that are no copies; infinite if all are
    nearest = np.where(distances > 0.0, distances, np.inf).min(axis=1)
    beyond = np.maximum(distances - nearest[:, None], 0.0)
    low: NDArray[Any] = np.zeros(n)
    high: NDArray[Any] = np.full(n, np.inf)
    scale: NDArray[Any] = np.ones(n)
    for _ in range(_HALVINGS):
        large = np.exp(-beyond / scale[:, None]).sum(axis=1) > np.log2(k + 1)
        high, low = np.where(large, scale, high), np.where(large, low, scale)
        scale = np.where(np.isinf(high), scale * 2.0, (low + high) / 2.0)
    least = 1e-3 * distances.mean(axis=1)
    scale = np.maximum(scale, np.maximum(least, 1e-12))
    return np.asarray(np.exp(-beyond / scale[:, None]))


def settle(start: NDArray[np.floating[Any]], edges: Edges, *, seed: int) -> NDArray[np.float32]:
    """Move points (n, 2) by the forces of the graph, from large steps to none; return where they come to rest."""
    rng = np.random.default_rng(seed)
    n = len(start)
    kept = np.flatnonzero(edges.weight >= edges.weight.max() / EPOCHS)
    kept = kept[rng.permutation(len(kept))]
    first, second = edges.first[kept], edges.second[kept]
    # an edge takes part in as many epochs as its weight says
    rate = edges.weight[kept] / edges.weight.max()
    due = rng.random(len(kept), dtype=np.float32)
    x, y = (np.ascontiguousarray(start[:, axis], dtype=np.float32) for axis in (0, 1))
    blocks = row_blocks(len(kept), size=-(-len(kept) // BLOCKS))
    for epoch in range(EPOCHS):
        step = np.float32(1.0 - epoch / EPOCHS)
        due += rate
        active = due >= 1.0
        due -= active
        for block in blocks:
            some = np.flatnonzero(active[block]) + block.start
            _push(x, y, first[some], second[some], rng.integers(n, size=(NEGATIVES, 2 * len(some))), step)
    return np.stack([x, y], axis=1)


def _push(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    strangers: NDArray[np.int64],
    step: np.float32,
) -> None:
    """Draw the ends of edges together and push them away from strangers, in place."""
    ends = np.concatenate([first, second])
    mine_x, mine_y = x[ends], y[ends]
    # umap-learn takes each edge from both its ends
    across, up = _forces(x[first] - x[second], y[first] - y[second], 2 * step, repel=False)
    across, up = np.concatenate([across, -across]), np.concatenate([up, -up])
    for others in strangers:
        aside, away = _forces(mine_x - x[others], mine_y - y[others], step, repel=True)
        across += aside
        up += away
    x += np.bincount(ends, across, len(x)).astype(np.float32)
    y += np.bincount(ends, up, len(y)).astype(np.float32)


def _forces(
    dx: NDArray[np.float32], dy: NDArray[np.float32], step: np.float32, *, repel: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the steps along both axes of points that lie (dx, dy) from what draws or repels them."""
    squared = dx * dx + dy * dy + _TINY
    power = np.exp(_B * np.log(squared))
    if repel:
        force = 2 * _REPULSION * _B / ((np.float32(1e-3) + squared) * (1 + _A * power))
    else:
        force = -2 * _A * _B * power / (squared * (1 + _A * power))
    longest = _LONGEST * step
    force *= step
    return np.clip(force * dx, -longest, longest), np.clip(force * dy, -longest, longest)
