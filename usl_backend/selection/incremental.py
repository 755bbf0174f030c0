"""New rows after a selection, scored and queued behind the picks without a new run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.neighborhood import searched
from usl_backend.selection.rows.neighbors import nearest_of_others
from usl_backend.selection.rows.preparation import check_embeddings, fit_projection, squared_distances
from usl_backend.selection.rows.threads import one_thread, row_blocks
from usl_backend.selection.usl import USL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.base import Selection

SPARSE_SHARE = 0.05
"""Share of the pool that counts as sparse: new rows are compared with its border."""
GROWTH = 0.2
"""New rows as a share of the pool from which a new run pays in any case."""


@dataclass(frozen=True)
class NewRows:
    """Scores and an order for rows that came after a selection.

    Attributes
    ----------
    score : (b,) float32
        On the scale of `Selection.score`; higher = more typical.
    cluster : (b,) int32
        Position in `Selection.indices` of the nearest pick.
    order : (b,) int64
        New rows in the order in which to label them after the picks: typical rows far from every pick first.
    sparse_share
        Share of the new rows less dense than 95 % of the pool; about 0.05 when they are of the same kind,
        higher = stranger.
    new_run
        True where a new run is worthwhile.
    reason
        Why, or why not, in a sentence for the user.
    """

    score: NDArray[np.float32]
    cluster: NDArray[np.int32]
    order: NDArray[np.int64]
    sparse_share: float
    new_run: bool
    reason: str


def score_new_rows(
    embeddings: NDArray[np.floating[Any]],
    *,
    pool: NDArray[np.floating[Any]],
    selection: Selection,
) -> NewRows:
    """Score rows that were not in the pool when the selection was made.

    Parameters
    ----------
    embeddings : (b, d) float
        New rows of the same encoder.
    pool : (n, d) float
        The rows that were selected from, unchanged.
    selection
        Made by `USL` on `pool`.

    Returns
    -------
    NewRows

    Raises
    ------
    SelectionError
        Rows that are not finite, of another width than the pool's, or a selection that USL did not make on this
        pool.

    Notes
    -----
    The pool's own projection places the new rows; their neighbors are searched in the pool, exactly, near-duplicates
    counting as one row as they do there. A near-duplicate of a row of the pool has that row's score. Where rows count
    among their own neighbors, as under the paper's presets, so do the new ones.
    """
    check_embeddings(embeddings)
    if embeddings.shape[1] != pool.shape[1]:
        raise SelectionError(
            f"new rows have {embeddings.shape[1]} dimensions but the pool has {pool.shape[1]}; "
            "embed them with the same encoder"
        )
    if (
        selection.score is None
        or len(selection.score) != len(pool)
        or selection.parameters.get("method") != "usl"
    ):
        raise SelectionError(
            f"the selection was made by {selection.parameters.get('method')!r} on {len(selection.cluster)} rows; "
            f"give one that usl made on these {len(pool)}"
        )
    p = USL(**{name: value for name, value in selection.parameters.items() if name != "method"})
    with one_thread():
        projection = fit_projection(pool, dimensions=p.projection, normalize=p.normalize)
        rows, known = projection.apply(embeddings), projection.apply(pool)
        # The number that made the pool's scores.
        k = int(selection.diagnostics.get("neighbors") or searched(p.neighbors))
        leaders = _leaders(selection)
        near = nearest_of_others(rows, known[leaders], k=min(k, len(leaders)), workers=p.workers)
        distances, copies = near.distances, near.distances[:, 0] <= p.near_duplicates
        if p.count_self:
            # As each row of the pool was: the first of its k neighbors, at distance 0.
            distances = np.concatenate([np.zeros((len(rows), 1), np.float32), distances], axis=1)[:, :k]
        # One floor for both: what the pool's densest rows reached.
        score = np.minimum(density(distances), selection.score.max()).astype(np.float32)
        score[copies] = selection.score[leaders[near.indices[copies, 0]]]
        cluster = np.empty(len(rows), dtype=np.int32)
        apart = np.empty(len(rows), dtype=np.float32)
        picks = known[selection.indices]
        for block in row_blocks(len(rows), size=max(1, 4_000_000 // len(picks))):
            to_picks = squared_distances(rows[block], picks)
            cluster[block] = to_picks.argmin(axis=1)
            apart[block] = to_picks.min(axis=1)
    order = np.argsort(-(apart * score), kind="stable").astype(np.int64)
    sparse = float((score < np.quantile(selection.score, SPARSE_SHARE)).mean())
    new_run, reason = _advice(len(rows), len(known), sparse)
    return NewRows(score, cluster, order, sparse, new_run, reason)


def _leaders(selection: Selection) -> NDArray[np.int64]:
    """Return a row of each group of near-duplicates, ascending: they share score and pick, others do by chance only."""
    assert selection.score is not None, "USL scores rows"
    if not selection.diagnostics.get("near_duplicate_rows"):
        return np.arange(len(selection.score))
    keys = selection.cluster.astype(np.int64) << 32 | selection.score.view(np.uint32)
    _, first = np.unique(keys, return_index=True)
    return np.sort(first)


def _advice(new: int, known: int, sparse: float) -> tuple[bool, str]:
    """Decide on a new run from the numbers of new and known rows, and say why."""
    if new >= GROWTH * known:
        return True, f"{new} new rows are {new / known:.0%} of the pool of {known}: a new run is worthwhile"
    # Three standard errors above what chance gives rows of the same kind, and twice the share.
    border = max(2 * SPARSE_SHARE, SPARSE_SHARE + 3 * np.sqrt(SPARSE_SHARE * (1 - SPARSE_SHARE) / new))
    if sparse > border:
        return True, (
            f"{sparse:.0%} of {new} new rows lie where the pool is sparse ({SPARSE_SHARE:.0%} expected): "
            "they are of a new kind and a new run is worthwhile"
        )
    return False, f"{new} new rows look like the pool: they queue behind the picks"
