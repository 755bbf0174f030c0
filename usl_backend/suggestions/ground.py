"""Prepare a pool once, and compute each class's share of each row from any labels on it. Nothing is promised here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import InputError
from usl_backend.selection.rows.neighbors import nearest_neighbors, nearest_of_others
from usl_backend.selection.rows.preparation import check_embeddings, fit_projection, generator
from usl_backend.selection.rows.threads import one_thread, row_blocks
from usl_backend.suggestions.graph import (
    NEIGHBORS,
    Graph,
    first_neighbors,
    local_order,
    smooth,
    spread,
    symmetric_graph,
)
from usl_backend.suggestions.probe import fit_probe, softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection import Neighbors

PROJECTION = 128
"""Principal components kept, as the default selection does."""
_BLOCK = 16_384


@dataclass(frozen=True)
class Shares:
    """Share of each class in each row, as the labels say.

    Attributes
    ----------
    classes : (c,) int64
        Classes that have a label or a name, ascending.
    mean : (n, c) float32
        Mean of the probe's and the spreading's softmax; each row sums to 1.
    probe : (n, c) float32
        The probe's alone.
    """

    classes: NDArray[np.int64]
    mean: NDArray[np.float32]
    probe: NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """Rows of a pool, and of class names, smoothed over their graph, in an order of their own.

    Attributes
    ----------
    order : (n,) int64
        Row of the pool that each node is; the graph's other nodes are class names, class 0 first.
    rows : (n + names, d) float32
        Smoothed rows of unit length, node by node.
    graph
    """

    order: NDArray[np.int64]
    rows: NDArray[np.float32]
    graph: Graph

    def with_names(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the pool's rows as labels of the nodes."""
        return np.concatenate([labels[self.order], np.arange(self.graph.nodes - len(self.order))])

    def agreement(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Share of each row's neighbors that have its label, (n,); class names are neighbors too."""
        result = np.empty(len(labels), dtype=np.float32)
        result[self.order] = self.graph.agreement(self.with_names(labels))[: len(labels)]
        return result

    def shares(self, labels: NDArray[np.int64]) -> Shares:
        """Spread the labels and train the probe.

        Parameters
        ----------
        labels : (n,) int64
            -1 where there is none; as `check_labels` lets through.
        """
        n = len(labels)
        labels = self.with_names(labels)
        labeled = np.flatnonzero(labels >= 0)
        known, place = np.unique(labels[labeled], return_inverse=True)
        with one_thread():
            probe = fit_probe(self.rows[labeled], classes=place, count=len(known)).logits(self.rows[:n])
        belief = spread(self.graph, labeled, classes=place, count=len(known))[:n]
        for scores in (probe, belief):
            scores /= np.float32(_gap(scores) or 1.0)
        mean, alone = np.empty_like(probe), np.empty_like(probe)
        for block in row_blocks(n, size=_BLOCK):
            part = softmax(probe[block])
            alone[self.order[block]] = part
            mean[self.order[block]] = (softmax(belief[block]) + part) / 2
        return Shares(known, mean, alone)


def prepare(
    rows: NDArray[np.floating[Any]],
    *,
    neighbors: Neighbors | None,
    class_rows: NDArray[np.floating[Any]] | None,
    seed: int,
    workers: int,
) -> Ground:
    """Project and smooth the rows of a pool; arguments as for `suggest`."""
    check_embeddings(rows)
    n = len(rows)
    if n < 2:
        raise InputError("there is 1 row; labels say something about others only")
    generator(seed)
    with one_thread():
        projection = fit_projection(rows, dimensions=PROJECTION)
        placed = projection.apply(rows)
    if neighbors is None:
        neighbors = nearest_neighbors(placed, k=NEIGHBORS, seed=seed, workers=workers)
    elif len(neighbors.indices) != n:
        raise InputError(
            f"neighbors are of {len(neighbors.indices)} rows but there are {n}; search them on these rows"
        )
    low, high = int(neighbors.indices.min()), int(neighbors.indices.max())
    if low < 0 or high >= n:
        raise InputError(
            f"neighbors name row {low if low < 0 else high} but there are rows 0 to {n - 1}; "
            "search them on these rows"
        )
    near = first_neighbors(neighbors.indices)
    order = local_order(near)
    place = np.empty(n, dtype=np.int32)
    place[order] = np.arange(n, dtype=np.int32)
    extra = None
    if class_rows is not None:
        check_embeddings(class_rows)
        if class_rows.shape[1] != rows.shape[1]:
            raise InputError(
                f"class_rows have {class_rows.shape[1]} dimensions but rows have {rows.shape[1]}; "
                "embed both by one encoder"
            )
        with one_thread():
            names = projection.apply(class_rows)
            extra = place[nearest_of_others(names, placed, k=min(NEIGHBORS, n), workers=workers).indices]
        placed = np.concatenate([placed[order], names])
    else:
        placed = placed[order]
    graph = symmetric_graph(place[near[order]], extra=extra)
    return Ground(order, smooth(placed, graph), graph)


def check_labels(
    labels: NDArray[np.integer[Any]], *, n: int, classes: int | None, names: int | None
) -> NDArray[np.int64]:
    """Labels as int64, one per row, -1 where there is none; refused where they cannot be."""
    given: NDArray[Any] = np.asarray(labels)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise InputError(
            f"labels are {given.dtype} of shape {given.shape}; give {n} integers, one per row, -1 where there is none"
        )
    checked: NDArray[np.int64] = given.astype(np.int64)
    if int(checked.min()) < -1:
        raise InputError(
            f"label of row {int(checked.argmin())} is {checked.min()}; give 0 or more, -1 for none"
        )
    for count, what in ((classes, "classes is"), (names, "class_rows name")):
        if count is not None and int(checked.max()) >= count:
            raise InputError(
                f"label of row {int(checked.argmax())} is {checked.max()} but {what} {count}; "
                f"labels go from 0 to {count - 1}"
            )
    known = np.unique(checked[checked >= 0])
    if not len(known) and not names:
        raise InputError("there are no labels; label at least one row of each of two classes")
    if len(known) == 1 and (names or 1) < 2:
        raise InputError(
            f"all {int((checked >= 0).sum())} labels are of class {known[0]}; label at least one row of another class"
        )
    if names == 1 and not len(known):
        raise InputError("class_rows name 1 class and there are no labels; two classes are needed")
    return checked


def _gap(scores: NDArray[np.float32]) -> float:
    """Mean distance of the best score of a row to its second best."""
    total = 0.0
    for block in row_blocks(len(scores), size=_BLOCK):
        best = np.partition(scores[block], -2, axis=1)[:, -2:]
        total += float((best[:, 1] - best[:, 0]).sum(dtype=np.float64))
    return total / len(scores)
