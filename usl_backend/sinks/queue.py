"""Last stage: put the chosen tasks first in Label Studio. How Label Studio is made to do so is in `studio/queue.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from usl_backend.errors import StudioError
from usl_backend.studio.queue import QueueState
from usl_backend.studio.queue import publish as publish_queue
from usl_backend.studio.verification import verify_first

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.studio.client import Project, StudioClient


def publish(
    client: StudioClient,
    run: Run,
    *,
    store: RunStore,
    project_id: int,
    project_key: str,
    picks: Sequence[int],
    reserve: Sequence[int],
    control: Sequence[int] = (),
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Make Label Studio serve picks in order, control set, then reserve; a dry run only says what it would do.

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
    project_id, project_key
        Whose queue it is; the key has the creation time.
    picks, reserve
        Task ids, first to last; disjoint.
    control
        Task ids of the control set, disjoint from the reserve; those that are picks keep the place of a pick.
    progress
        Called as `progress(done, total)`.

    Returns
    -------
    dict
        The published artifact, JSON-able.
    """
    chosen, drawn = set(picks), set(control)
    behind = [task for task in control if task not in chosen]
    ids = [*picks, *behind, *reserve]
    roles = ["pick"] * len(picks) + ["control"] * len(behind) + ["reserve"] * len(reserve)
    queue = [
        # a pick may be part of the control set too, so its role alone does not tell
        {"task": int(task), "rank": rank, "role": role} | ({"control": True} if task in drawn else {})
        for rank, (task, role) in enumerate(zip(ids, roles, strict=True))
    ]
    if run.dry_run:
        nothing: dict[str, Any] = {
            "model_version": None,
            "view_id": None,
            "carried_over": [],
            "warnings": [],
            "verified": None,
        }
        return {"queue": queue, **nothing}
    known = store.queue_state(project_key)
    # With the key that the tasks were listed under: a project that took the id since is refused.
    project = replace(client.project(project_id), key=project_key)
    published = publish_queue(
        client,
        project,
        run_id=run.id,
        installation=store.installation,
        picks=picks,
        reserve=[*behind, *reserve],
        state=QueueState.from_json(known) if known is not None else None,
        save=lambda state: store.save_queue_state(project_key, state.to_json()),
        progress=progress,
    )
    store.save_queue_state(project_key, published.state.to_json())
    verified = _read_back(client, project, ids, files=store.files(run.id))
    warnings = list(published.warnings)
    if not verified["ok"]:
        warnings.append(verified["detail"])
    return {
        "queue": queue,
        "model_version": published.model_version,
        "view_id": published.view_id,
        "carried_over": list(published.carried_over),
        "warnings": warnings,
        "verified": verified,
    }


def _read_back(
    client: StudioClient, project: Project, ranked: Sequence[int], *, files: RunFiles
) -> dict[str, Any]:
    """Whether an annotator would now be served the first pick; the queue stands whatever comes of asking."""
    try:
        with files.reading_back() as left:
            found = verify_first(client, project, ranked, left=left)
    except StudioError as error:
        return {"ok": False, "outcome": "unknown", "detail": f"the order could not be read back: {error}"}
    return {"ok": found.ok, "outcome": found.outcome, "detail": found.detail}
