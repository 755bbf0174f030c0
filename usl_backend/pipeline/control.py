"""Control set of a run in force, drawn or enlarged after the run; `studio.insertion` queues it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import InputError
from usl_backend.instances import FEWEST_CONTROLS
from usl_backend.progress import ignore
from usl_backend.runs.lock import Lock
from usl_backend.settings import RunSettings
from usl_backend.sinks.control import further_rows
from usl_backend.sinks.queue import version_in_force
from usl_backend.sources.wishes import excluded_tasks
from usl_backend.studio.insertion import insert

if TYPE_CHECKING:
    from usl_backend.instances import Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import StudioClient


@dataclass(frozen=True)
class Drawn:
    """The control set of a run after a draw.

    Attributes
    ----------
    run
        Id of the run.
    size
        Tasks in the control set that still exist.
    new
        Tasks drawn by this call, in labeling order, picks among them included.
    picks
        Tasks of the control set that are picks.
    labeled
        Tasks of the control set that were annotated already.
    queued
        Predictions written to Label Studio by this call.
    """

    run: str
    size: int
    new: tuple[int, ...]
    picks: int
    labeled: int
    queued: int

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return asdict(self)


def draw_control(
    run: Run,
    *,
    tasks: int,
    store: RunStore,
    client: StudioClient,
    progress: Progress = ignore,
    dry_run: bool = False,
) -> Drawn:
    """Bring the control set of a run in force to a number of tasks, and queue them right behind the picks.

    They are drawn uniformly from the pool as it was at the run; tasks added since are not in it, tasks deleted since
    are left out, and so are excluded ones. What was drawn before stays, and annotated tasks count like
    others. Repeating the call changes nothing.

    Parameters
    ----------
    run
        A completed run that owns the published queue of its project.
    tasks
        Size of the whole control set.
    store, client
        As for `execute`.
    progress
        Receives the number of tasks listed.
    dry_run
        Draw, but write nothing.

    Raises
    ------
    InputError
        Fewer tasks than any figure needs, or more than the pool has.
    RunError
        Another process works on the run, or its files were removed.
    StudioError
        Label Studio refuses the request or fails; the call can be repeated.
    """
    if tasks < FEWEST_CONTROLS:
        raise InputError(
            f"tasks is {tasks}, but nothing can be measured on a control set of fewer than {FEWEST_CONTROLS}; "
            f"draw {FEWEST_CONTROLS} or more"
        )
    files = store.files(run.id)
    with Lock(files.lock):
        published, (pool, _) = files.read_published(), files.read_pool()
        annotated = {
            task.id: not task.unlabeled
            for task in client.tasks(run.project, only_unlabeled=False, progress=progress)
        }
        settings = RunSettings.from_json(run.settings)
        barred = (
            *files.read_inventory().labeled,
            *excluded_tasks(settings),
            *store.wishes(files.read_inventory().key).excluded,
        )
        new = _draw(run, pool, published.queue, tasks, held=barred, present=annotated)
        queue = published.queue.with_control(new)
        queued = 0
        if new and not dry_run:
            behind = tuple(task for task in queue.of_role("control") if task in annotated)
            project = client.project(run.project)
            queued = insert(
                client,
                project,
                version=version_in_force(store, run, project),
                tasks=behind,
                after=set(queue.of_role("pick")),
            )
            files.write_published(replace(published, queue=queue))
            reserve = len(queue.of_role("reserve"))
            store.amend(run.id, control=len(queue.control_set), reserve=reserve)
    members = [task for task in queue.control_set if task in annotated]
    picks = set(queue.of_role("pick"))
    return Drawn(
        run=run.id,
        size=len(members),
        new=new,
        picks=sum(task in picks for task in members),
        labeled=sum(annotated[task] for task in members),
        queued=queued,
    )


def _draw(
    run: Run, pool: Pool, queue: Queue, tasks: int, *, held: tuple[int, ...], present: dict[int, bool]
) -> tuple[int, ...]:
    """Draw what is lacking from the rows that the run could have drawn."""
    there = np.fromiter(present, np.int64, len(present))
    frame = np.isin(pool.ids, there) & ~np.isin(pool.ids, np.asarray(held, dtype=np.int64))
    known = np.isin(pool.ids, np.asarray(queue.control_set, dtype=np.int64))
    if tasks > frame.sum():
        raise InputError(
            f"tasks is {tasks} but run {run.id} has only {frame.sum()} tasks to draw from; "
            f"lower tasks to {frame.sum()} or less"
        )
    rows = further_rows(
        np.flatnonzero(frame & ~known),
        max(0, tasks - int((frame & known).sum())),
        n=len(pool),
        seed=RunSettings.from_json(run.settings).seed,
    )
    return tuple(pool.ids[rows].tolist())
