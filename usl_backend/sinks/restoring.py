"""Take a project's queue back: restore what runs have changed in Label Studio, and forget who owned the queue."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from usl_backend.runs.lock import Lock
from usl_backend.studio.reset import reset

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.runs import RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project
    from usl_backend.studio.reset import ResetReport


def restore(
    client: StudioClient, project: Project, *, store: RunStore, progress: Progress | None = None
) -> ResetReport:
    """Restore a project's sampling, model version, tab and predictions to their state before the first run.

    Parameters
    ----------
    progress
        Receives the number of predictions deleted.

    Raises
    ------
    ActiveRunError
        The project has an active run.
    RunError
        Something is being written for the run in force, which would be in force again after the reset.
    """
    store.refuse_second(project=project.id)
    state = store.queue_state(project.key)
    with nullcontext() if state is None else Lock(store.files(state.run_id).lock):
        report = reset(client, project, state, progress=progress)
        store.save_queue_state(project.key, None)
    return report
