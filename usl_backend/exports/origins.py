"""Origin of the rows of an export: the queue that a task was labeled in, of this run or of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.runs import RunState

if TYPE_CHECKING:
    from usl_backend.exports.split import RowRole
    from usl_backend.instances import Place
    from usl_backend.runs import Run, RunStore

_RUNS = 1_000
"""Number of a project's newest runs that are looked through."""


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Place of a task in the queue of a run.

    Attributes
    ----------
    role, rank
        Its role and rank there; "pool" or "outside", and None, without a queue.
    run
        The run; None without a queue.
    """

    role: RowRole
    rank: int | None = None
    run: str | None = None


class Origins:
    """Origins of the tasks that a run exports.

    Parameters
    ----------
    store
        Holds the run and the earlier ones of its project.
    run
        The run that is exported.
    """

    def __init__(self, store: RunStore, run: Run) -> None:
        self._run = run.id
        self._queued = _places(store, run)
        self._earlier: dict[int, tuple[str, Place]] = {}
        # Newest last: that is the queue in which the task still was when it was labeled.
        for one in reversed(_earlier_runs(store, run)):
            self._earlier.update((task, (one.id, place)) for task, place in _places(store, one).items())

    def of(self, task: int, *, labeled: bool, outside: bool) -> RowOrigin:
        """Return the origin of a task.

        Parameters
        ----------
        labeled
            It has a label; an unlabeled task has left the queues of earlier runs.
        outside
            It is not in the pool of the run.
        """
        if (place := self._queued.get(task)) is not None:
            return RowOrigin(place.role, place.rank, self._run)
        if labeled and task in self._earlier:
            run, place = self._earlier[task]
            return RowOrigin(place.role, place.rank, run)
        return RowOrigin("outside" if outside else "pool")


def _places(store: RunStore, run: Run) -> Mapping[int, Place]:
    """Return task (or row of a pool outside Label Studio) -> place in a run's queue."""
    return {place.instance: place for place in store.files(run.id).read_published().queue.places}


def _earlier_runs(store: RunStore, run: Run) -> list[Run]:
    """Return the earlier runs of a project that were published, newest first; none for a pool outside Label Studio."""
    if run.pool:
        return []
    runs = store.list(project=run.project, state=RunState.DONE, limit=_RUNS)
    place = next((number for number, one in enumerate(runs) if one.id == run.id), len(runs))
    return [
        one
        for one in runs[place + 1 :]
        if not one.dry_run and one.project_key == run.project_key and store.files(one.id).has_published()
    ]
