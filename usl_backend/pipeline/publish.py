"""Last stage: put the chosen tasks first in Label Studio. How Label Studio is made to do so is in `studio/queue.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from usl_backend.studio.queue import QueueState
from usl_backend.studio.queue import publish as publish_queue

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import StudioClient


def publish(
    client: StudioClient,
    run: Run,
    *,
    store: RunStore,
    project_key: str,
    picks: Sequence[int],
    reserve: Sequence[int],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Make Label Studio serve the picks in order, then the reserve; a dry run only says what it would do.

    What Label Studio looked like before is remembered in the store before anything is changed, so that a reset
    finds it even when this process dies on the way.

    Parameters
    ----------
    client
        Door to Label Studio.
    run
        The run; its id names the model version.
    store
        Remembers the project's queue state.
    project_key
        Project id with creation time.
    picks, reserve
        Task ids, first to last; disjoint.
    progress
        Called as `progress(done, total)`.

    Returns
    -------
    dict
        The published artifact, JSON-able.
    """
    ids = [*picks, *reserve]
    roles = ["pick"] * len(picks) + ["reserve"] * len(reserve)
    queue = [
        {"task": int(task), "rank": rank, "role": role}
        for rank, (task, role) in enumerate(zip(ids, roles, strict=True))
    ]
    if run.dry_run:
        return {"queue": queue, "model_version": None, "view_id": None, "carried_over": [], "warnings": []}
    known = store.queue_state(project_key)
    published = publish_queue(
        client,
        # With the key that the tasks were listed under: a project that took the id since is refused.
        replace(client.project(run.project), key=project_key),
        run_id=run.id,
        picks=picks,
        reserve=reserve,
        state=QueueState.from_json(known) if known is not None else None,
        save=lambda state: store.save_queue_state(project_key, state.to_json()),
        progress=progress,
    )
    store.save_queue_state(project_key, published.state.to_json())
    return {
        "queue": queue,
        "model_version": published.model_version,
        "view_id": published.view_id,
        "carried_over": list(published.carried_over),
        "warnings": list(published.warnings),
    }
