"""Tasks that people ask for while a queue is in force, single ones or those most like one; behind the picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError
from usl_backend.runs.lock import Lock
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import row_blocks
from usl_backend.settings import RunSettings
from usl_backend.sinks.queue import version_in_force
from usl_backend.sources.wishes import excluded_tasks
from usl_backend.studio.insertion import insert, take_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.instances import Pool
    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import StudioClient

MOST: Final = 10_000
"""Tasks in one request."""
_BLOCK: Final = 65_536
"""Rows compared at once."""


@dataclass(frozen=True)
class Asked:
    """What became of tasks that somebody asked for.

    Attributes
    ----------
    run
        Id of the run whose queue is in force.
    tasks
        Tasks of this request that are in the queue now, in labeling order.
    new
        Those of them that this request queued or moved up; in a dry run, that it would.
    removed
        Tasks that this request took out.
    passed_over
        Task -> why it was not queued, or not taken out.
    """

    run: str
    tasks: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    passed_over: Mapping[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return {**asdict(self), "passed_over": {str(task): why for task, why in self.passed_over.items()}}


def queue_tasks(
    run: Run,
    tasks: Sequence[int],
    *,
    store: RunStore,
    client: StudioClient,
    dry_run: bool = False,
) -> Asked:
    """Queue tasks behind the picks and the control set, and behind those asked for earlier; before all others.

    Picks and members of the control set keep their places. Repeating the call changes nothing.

    Parameters
    ----------
    run
        A completed run that owns the published queue of its project.
    tasks
        Tasks in the order in which they shall be labeled.
    store, client
        As for `execute`.
    dry_run
        Write nothing.

    Returns
    -------
    Asked
        Tasks that are labeled, deleted, excluded, or not in the run's pool are passed over, and why.

    Raises
    ------
    InputError
        No task is named, or too many; or another model version is in force.
    RunError
        Another process works on the run, or its files were removed.
    StudioError
        Label Studio refuses the request or fails; the call can be repeated.
    """
    wanted = _distinct(tasks)
    files = store.files(run.id)
    with Lock(files.lock):
        published, (pool, _) = files.read_published(), files.read_pool()
        queue = published.queue
        passed_over = _barred(wanted, pool, run, store)
        there = [one for one in wanted if one not in passed_over]
        unlabeled = {task.id: task.unlabeled for task in client.tasks_of(run.project, there)}
        for one in there:
            if not unlabeled.get(one, False):
                passed_over[one] = "it has a label" if one in unlabeled else "it was deleted"
        queued = {*queue.of_role("pick"), *queue.of_role("control"), *queue.asked}
        kept = [one for one in wanted if one not in passed_over]
        new = tuple(one for one in kept if one not in queued)
        grown = queue.with_asked(new)
        if new and not dry_run:
            project = client.project(run.project)
            insert(client, project, version=version_in_force(store, run, project), tasks=new, after=queued)
            files.write_published(replace(published, queue=grown))
            store.amend(run.id, reserve=len(grown.of_role("reserve")))
    rank = {place.instance: place.rank for place in grown.places}
    return Asked(run.id, tuple(sorted(kept, key=rank.__getitem__)), new, (), passed_over)


def unqueue_tasks(
    run: Run, tasks: Sequence[int], *, store: RunStore, client: StudioClient, dry_run: bool = False
) -> Asked:
    """Take tasks out of the queue that were asked for; picks, control set and other spares stay.

    Parameters, result and errors are those of `queue_tasks`.
    """
    wanted = _distinct(tasks)
    files = store.files(run.id)
    with Lock(files.lock):
        published = files.read_published()
        asked = set(published.queue.asked)
        gone = tuple(one for one in wanted if one in asked)
        if gone and not dry_run:
            project = client.project(run.project)
            take_out(client, project, version=version_in_force(store, run, project), tasks=gone)
            left = published.queue.without_asked(gone)
            files.write_published(replace(published, queue=left))
            store.amend(run.id, reserve=len(left.of_role("reserve")))
    others = {one: "nobody asked for it" for one in wanted if one not in asked}
    return Asked(run.id, removed=gone, passed_over=others)


def similar_tasks(
    run: Run, task: int, count: int, *, store: RunStore, client: StudioClient
) -> tuple[int, ...]:
    """Return the unlabeled tasks most like one, by the rows of the run: exact, nearest first, ties by id.

    Parameters
    ----------
    run
        A completed run of a project.
    task
        A task of its pool, labeled or not.
    count
        Number of tasks; fewer if fewer are left. Queued ones count, excluded ones do not.
    store, client
        As for `queue_tasks`.

    Raises
    ------
    InputError
        The task is not in the pool, `count` is out of bounds, or no task is left.
    """
    if not 1 <= count <= MOST:
        raise InputError(f"tasks is {count}; give 1 to {MOST:,}")
    pool, _ = store.files(run.id).read_pool()
    row = pool.row_of(task)
    if row is None:
        raise InputError(
            f"task {task} is not among the {len(pool):,} tasks that run {run.id} has read: it had a label, could not "
            "be read, or was added later; choose another, or start a new run"
        )
    barred = {task, *_excluded(run, store)}
    near = [one for one in pool.ids[nearest_rows(pool.embeddings, row)].tolist() if one not in barred]
    found: list[int] = []
    start, size = 0, 2 * count + 20
    while start < len(near) and len(found) < count:
        some = near[start : start + size]
        free = {one.id for one in client.tasks_of(run.project, some) if one.unlabeled}
        found += [one for one in some if one in free]
        start += size
    if not found:
        raise InputError(f"no unlabeled task is left that is like task {task}")
    return tuple(found[:count])


def nearest_rows(embeddings: NDArray[np.floating[Any]], row: int) -> NDArray[np.int64]:
    """Return all rows (n,) of the embeddings (n, d) by distance to one of them, ties by row."""
    point = np.asarray(embeddings[row : row + 1], dtype=np.float32)
    apart = np.empty(len(embeddings), dtype=np.float32)
    for block in row_blocks(len(embeddings), size=_BLOCK):
        apart[block] = squared_distances(np.asarray(embeddings[block], dtype=np.float32), point)[:, 0]
    return np.argsort(apart, kind="stable")


def _distinct(tasks: Sequence[int]) -> tuple[int, ...]:
    """Return tasks, each once; refuse none and too many."""
    found = tuple(dict.fromkeys(tasks))
    if not found:
        raise InputError("no task is named; give the ids of the tasks to queue")
    if len(found) > MOST:
        raise InputError(f"{len(found):,} tasks are named; queue at most {MOST:,} at a time")
    return found


def _barred(tasks: Sequence[int], pool: Pool, run: Run, store: RunStore) -> dict[int, str]:
    """Return why tasks cannot be queued, by what is known here."""
    known = dict(zip(tasks, np.isin(np.asarray(tasks, dtype=np.int64), pool.ids).tolist(), strict=True))
    barred = _excluded(run, store)
    return {
        one: "it is excluded" if one in barred else f"it is not in the pool of run {run.id}"
        for one in tasks
        if one in barred or not known[one]
    }


def _excluded(run: Run, store: RunStore) -> set[int]:
    """Return the tasks that the run excluded, and those that are excluded now."""
    into = run.published_to
    standing = () if into is None else store.wishes(into.key).excluded
    return {*standing, *excluded_tasks(RunSettings.from_json(run.settings))}
