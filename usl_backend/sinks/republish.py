"""Publish the queue of a finished run again, after it was damaged or replaced in Label Studio."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usl_backend.errors import RunError
from usl_backend.instances import Place, Queue
from usl_backend.runs import RunState
from usl_backend.runs.lock import Lock
from usl_backend.settings import RunSettings
from usl_backend.sinks.changes import changes_of
from usl_backend.sinks.queue import publish, tab_of

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunStore
    from usl_backend.runs.published import Published
    from usl_backend.studio.client import StudioClient


def republish(run: Run, *, store: RunStore, client: StudioClient, progress: Progress) -> Published:
    """Put the queue of a finished run in force as it was published: predictions, model version, sampling and tab.

    Nothing is selected again. Tasks that were labeled since keep their place, which Label Studio passes over; those
    that were deleted are left out. A queue that is in force and whole stays as it is.

    Parameters
    ----------
    run
        A run that is done and wrote to a project.
    store, client
        As for `execute`.
    progress
        Receives the number of predictions written.

    Raises
    ------
    RunError
        The run is not done or has published nothing, or another process works on it.
    InputError
        The project was replaced, or its tasks show something else now.
    StudioError
        Label Studio refuses the request or fails; the call can be repeated.
    """
    into = run.published_to
    if run.state is not RunState.DONE:
        raise RunError(f"run {run.id} is {run.state.value}; `usl-backend resume {run.id}` publishes it")
    if into is None or run.dry_run:
        raise RunError(f"run {run.id} has published nothing to a project, so there is nothing to repeat")
    files = store.files(run.id)
    with Lock(files.lock):
        before = files.read_published()
        project = replace(client.project(into.id), key=into.key)
        theirs = Queue(
            tuple(
                Place(task, place.rank, place.role, place.control)
                for task, place in zip(before.queue.tasks, before.queue.places, strict=True)
            )
        )
        if not run.pool and files.has_instances():
            changes_of(
                client,
                project,
                before.queue.tasks,
                read={instance.id: instance for instance in files.read_instances()},
                inventory=files.read_inventory(),
                settings=RunSettings.from_json(run.settings),
            )
        done = publish(client, run, project, theirs, store=store, progress=progress)
        after = replace(
            before,
            model_version=done.model_version,
            view_id=done.view_id,
            carried_over=done.carried_over,
            verified=done.verified,
        )
        files.write_published(after)
        store.amend(
            run.id,
            model_version=done.model_version,
            tab=tab_of(client.browser_url, into.id, done),
            carried_over=len(done.carried_over),
            verified=done.verified,
        )
    return replace(after, warnings=done.warnings)
