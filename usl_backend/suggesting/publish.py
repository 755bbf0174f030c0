"""Write suggestions to Label Studio behind the queue in force, by one switch; `compute.py` makes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError, RunError
from usl_backend.runs.lock import Lock
from usl_backend.sinks.queue import record_switch, version_in_force
from usl_backend.studio.annotating import annotate_from
from usl_backend.studio.bulk import CARRIED_SCORE, FRONT_SCORE, NewPrediction
from usl_backend.studio.preannotations import ACCEPTED
from usl_backend.studio.queue import put_in_force

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.instances import QueueState
    from usl_backend.progress import Progress
    from usl_backend.runs import RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.preannotations import Result
    from usl_backend.suggesting.compute import RunSuggestions

_HIDDEN: Final = (
    "the project does not show predictions to annotators, so no choice is filled in for them: turn on Settings > "
    "Annotation > Use predictions to prelabel tasks"
)
_SUREST = np.nextafter(CARRIED_SCORE, 0.0)


@dataclass(frozen=True)
class Filled:
    """Suggestions that are in force.

    Attributes
    ----------
    run, model_version
        The run, and the version that annotators see now.
    suggestions
        Tasks whose choice is filled in.
    accepted
        Those of them that are marked as accepted.
    queued
        Tasks of the queue that are served before all others.
    carried_over
        Ids of the tasks on which annotators see another model's pre-annotation instead.
    warnings
        One sentence each.
    """

    run: str
    model_version: str
    suggestions: int
    accepted: int
    queued: int
    carried_over: tuple[int, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return asdict(self)


def fill_in(
    found: RunSuggestions,
    *,
    store: RunStore,
    client: StudioClient,
    review: bool = False,
    mark: bool = False,
    progress: Progress | None = None,
) -> Filled:
    """Show annotators the suggested choice of every open task, and keep the queue in front of them.

    Everything is written under a model version of its own before the project is switched to it. The queue's tasks keep
    their order and come first; all others follow, the least sure first. Control tasks stay blank: a label that was only
    confirmed would measure nothing. An interrupted call is continued when it is repeated.

    Parameters
    ----------
    found
        Suggestions of the run in force.
    store, client
        Store of the run, and a client with a token of a user who may change the project.
    review
        Serve the suggestions right after the picks and the control set: the reserve loses its place.
    mark
        Mark what is accepted.
    progress
        Receives the number of predictions written.

    Raises
    ------
    InputError
        Another run has published to the project meanwhile.
    RunError
        Another process works on the run or has changed its queue, or a run of the project is active.
    StudioError
        Label Studio refuses or fails; what was in force before still is.
    """
    run, project = found.labels.run, found.labels.project
    store.refuse_second(project=project.id)
    files = store.files(run.id)
    with Lock(files.lock):
        # Computing took minutes: another run may have published, or a control set was drawn, which has to stay blank.
        version_in_force(store, run, client.project(project.id))
        if files.read_published().queue != found.labels.queue:
            raise RunError(
                f"the queue of run {run.id} was changed while its suggestions were computed, by tasks that somebody "
                f"queued or drew; nothing was written, repeat it: `usl-backend suggest {project.id}`"
            )
        state = store.queue_state(project.key)
        front = _front(found, state, review=review)
        new = _predictions(found, front, mark=mark)
        picks = sum(task in front for task in found.labels.queue.of_role("pick"))
        switch = put_in_force(
            client,
            project,
            new,
            run_id=run.id,
            installation=store.installation,
            below=_front_score(max(picks - 0.5, 0.0), len(front)),
            state=state,
            save=lambda state: store.save_queue_state(project.key, state),
            progress=progress,
            suggests=True,
        )
        record_switch(store, run, client, switch)
    carried = set(switch.carried_over)
    filled = [one.result for task, one in new.items() if task not in carried and one.result]
    return Filled(
        run=run.id,
        model_version=switch.model_version,
        suggestions=len(filled),
        accepted=sum(str(result[0]["id"]).startswith(ACCEPTED) for result in filled),
        queued=len(front),
        carried_over=switch.carried_over,
        warnings=(*switch.warnings, *(() if project.show_collab_predictions else (_HIDDEN,))),
    )


def annotate_accepted(
    found: RunSuggestions, filled: Filled, *, client: StudioClient, progress: Progress | None = None
) -> int:
    """Turn accepted suggestions, which `fill_in` has marked, into annotations of the token's user.

    Returns
    -------
    int
        Tasks annotated; left alone are those that somebody has annotated meanwhile, and those that show another
        model's pre-annotation.

    Raises
    ------
    InputError
        Nothing is accepted: without the promise nothing is annotated.
    StudioError
        Label Studio refuses or fails; the call can be repeated.
    """
    require_accepted(found)
    ids = found.labels.pool.ids
    rows = np.flatnonzero(found.accepted & ~np.isin(ids, filled.carried_over))
    results = {int(ids[row]): found.result(int(row), accepted=True) for row in rows}
    return annotate_from(
        client, found.labels.project.id, results, version=filled.model_version, progress=progress
    )


def require_accepted(found: RunSuggestions) -> None:
    """Raise InputError, with the number that is missing, unless something is accepted."""
    if not found.acceptance.count:
        raise InputError(f"{found.promise}; nothing was written")


def _front(found: RunSuggestions, state: QueueState | None, *, review: bool) -> list[int]:
    """Return the tasks that are served first, in order: the run's queue, and what was queued behind it later."""
    labels = found.labels
    spare = set(labels.queue.of_role("reserve")) - set(labels.queue.asked) if review else set()
    left_out = {*labels.pool.ids[~labels.alive].tolist(), *spare}
    later = () if state is None or state.run_id != labels.run.id else state.extended
    return [task for task in dict.fromkeys((*labels.queue.instances, *later)) if task not in left_out]


def _predictions(found: RunSuggestions, front: Sequence[int], *, mark: bool) -> dict[int, NewPrediction]:
    """Return the prediction of each task: rank as score in front, confidence behind it."""
    ids = found.labels.pool.ids
    shown, accepted = found.shown, found.accepted & mark
    results: dict[int, Result] = {
        int(ids[row]): found.result(int(row), accepted=bool(accepted[row])) for row in np.flatnonzero(shown)
    }
    new = {
        task: NewPrediction(_front_score(rank, len(front)), results.get(task, []))
        for rank, task in enumerate(front)
    }
    sure = np.clip(found.confidence, FRONT_SCORE, _SUREST)
    for row in np.flatnonzero(shown):
        task = int(ids[row])
        if task not in new:
            new[task] = NewPrediction(float(sure[row]), results[task])
    return new


def _front_score(rank: float, size: int) -> float:
    """Return the Studio score of a rank of the queue."""
    return FRONT_SCORE * rank / max(size, 1)
