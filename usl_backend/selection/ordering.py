"""The order of the picks: every prefix a good selection of its own. Which rows are picked is decided elsewhere."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .base import Progress


def ward_tree(
    centers: NDArray[np.floating[Any]],
    *,
    weights: NDArray[np.floating[Any]],
    progress: Progress | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge clusters by Ward's criterion along nearest-neighbour chains.

    Parameters
    ----------
    centers : (m, d) float
        Cluster means.
    weights : (m,) float
        Rows per cluster, positive.
    progress
        Called as `progress("order", merges done, m - 1)`.

    Returns
    -------
    children : (m - 1, 2) int64
        Nodes joined by each merge; node i < m is cluster i, node m + j is merge j.
    heights : (m - 1,) float64
        Rise of the within-cluster sum of squares by each merge: w_a w_b / (w_a + w_b) |c_a - c_b|^2.

    Notes
    -----
    Merges come in the order found, not by height; O(m^2 d) time and O(m d) memory.
    """
    m = len(centers)
    place = np.asarray(centers, dtype=np.float64).copy()
    mass = np.asarray(weights, dtype=np.float64).copy()
    norms = np.einsum("ij,ij->i", place, place)
    node = np.arange(m)
    alive = np.ones(m, dtype=bool)
    children = np.empty((max(0, m - 1), 2), dtype=np.int64)
    heights = np.empty(max(0, m - 1))
    chain: list[int] = []
    merges, lowest = 0, 0
    while merges < m - 1:
        if not chain:
            while not alive[lowest]:
                lowest += 1
            chain.append(lowest)
        top = chain[-1]
        cost = norms + norms[top] - 2.0 * (place @ place[top])
        np.maximum(cost, 0.0, out=cost)
        cost *= mass * mass[top] / (mass + mass[top])
        cost[~alive] = np.inf
        cost[top] = np.inf
        best = int(cost.argmin())
        if len(chain) > 1 and cost[chain[-2]] <= cost[best]:
            other = chain[-2]
            del chain[-2:]
            children[merges] = node[top], node[other]
            heights[merges] = cost[other]
            total = mass[top] + mass[other]
            place[top] = (mass[top] * place[top] + mass[other] * place[other]) / total
            norms[top] = place[top] @ place[top]
            mass[top] = total
            alive[other] = False
            node[top] = m + merges
            merges += 1
            if progress is not None and (merges % 256 == 0 or merges == m - 1):
                progress("order", merges, m - 1)
        else:
            chain.append(best)
    return children, heights


def order_picks(
    centers: NDArray[np.floating[Any]],
    *,
    weights: NDArray[np.floating[Any]],
    picks: NDArray[np.floating[Any]],
    progress: Progress | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Walk a size-weighted Ward tree from the top: each step splits the group whose split explains most.

    Parameters
    ----------
    centers : (m, d) float
        Cluster means.
    weights : (m,) float
        Rows per cluster, positive.
    picks : (m, d) float
        The row picked in each cluster.
    progress
        Called as `progress("order", done, total)`.

    Returns
    -------
    order : (m,) int64
        Clusters in pick order. The first is the pick nearest to the mean of all; a group that splits keeps its
        representative and the other half gets the pick nearest to its own mean.
    gain : (m,) float64
        Fall of the within-group sum of squares by each pick, non-negative and never rising along the order; the
        first counts the sum of squares about the mean of all.

    Notes
    -----
    Differs: the paper hands out its picks as a set; annotators stop early, so here any prefix is useful.
    """
    m = len(centers)
    children, heights = ward_tree(centers, weights=weights, progress=progress)
    place = np.concatenate(
        [np.asarray(centers, dtype=np.float64), np.zeros((max(0, m - 1), centers.shape[1]))]
    )
    mass = np.concatenate([np.asarray(weights, dtype=np.float64), np.zeros(max(0, m - 1))])
    for merge, (left, right) in enumerate(children.tolist()):
        total = mass[left] + mass[right]
        place[m + merge] = (mass[left] * place[left] + mass[right] * place[right]) / total
        mass[m + merge] = total

    def members(top: int) -> list[int]:
        stack, found = [top], []
        while stack:
            current = stack.pop()
            if current < m:
                found.append(current)
            else:
                stack.extend(children[current - m].tolist())
        return found

    def representative(top: int) -> int:
        group = np.array(sorted(members(top)))
        difference = picks[group] - place[top]
        return int(group[np.einsum("ij,ij->i", difference, difference).argmin()])

    root = 2 * m - 2
    about_mean = place[:m] - place[root]
    first = representative(root)
    order, gain = [first], [float(mass[:m] @ np.einsum("ij,ij->i", about_mean, about_mean))]
    owner = {root: first}
    queue: list[tuple[float, int]] = [(-heights[root - m], root)] if m > 1 else []
    while queue:
        height, top = heapq.heappop(queue)
        left, right = children[top - m].tolist()
        keeps = owner.pop(top)
        side = set(members(left))
        other = right if keeps in side else left
        owner[left if keeps in side else right] = keeps
        owner[other] = representative(other)
        order.append(owner[other])
        # Chains may find a child that rounding puts a hair above its parent.
        gain.append(min(gain[-1], -height))
        for child in (left, right):
            if child >= m:
                heapq.heappush(queue, (-heights[child - m], child))
    return np.array(order, dtype=np.int64), np.array(gain)
