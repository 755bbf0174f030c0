"""Two-dimensional layout of the map, by UMAP or principal components.

Up to 20,000 rows are laid out by umap-learn. Of more, the picks and an evenly spaced part are laid out by the same
forces (`forces`), and the others placed beside the nearest of these.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from usl_backend.report.forces import fuzzy_graph, settle
from usl_backend.selection.rows.assignment import assign
from usl_backend.selection.rows.kmeans import quick_centers
from usl_backend.selection.rows.neighbors import nearest_neighbors
from usl_backend.selection.rows.preparation import fit_projection, squared_distances
from usl_backend.selection.rows.threads import one_thread, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.base import Neighbors

logger = logging.getLogger(__name__)

MOST: Final = 200_000
"""Maximum number of instances on a map."""
SAMPLED: Final = 20_000
"""Maximum number of rows that are laid out by themselves."""
FEWEST: Final = 100
"""Minimum number of instances for meaningful UMAP neighborhoods."""
NEIGHBORS: Final = 15
"""Number of neighbors used by UMAP."""
_CELL_ROWS: Final = 144
"""Laid-out rows per cell in which a row looks for the nearest one."""
_CANDIDATES: Final = 1024
"""Laid-out rows that are looked at; they hold the nearest one of 97 % of rows in 128 dimensions."""
_PULL: Final = np.float32(0.3)
"""How far a row is placed from the nearest laid-out one towards the mean of its two neighbors and itself."""
_BESIDE: Final = np.float32(0.5)
"""Largest distance on the map, of about 20 in all, at which a neighbor counts for that."""
_BLOCK: Final = 16_384


@dataclass(frozen=True)
class Layout:
    """Two-dimensional coordinates of rows.

    Attributes
    ----------
    points : (s, 2) float32
        Coordinates; only proximity is meaningful.
    method
        "umap" (neighbors stay together; distances between groups mean little) or "pca" (the two directions of the
        largest variance).
    note
        Why PCA was used instead of UMAP, or how many rows UMAP was computed on if not on all; else "".
    """

    points: NDArray[np.float32]
    method: Literal["umap", "pca"]
    note: str


def shown_rows(n: int, picks: NDArray[np.integer[Any]], *, most: int = MOST) -> NDArray[np.int64]:
    """Return the rows to show on the map: all, or above `most` the picks and an evenly spaced subset of the others.

    Parameters
    ----------
    n
        Number of rows of the pool.
    picks : (m,) integers
        Picks, which are always shown.
    most
        Maximum number of rows, unless there are more picks.

    Returns
    -------
    (s,) int64
        Ascending, distinct.
    """
    if n <= most:
        return np.arange(n)
    others = np.setdiff1d(np.arange(n), picks)
    wanted = max(0, most - len(picks))
    even = others[np.linspace(0, len(others) - 1, wanted).round().astype(np.int64)] if wanted else others[:0]
    return np.union1d(np.asarray(picks, dtype=np.int64), even)


def lay_out(
    rows: NDArray[np.floating[Any]],
    *,
    neighbors: Neighbors | None = None,
    picks: NDArray[np.integer[Any]] | None = None,
    seed: int = 0,
) -> Layout:
    """Compute the layout of rows by UMAP on their neighbors, or else by principal components.

    Parameters
    ----------
    rows : (s, d) float32
        Normalized embeddings of the report.
    neighbors
        Neighbor search over these rows with at least 14 neighbors, self excluded; None runs it here.
    picks : (m,) integers or None
        Rows that are laid out by themselves, whatever the number of rows.
    seed
        Seed of UMAP's optimization: the same rows and seed give the same map on one machine.

    Returns
    -------
    Layout
        Coordinates, with the method that was used.
    """
    if len(rows) > SAMPLED:
        return _lay_out_part(rows, np.arange(0) if picks is None else picks, seed)
    start = _principal(rows)
    if len(rows) < FEWEST:
        return Layout(start, "pca", f"{len(rows)} instances are too few for UMAP, which needs {FEWEST}")
    if importlib.util.find_spec("umap") is None:
        return Layout(start, "pca", "umap-learn is not installed; pip install 'usl-backend[map]' adds it")
    if neighbors is None or neighbors.indices.shape[1] < NEIGHBORS - 1:
        neighbors = nearest_neighbors(np.ascontiguousarray(rows), k=NEIGHBORS - 1)
    try:
        return Layout(_umap(rows, start, neighbors, seed), "umap", "")
    except Exception as error:  # noqa: BLE001 - UMAP is optional and compiled at run time: its failure must not fail the map
        logger.warning("UMAP failed, the map falls back to principal components: %s", error)
        return Layout(start, "pca", f"UMAP failed ({type(error).__name__})")


def _principal(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Project rows to the two directions of the largest variance, scaled so that the wider one spans 10."""
    flat = np.zeros((len(rows), 2), dtype=np.float32)
    found = fit_projection(rows, dimensions=min(2, rows.shape[1]), normalize=False).apply(rows)
    flat[:, : found.shape[1]] = found
    reach = float(np.abs(flat).max(initial=0.0))
    return flat * np.float32(5.0 / reach) if reach > 0 else flat


