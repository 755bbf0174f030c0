"""Picks that somebody asked for, and the rows that a method chooses around them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection.base import Selection
from usl_backend.selection.picking import nearest_projected_pick

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PINNED: Final = "pinned"
EXCLUDED: Final = "excluded"
KEPT_OUT: Final = "kept_out"
"""Keys of the pinned and excluded rows, and of the outliers, in a selection's diagnostics; absent if there are none."""
NOTHING: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Part:
    """What a method sees: the pool, or the rows of it that are no outliers.

    Attributes
    ----------
    embeddings : (i, d) float
        Its rows.
    labeled, excluded : (l,), (e,) int64
        Rows of the part.
    inside : (i,) int64 or None
        Place of each row in the pool; None if the part is the pool.
    """

    embeddings: NDArray[np.floating[Any]]
    labeled: NDArray[np.int64]
    excluded: NDArray[np.int64]
    inside: NDArray[np.int64] | None = None


def select_steered(
    choose: Callable[[Part, int], Selection],
    embeddings: NDArray[np.floating[Any]],
    budget: int,
    *,
    pinned: NDArray[np.int64],
    labeled: NDArray[np.int64],
    excluded: NDArray[np.int64],
    outliers: NDArray[np.int64],
) -> Selection:
    """Choose around what people have asked for; outliers are no rows for the method, so that none has a cluster.

    Parameters
    ----------
    choose
        Called with what the method sees and a budget; must not choose labeled or excluded rows.
    embeddings, budget, pinned, labeled, excluded, outliers
        As for `select_around`.

    Returns
    -------
    Selection
        As from `select_around`, where there are outliers that from `select_inside`.
    """

    def among(count: int, held: NDArray[np.int64]) -> Selection:
        if not len(outliers):
            return choose(Part(embeddings, held, excluded), count)
        inside = np.setdiff1d(np.arange(len(embeddings)), outliers)
        return select_inside(
            lambda rows, held, barred: choose(Part(rows, held, barred, inside), count),
            embeddings,
            inside,
            labeled=held,
            excluded=excluded,
        )

    return select_around(
        among,
        embeddings,
        budget,
        pinned=pinned,
        labeled=labeled,
        excluded=excluded,
        outliers=outliers,
    )


def select_around(
    choose: Callable[[int, NDArray[np.int64]], Selection],
    embeddings: NDArray[np.floating[Any]],
    budget: int,
    *,
    pinned: NDArray[np.int64],
    labeled: NDArray[np.int64],
    excluded: NDArray[np.int64],
    outliers: NDArray[np.int64] = NOTHING,
) -> Selection:
    """Choose rows around pinned ones, which come first and count within the budget.

    Parameters
    ----------
    choose
        Called with a budget and the labeled rows, ascending; must not choose `excluded` rows or `outliers`.
    embeddings : (n, d) float
        The pool.
    budget
        Picks, the pinned ones included.
    pinned : (p,) int64
        Distinct rows in the order in which they shall be labeled; neither labeled nor excluded.
    labeled, excluded : (l,), (e,) int64
        Rows that are never picked; disjoint.
    outliers : (o,) int64
        Further rows that are never picked, disjoint from all others.

    Returns
    -------
    Selection
        `diagnostics` lists the pinned and the excluded rows, and the outliers. Pinned ones add a gain of 0, since no
        method valued them. Each row goes to the nearest pick.

    Raises
    ------
    SelectionError
        More rows are pinned than the budget has, the budget is more than what may be picked, or as `choose`.

    Notes
    -----
    Differs: the paper has no picks by request. For the method the pinned rows are labeled already: those of `USL`
    hold a cluster of their own each, so that no other pick repeats them. Without pinned rows the selection is the
    method's.
    """
    if not len(pinned):
        return _told(choose(budget, labeled), pinned, excluded, outliers)
    if len(pinned) > budget:
        raise SelectionError(f"budget is {budget} but {len(pinned)} rows are pinned; raise the budget")
    n, barred = len(embeddings), len(labeled) + len(excluded) + len(outliers)
    if budget > n - barred:
        raise SelectionError(
            f"budget is {budget} but {n - barred} of {n} rows may be picked, {len(pinned)} pinned ones among them: "
            f"{len(labeled)} are labeled, {len(excluded)} excluded and {len(outliers)} outliers; "
            f"lower the budget to {n - barred} or less"
        )
    if n - barred > len(pinned):
        # With nothing left of the budget the method still scores the rows; its one pick is cut off.
        found = choose(max(1, budget - len(pinned)), np.union1d(labeled, pinned))
        others = budget - len(pinned)
    else:
        found = choose(len(pinned), labeled)
        others = 0
    picks = np.concatenate([pinned, found.indices[:others]])
    around = replace(
        found,
        indices=picks,
        gain=np.concatenate([np.zeros(len(pinned)), found.gain[:others]]),
        cluster=nearest_projected_pick(embeddings, picks),
    )
    return _told(around, pinned, excluded, outliers)


def select_inside(
    choose: Callable[[NDArray[np.floating[Any]], NDArray[np.int64], NDArray[np.int64]], Selection],
    embeddings: NDArray[np.floating[Any]],
    inside: NDArray[np.int64],
    *,
    labeled: NDArray[np.int64],
    excluded: NDArray[np.int64] = NOTHING,
) -> Selection:
    """Choose among a part of the rows, as if there were no others.

    Parameters
    ----------
    choose
        Called with the rows of the part, copied, and the labeled and the excluded among them.
    embeddings : (n, d) float
        The pool.
    inside : (i,) int64
        Rows of the part, ascending.
    labeled, excluded : (l,), (e,) int64
        Rows of the part.

    Returns
    -------
    Selection
        In rows of the pool. Those outside go to their nearest pick, and have the lowest score. Nothing is told of
        near-duplicates, which the method has found in the part only.
    """
    part = choose(embeddings[inside], np.searchsorted(inside, labeled), np.searchsorted(inside, excluded))
    picks = inside[part.indices]
    cluster = nearest_projected_pick(embeddings, picks)
    cluster[inside] = part.cluster
    score = None
    if part.score is not None:
        score = np.full(len(embeddings), part.score.min(), dtype=np.float32)
        score[inside] = part.score
    told = {name: value for name, value in part.diagnostics.items() if not name.startswith("near_duplicate")}
    return replace(part, indices=picks, score=score, cluster=cluster, diagnostics=told)


def _told(
    selection: Selection,
    pinned: NDArray[np.int64],
    excluded: NDArray[np.int64],
    outliers: NDArray[np.int64],
) -> Selection:
    """Note the wishes in the diagnostics."""
    told = {PINNED: pinned.tolist(), EXCLUDED: excluded.tolist(), KEPT_OUT: outliers.tolist()}
    diagnostics = {**selection.diagnostics, **{name: rows for name, rows in told.items() if rows}}
    return replace(selection, diagnostics=diagnostics)
