"""Rank labels by how much the other labels speak against them. None is ever corrected here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError
from usl_backend.suggestions.control import Control, check_rows
from usl_backend.suggestions.ground import check_labels, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection import Neighbors

FOLDS: Final = 10
ENOUGH: Final = 4
"""Labels per class, on average, from which doubts are worth a look without a control set."""


@dataclass(frozen=True)
class LabelCheck:
    """Doubt about each label.

    Attributes
    ----------
    rows : (l,) int64
        Rows whose label was judged, most doubtful first, ties by row.
    label : (l,) int64
        Their labels.
    doubt : (l,) float64
        0 to 1, higher = more likely wrong; an order, not a chance.
    likely : (l,) int64
        Class that the other labels suggest.
    unjudged : (u,) int64
        Labeled rows that are the only ones of their class: nothing can be said about those.
    enough
        True with a control set, or from 4 labels per class on: with fewer the order is too poor to be shown.
    """

    rows: NDArray[np.int64]
    label: NDArray[np.int64]
    doubt: NDArray[np.float64]
    likely: NDArray[np.int64]
    unjudged: NDArray[np.int64]
    enough: bool


def label_check(
    rows: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    control: Control | None = None,
    neighbors: Neighbors | None = None,
    class_rows: NDArray[np.floating[Any]] | None = None,
    classes: int | None = None,
    seed: int = 0,
    workers: int = 1,
) -> LabelCheck:
    """Rank labels by how much the others speak against them.

    Parameters
    ----------
    rows : (n, d) float16, float32 or float64
        The pool as an encoder gives it.
    labels : (n,) integers
        Class of each row, 0 or more; -1 where there is none.
    control
        Labels of a uniform draw, used and judged like the others; where a row has both, the one in `labels` counts.
    neighbors, class_rows, classes, workers
        As for `suggest`.
    seed
        Of the folds, and of the neighbor search in large pools.

    Returns
    -------
    LabelCheck

    Raises
    ------
    SelectionError, InputError
        As for `suggest`, or no class with two labels.

    Notes
    -----
    Doubt = 1 - p(given label), p being the mean of the two softmaxes of `suggest` when the label, with a tenth of all
    others, is left out: ten-fold cross-validation, each class spread over the folds, so that none
    loses all its labels at once.

    Source: Northcutt, Jiang, Chuang, *Confident Learning*, JAIR 70, 2021, for out-of-sample p(given label).

    Differs: labels are ranked only; no number of errors is estimated, which a few labels do not allow.
    """
    names = None if class_rows is None else len(class_rows)
    labels = check_labels(labels, n=len(rows), classes=classes, names=names)
    if control is not None and len(control.rows):
        check_rows(control, n=len(labels))
        new = labels[control.rows] < 0
        labels[control.rows[new]] = control.labels[new]
        labels = check_labels(labels, n=len(labels), classes=classes, names=names)
    labeled = np.flatnonzero(labels >= 0)
    counts = np.bincount(labels[labeled]) if len(labeled) else np.zeros(1, dtype=np.int64)
    alone = (counts[labels[labeled]] < 2) & (names is None)
    unjudged, judged = labeled[alone], labeled[~alone]
    if not len(judged):
        raise InputError(
            f"{len(labeled)} labels, and no class has two of them; a label is judged by others of its class"
        )
    ground = prepare(rows, neighbors=neighbors, class_rows=class_rows, seed=seed, workers=workers)
    doubt = np.empty(len(judged))
    likely = np.empty(len(judged), dtype=np.int64)
    fold = _folds(labels[judged], np.random.default_rng(seed))
    for number in range(int(fold.max()) + 1):
        held = np.flatnonzero(fold == number)
        known = labels.copy()
        known[judged[held]] = -1
        found = ground.shares(known)
        shares = found.mean[judged[held]]
        likely[held] = found.classes[shares.argmax(axis=1)]
        place = np.searchsorted(found.classes, labels[judged[held]])
        doubt[held] = 1.0 - shares[np.arange(len(held)), place]
    order = np.lexsort((judged, -doubt))
    per_class = len(labeled) / max(1, int((counts > 0).sum()))
    return LabelCheck(
        rows=judged[order],
        label=labels[judged[order]],
        doubt=doubt[order],
        likely=likely[order],
        unjudged=unjudged,
        enough=per_class >= ENOUGH or (control is not None and len(control.rows) > 0),
    )


def _folds(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Fold of each label: every class is dealt out over the folds, so that none loses all its labels at once."""
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = min(FOLDS, len(labels))
    result = np.empty(len(labels), dtype=np.int64)
    result[by_class] = np.arange(len(labels)) % folds
    return result
