"""Selections with other seeds: the same method on the pool, or on an evenly spaced part of a large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.report.layout import shown_rows
from usl_backend.selection.steering import EXCLUDED, KEPT_OUT, PINNED, select_steered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection.base import Neighbors, Selection
    from usl_backend.settings import RunSettings

ROWS: Final = 10_000
"""Rows up to which other seeds choose from the whole pool."""
ROWS_PER_PICK: Final = 10
"""Rows per pick at least, where that is more."""


@dataclass(frozen=True)
class Again:
    """A pool, or a part of it, to choose from with any seed.

    Attributes
    ----------
    rows : (s,) int64
        Rows of the pool that are chosen from, ascending.
    own
        The run's selection, or where that is of more rows the selection from these with its seed.
    """

    settings: RunSettings
    embeddings: NDArray[np.floating[Any]]
    rows: NDArray[np.int64]
    pinned: NDArray[np.int64]
    held: NDArray[np.int64]
    excluded: NDArray[np.int64]
    outliers: NDArray[np.int64]
    budget: int
    neighbors: Neighbors | None
    own: Selection | None

    def choose(self, number: int) -> Selection:
        """Choose with the `number`-th other seed, around the same pinned rows; 0 is the run's own seed."""
        method = self.settings.selector()
        return select_steered(
            lambda part, count: method.select(
                part.embeddings,
                count,
                rng=(self.settings.seed + number) % 2**32,
                labeled=part.labeled if len(part.labeled) else None,
                excluded=part.excluded if len(part.excluded) else None,
                neighbors=self.neighbors,
            ),
            self.embeddings,
            self.budget,
            pinned=self.pinned,
            labeled=self.held,
            excluded=self.excluded,
            outliers=self.outliers,
        )


def again(
    embeddings: NDArray[np.floating[Any]],
    selection: Selection,
    settings: RunSettings,
    *,
    held: NDArray[np.int64],
) -> Again:
    """Prepare selections with other seeds, from at most `ROWS` rows or `ROWS_PER_PICK` per pick.

    Parameters
    ----------
    embeddings : (n, d) float
        The pool.
    selection
        The run's selection.
    settings
        Its settings.
    held : (l,) int64
        Labeled rows.

    Notes
    -----
    Pinned rows are among those of a part, and labeled ones if these are at most half of it. Where too few rows of the
    part may be picked, all of the pool are chosen from.
    """
    pinned, excluded, outliers = (
        np.asarray(selection.diagnostics.get(name, ()), dtype=np.int64)
        for name in (PINNED, EXCLUDED, KEPT_OUT)
    )
    budget = len(selection.indices)
    most = max(ROWS, ROWS_PER_PICK * budget)
    kept = np.union1d(pinned, held) if len(held) <= most // 2 else pinned
    rows = shown_rows(len(embeddings), kept, most=most)
    barred = np.concatenate([held, excluded, outliers])
    if np.count_nonzero(~np.isin(rows, barred)) < 2 * budget:
        rows = np.arange(len(embeddings))
    whole = len(rows) == len(embeddings)
    part = embeddings if whole else np.ascontiguousarray(embeddings[rows])
    away = np.flatnonzero(np.isin(rows, outliers))
    return Again(
        settings=settings,
        embeddings=part,
        rows=rows,
        pinned=np.searchsorted(rows, pinned),
        held=np.flatnonzero(np.isin(rows, held)),
        excluded=np.flatnonzero(np.isin(rows, excluded)),
        outliers=away,
        budget=budget,
        # searched once for all seeds, because it depends on none
        neighbors=settings.selector().search(np.delete(part, away, axis=0) if len(away) else part),
        own=selection if whole else None,
    )