def _umap(
    rows: NDArray[Any], start: NDArray[np.float32], neighbors: Neighbors, seed: int
) -> NDArray[np.float32]:
    """Run UMAP on known neighbors, initialized with the principal components."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about TensorFlow, threads and its own neighbor search
        from umap import UMAP

        itself = np.arange(len(rows), dtype=np.int32)[:, None]
        near = np.concatenate([itself, neighbors.indices[:, : NEIGHBORS - 1]], axis=1)
        apart = np.sqrt(neighbors.distances[:, : NEIGHBORS - 1])
        apart = np.concatenate([np.zeros((len(rows), 1)), apart], axis=1).astype(np.float32)
        # identical starting points would never separate
        jitter = np.random.default_rng(seed).normal(scale=1e-3, size=start.shape)
        mapper = UMAP(
            n_neighbors=NEIGHBORS,
            precomputed_knn=(near, apart, None),
            init=(start + jitter).astype(np.float32),
            # wider spacing than UMAP's defaults: the picks' numbers must fit between the points
            min_dist=0.5,
            repulsion_strength=0.3,
            random_state=seed,
            n_jobs=1,
            force_approximation_algorithm=True,
        )
        points = np.asarray(mapper.fit_transform(rows), dtype=np.float32)
    if not np.isfinite(points).all():
        raise ValueError("UMAP placed rows nowhere")
    return points


def _lay_out_part(rows: NDArray[Any], picks: NDArray[np.integer[Any]], seed: int) -> Layout:
    """Lay out some rows by UMAP's forces, and place the others beside them."""
    some = shown_rows(len(rows), picks, most=SAMPLED)
    part = np.ascontiguousarray(rows[some])
    neighbors = nearest_neighbors(part, k=NEIGHBORS - 1)
    points = np.empty((len(rows), 2), dtype=np.float32)
    start = _principal(part) + np.random.default_rng(seed).normal(scale=1e-3, size=(len(part), 2))
    laid = settle(start, fuzzy_graph(neighbors, k=NEIGHBORS - 1), seed=seed)
    points[some] = laid
    others = np.setdiff1d(np.arange(len(rows)), some)
    with one_thread():
        _place_beside(points, rows, others, part=part, laid=laid, neighbors=neighbors, seed=seed)
    if not np.isfinite(points).all():
        return Layout(_principal(rows), "pca", "UMAP placed rows nowhere")
    return Layout(points, "umap", f"of {len(some):,}; each other one lies beside the most similar of these")


def _place_beside(
    points: NDArray[np.float32],
    rows: NDArray[Any],
    others: NDArray[np.int64],
    *,
    part: NDArray[Any],
    laid: NDArray[np.float32],
    neighbors: Neighbors,
    seed: int,
) -> None:
    """Place the other rows beside the nearest of `part`, which is at `laid` and has these neighbors."""
    rng = np.random.default_rng(seed)
    centers = quick_centers(part, clusters=max(1, len(part) // _CELL_ROWS), rng=rng)
    seen = min(_CANDIDATES, len(part))
    candidates = np.argpartition(squared_distances(centers, part), seen - 1, axis=1)[:, :seen]
    cells = np.concatenate(
        [assign(rows[others[block]], centers).labels for block in row_blocks(len(others), size=_BLOCK)]
    )
    half = np.einsum("ij,ij->i", part, part) / 2
    itself = np.arange(len(part), dtype=np.int32)[:, None]
    around = np.concatenate([itself, neighbors.indices], axis=1)
    for cell in np.unique(cells):
        near = candidates[cell]
        members = others[cells == cell]
        for block in row_blocks(len(members), size=512):
            mine = rows[members[block]]
            nearest = near[(mine @ part[near].T - half[near]).argmax(axis=1)]
            group = around[nearest]
            apart = part[group]
            apart -= mine[:, None, :]
            best = np.argsort(np.einsum("ijk,ijk->ij", apart, apart), axis=1, kind="stable")[:, :3]
            places = laid[np.take_along_axis(group, best, axis=1)]
            away = places - places[:, :1]
            away[np.abs(away).max(axis=2) > _BESIDE] = 0.0
            points[members[block]] = places[:, 0] + _PULL * away.mean(axis=1)
