"""Make up for what happened to the chosen tasks while a run computed; the pipeline publishes the result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.instances import Queue
from usl_backend.sinks.control import further_rows
from usl_backend.sinks.reserve import reserve_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from usl_backend.instances import Pool
    from usl_backend.selection.base import Neighbors, Selection
    from usl_backend.settings import RunSettings
    from usl_backend.sinks.changes import Changes

MADE_UP: Final = "made_up"
"""Key of the replaced picks in a selection's diagnostics."""
_ROUNDS: Final = 3
"""Rounds in which only the tasks of the queue are looked up; after them everything is."""


def current_queue(
    pool: Pool,
    selection: Selection,
    *,
    barred: NDArray[np.int64],
    unpicked: NDArray[np.int64],
    drawn: NDArray[np.int64],
    settings: RunSettings,
    neighbors: Neighbors | None,
    changes: Callable[[Sequence[int]], Changes],
) -> tuple[Selection, Queue]:
    """Build the queue of tasks that still can be labeled: picks, control set, reserve.

    A pick that was deleted or labeled meanwhile is replaced by the next best row of its own cluster. A deleted task of
    the control set is replaced by a further draw; a labeled one stays, since it is as good to measure on.

    Parameters
    ----------
    pool, selection
        The embedded tasks and the rows chosen among them.
    barred : (b,) int64
        Rows that must not be queued: those that had labels before, and excluded ones.
    unpicked : (u,) int64
        Further rows that must be neither picks nor spares.
    drawn : (c,) int64
        Rows of the control set.
    settings
        Gives the size of the reserve, and the seed.
    neighbors
        Nearest neighbors of every row; None where the method needs none.
    changes
        Looks up tasks in Label Studio.

    Returns
    -------
    (Selection, Queue)
        The selection with its replaced picks, the same one if there are none, and the queue.
    """
    n = len(pool)
    free, held = np.setdiff1d(np.arange(n), barred), np.union1d(barred, unpicked)
    known, deleted, taken = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    for attempt in range(n + 1):
        lost = deleted | taken
        chosen = without_lost(pool, selection, lost=lost, barred=held)
        control = _control(drawn, free, deleted, seed=settings.seed)
        reserve = reserve_rows(
            chosen,
            settings.reserve,
            excluded=np.concatenate([held, control, np.flatnonzero(lost)]),
            neighbors=neighbors,
        )
        rows = np.unique(np.concatenate([chosen.indices, control, reserve]))
        if attempt >= _ROUNDS:
            rows = free
        unknown = rows[~known[rows]]
        if not len(unknown):
            break
        found = changes(pool.ids[unknown].tolist())
        known[unknown] = True
        deleted[unknown] = np.isin(pool.ids[unknown], list(found.deleted))
        taken[unknown] = np.isin(pool.ids[unknown], list(found.labeled))
    return chosen, Queue.of(
        pool.ids[chosen.indices].tolist(),
        control=pool.ids[control].tolist(),
        reserve=pool.ids[reserve].tolist(),
    )


def without_lost(
    pool: Pool, selection: Selection, *, lost: NDArray[np.bool_], barred: NDArray[np.int64]
) -> Selection:
    """Replace each lost pick by the highest-scored free row of its cluster, or of the pool if its cluster has none.

    Parameters
    ----------
    lost : (n,) bool
        Rows that cannot be queued.
    barred : (b,) int64
        Rows that are not free either.

    Returns
    -------
    Selection
        With the replaced picks in its diagnostics. Picks that no row is left for stay.
    """
    ranks = np.flatnonzero(lost[selection.indices])
    if not len(ranks):
        return selection
    indices, cluster = selection.indices.copy(), selection.cluster.copy()
    worth = np.zeros(len(cluster)) if selection.score is None else np.asarray(selection.score, float)
    free = ~lost
    free[barred] = False
    free[indices] = False
    replaced = []
    for rank in ranks.tolist():
        own = np.flatnonzero(free & (cluster == rank))
        if not len(own):
            own = np.flatnonzero(free)
        if not len(own):
            break
        best = int(own[np.argmax(worth[own])])
        replaced.append({"rank": rank, "task": int(pool.ids[indices[rank]]), "by": int(pool.ids[best])})
        indices[rank], cluster[best], free[best] = best, rank, False
    earlier = selection.diagnostics.get(MADE_UP, ())
    diagnostics = {**selection.diagnostics, MADE_UP: [*earlier, *replaced]}
    return replace(selection, indices=indices, cluster=cluster, diagnostics=diagnostics)


def made_up_warnings(selection: Selection, queue: Queue) -> list[str]:
    """Return what to tell about replaced picks."""
    replaced = selection.diagnostics.get(MADE_UP, ())
    if not replaced:
        return []
    count, picks = len({one["rank"] for one in replaced}), len(queue.of_role("pick"))
    first = replaced[0]["task"]
    told = f"{count} of {picks} picks (first: task {first}) were labeled or deleted while the run computed;"
    return [f"{told} the next best tasks of their clusters took their places"]


def _control(
    drawn: NDArray[np.int64], free: NDArray[np.int64], deleted: NDArray[np.bool_], *, seed: int
) -> NDArray[np.int64]:
    """Replace the deleted rows of a control set by a further draw."""
    staying = drawn[~deleted[drawn]]
    frame = np.setdiff1d(free[~deleted[free]], drawn)
    lacking = min(len(drawn) - len(staying), len(frame))
    return np.concatenate([staying, further_rows(frame, lacking, n=len(deleted), seed=seed)])
