"""Publish a queue: make Label Studio serve the chosen tasks first, in order; `reset.py` undoes it.

Label Studio's uncertainty sampling serves the unlabeled tasks that have a prediction of the project's model version,
lowest score first, and respects locks. Therefore each run writes predictions under its own model version and then
switches the project to that version. Annotators notice nothing until the switch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.errors import (
    InputError,
    StudioAuthError,
    StudioError,
    StudioTroubleError,
    StudioUnreachableError,
    USLError,
)
from usl_backend.instances import QueueState
from usl_backend.studio import preannotations, tabs
from usl_backend.studio.model_versions import delete_version, is_ours, model_version, run_of, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from usl_backend.progress import Progress
    from usl_backend.studio.client import Project, StudioClient

logger = logging.getLogger(__name__)

SAMPLING = "Uncertainty sampling"
CARRIED_SCORE = 1.0
_BATCH = 10_000
_RETRIES = 3
"""Most times that writing is continued after a temporary failure, from the predictions stored by then."""
_RETRY_PAUSE_SECONDS = 2.0
"""A request whose answer was lost may still be running behind a proxy: wait before checking its effect."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Result of switching a project to a new queue.

    Attributes
    ----------
    model_version, view_id
        The run's model version and tab.
    created
        Number of predictions stored under that version.
    carried_over
        Tasks whose pre-annotation by another model was copied into that version.
    warnings
        Messages for the user, one sentence each.
    state
        To be stored with the project.
    """

    model_version: str
    view_id: int
    created: int
    carried_over: tuple[int, ...]
    warnings: tuple[str, ...]
    state: QueueState


class _MiscountError(StudioTroubleError):
    """The number of stored predictions is wrong: a lost request took effect late, or not at all."""

    def __init__(self, held: int, rows: int, version: str) -> None:
        super().__init__(
            f"Label Studio holds {held} of {rows} predictions under {version}; resume the run", status=200
        )


class _TasksDeletedError(StudioError):
    """Chosen tasks were deleted before their predictions were written."""

    def __init__(self, tasks: list[int]) -> None:
        super().__init__(f"{len(tasks)} tasks no longer exist (first: {tasks[0]})")
        self.tasks = tasks


@dataclass(frozen=True, slots=True)
class _NewPrediction:
    """A prediction to write: Studio score (low first) and result."""

    score: float
    result: preannotations.Result


def publish(
    client: StudioClient,
    project: Project,
    *,
    run_id: str,
    installation: str = "",
    picks: Sequence[int],
    reserve: Sequence[int] = (),
    state: QueueState | None = None,
    save: Callable[[QueueState], None] | None = None,
    progress: Progress | None = None,
) -> Switch:
    """Make Label Studio serve `picks` first, in order, then `reserve`.

    Repeating the call for the same run, also after an interruption, creates no duplicates.

    Parameters
    ----------
    client
        With a token of a user who may change the project.
    project
        The project as the run read it; its settings are read again.
    run_id
        `<project>-<number>`.
    installation
        Identifies the data directory, as in `model_versions.model_version`.
    picks, reserve : (m,) and (r,) task ids
        In rank order; Studio score is rank / (m + r): in [0, 1), low first.
    state
        Stored by an earlier run for this project, if any.
    save
        Called with the state before the switch and again after it, so that a crash in between does not lose the
        user's settings.
    progress
        Called with the number of predictions written and the number to write.

    Raises
    ------
    InputError
        There are no picks, a task appears twice, or a new project has the old one's id.
    StudioError
        Label Studio refused, or does not hold all predictions. The project's settings are unchanged, unless the
        failure came after the switch; a repeated call continues from there.
    """
    version = model_version(run_id, installation)
    ranked = [*picks, *reserve]
    if not picks:
        raise InputError("there are no picks to publish")
    if len(set(ranked)) != len(ranked):
        raise InputError("a task appears twice among picks and reserve")
    now = client.project(project.id)
    if now.key != project.key:
        raise InputError(
            f"project {project.id} was deleted and another project now has its id; start a new run for it"
        )
    warnings: list[str] = []
    counts = versions(client, project.id)
    planned = _planned_state(now, counts, run_id=run_id, version=version, state=state, warnings=warnings)
    new = {task: _NewPrediction(rank / len(ranked), []) for rank, task in enumerate(ranked)}
    carried = _carry_over(client, now, counts, version=version, new=new, state=planned, warnings=warnings)
    created = _write(client, now, version, new, counts, warnings=warnings, progress=progress)
    if save:
        save(planned)
    if (now.sampling, now.model_version) != (SAMPLING, version):
        client.update_project(project.id, sampling=SAMPLING, model_version=version)
    final = _ensure_tab(client, project.id, planned, below=(len(picks) - 0.5) / len(ranked))
    if (held := versions(client, project.id).get(version, 0)) != created:
        raise _MiscountError(held, created, version)  # a lost request took effect late
    if save:
        save(final)
    _remove_earlier(client, project.id, keep=version)
    warnings += _overlap_warnings(now)
    assert final.view_id is not None
    return Switch(version, final.view_id, created, carried, tuple(warnings), final)


def append(client: StudioClient, project: Project, *, version: str, tasks: Sequence[int]) -> int:
    """Queue more tasks after those that a run has queued; pre-annotated tasks stay last.

    Parameters
    ----------
    client
        With a token of a user who may change the project.
    project
        As it is now.
    version
        Model version of the run; must be the project's current one.
    tasks : (b,) task ids
        In rank order. Tasks that are queued already keep their place.

    Returns
    -------
    int
        Number of tasks added.

    Raises
    ------
    InputError
        The project's current model version is another one.
    StudioError
        Label Studio did not accept all tasks, for instance because some were deleted meanwhile.
    """
    if project.model_version != version:
        raise InputError(
            f'the model version of project {project.id} is "{project.model_version}", not {version}; start a new run'
        )
    held = {
        p.task: p.score for p in preannotations.predictions(client, project.id) if p.model_version == version
    }
    last = max((score for score in held.values() if score is not None and score < CARRIED_SCORE), default=0.0)
    new = [task for task in tasks if task not in held]
    step = (CARRIED_SCORE - last) / (len(new) + 1)
    scored = {task: _NewPrediction(last + step * (place + 1), []) for place, task in enumerate(new)}
    for batch in _batches(new):
        created = _import(client, project.id, version, {task: scored[task] for task in batch})
        if created != len(batch):
            raise StudioError(
                f"Label Studio queued {created} of {len(batch)} new tasks of project {project.id}; try again, queued "
                "tasks keep their place"
            )
    return len(new)


def _planned_state(
    now: Project,
    counts: Mapping[str, int],
    *,
    run_id: str,
    version: str,
    state: QueueState | None,
    warnings: list[str],
) -> QueueState:
    """Return the state to store: the run's settings, and the user's original ones as far as they are known."""
    sampling, original = now.sampling, now.model_version
    if is_ours(now.model_version):
        if state is not None:
            original = state.original_model_version
        else:
            original = next((v for v in counts if not is_ours(v)), "")
            warnings.append(
                f"the project uses the queue of {now.model_version}, which is not in this data directory;"
                f" reset will set its model version to {original or 'none'} and its sampling to Sequential sampling"
            )
    if now.sampling == SAMPLING and state is not None:
        sampling = state.original_sampling
    elif now.sampling == SAMPLING and is_ours(now.model_version):
        sampling = "Sequential sampling"
    return QueueState(
        run_id=run_id,
        model_version=version,
        sampling=SAMPLING,
        view_id=state.view_id if state is not None and state.run_id == run_id else None,
        default_view_id=state.default_view_id if state is not None else None,
        original_sampling=sampling,
        original_model_version=original,
    )


def _carry_over(
    client: StudioClient,
    now: Project,
    counts: Mapping[str, int],
    *,
    version: str,
    new: dict[int, _NewPrediction],
    state: QueueState,
    warnings: list[str],
) -> tuple[int, ...]:
    """Copy the pre-annotations that annotators see into `new`; return their tasks, sorted."""
    foreign = [v for v, count in counts.items() if count and not is_ours(v)]
    ours = [v for v, count in counts.items() if count and is_ours(v)]
    if not foreign and not ours:
        return ()
    # Unless the project's version named stored predictions (connecting a backend sets it to the backend's title),
    # the Data Manager showed those of all models: the latest first. Results that an earlier run carried over are
    # what annotators see now, even if their source was deleted.
    original = state.original_model_version
    sources = [*([original] if original in foreign else foreign), *ours]
    stored = preannotations.predictions(client, now.id)
    results, refused = preannotations.valid_results(
        now.label_config, preannotations.results_of(stored, sources)
    )
    for task, result in results.items():
        new[task] = _NewPrediction(new[task].score if task in new else CARRIED_SCORE, result)
    if refused:
        warnings.append(
            f"pre-annotations of {len(refused)} tasks (first: task {refused[0]}) do not fit the label config,"
            " so Label Studio would not accept a copy of them; they are hidden until reset"
        )
    if results:
        named = ", ".join(v for v in sources if not is_ours(v)) or "an earlier model"
        warnings.append(
            f"pre-annotations of {len(results)} tasks ({named}) were copied into {version}, so that annotators"
            " still see them; after the chosen tasks, tasks with pre-annotations come before those without,"
            " and predictions that another model adds later are hidden until the next run or reset"
        )
    return tuple(sorted(results))


def _write(
    client: StudioClient,
    now: Project,
    version: str,
    new: dict[int, _NewPrediction],
    counts: Mapping[str, int],
    *,
    warnings: list[str],
    progress: Progress | None,
) -> int:
    """Write `new` without deleted tasks; retry temporary failures, and delete the version if writing fails."""
    retries = 0
    while True:
        try:
            return _write_missing(client, now, version, new, counts, progress=progress)
        except USLError as error:
            temporary = isinstance(error, StudioTroubleError | StudioUnreachableError)
            if temporary and retries < _RETRIES:
                retries += 1
                logger.info("continuing to write %s after: %s", version, error)
                time.sleep(_RETRY_PAUSE_SECONDS * retries)
                counts = versions(client, now.id)
                continue
            if now.model_version != version:
                # Nobody has seen these predictions yet; keeping them would leave a half-written queue.
                with contextlib.suppress(StudioError):
                    delete_version(client, now.id, version)
            if not isinstance(error, _TasksDeletedError):
                raise
            for task in error.tasks:
                del new[task]
            if not any(prediction.score < CARRIED_SCORE for prediction in new.values()):
                raise InputError("all chosen tasks were deleted during the run; start a new run") from error
            warnings.append(
                f"{len(error.tasks)} tasks (first: {error.tasks[0]}) were deleted during the run and are left out"
            )
            counts = versions(client, now.id)


def _write_missing(
    client: StudioClient,
    now: Project,
    version: str,
    new: Mapping[int, _NewPrediction],
    counts: Mapping[str, int],
    *,
    progress: Progress | None,
) -> int:
    """Write those of `new` that Label Studio does not hold yet; return the number it holds then."""
    missing = list(new)
    if counts.get(version):
        held = [p for p in preannotations.predictions(client, now.id) if p.model_version == version]
        times = Counter(p.task for p in held)
        planned = all(
            p.task in new and p.score is not None and abs(p.score - new[p.task].score) < 1e-9 for p in held
        )
        if planned and max(times.values(), default=1) == 1:
            missing = [task for task in new if task not in times]
        else:
            delete_version(client, now.id, version)
    done = len(new) - len(missing)
    for batch in _batches(missing):
        refusal = None
        try:
            created = _import(client, now.id, version, {task: new[task] for task in batch})
        except (StudioUnreachableError, StudioTroubleError, StudioAuthError):
            raise
        except StudioError as error:
            created, refusal = 0, error
        if created != len(batch):
            if deleted := _deleted_tasks(client, now.id, new):
                raise _TasksDeletedError(deleted)
            raise refusal or StudioTroubleError(
                f"Label Studio created {created} of {len(batch)} predictions for project {now.id};"
                " the project was not switched, resume the run",
                status=201,
            )
        done += len(batch)
        if progress:
            progress("writing the queue", done, len(new))
    held_now = versions(client, now.id).get(version, 0)
    if held_now != len(new):
        raise _MiscountError(held_now, len(new), version)
    return held_now


def _import(
    client: StudioClient, project_id: int, version: str, predictions: Mapping[int, _NewPrediction]
) -> int:
    """Create predictions in one call; return the number created (Label Studio drops invalid ones with a 201)."""
    body = [
        {"task": task, "result": new.result, "score": new.score, "model_version": version}
        for task, new in predictions.items()
    ]
    answer = client.http.json("POST", f"/api/projects/{project_id}/import/predictions", body=body)
    return int(answer["created"])


def _deleted_tasks(client: StudioClient, project_id: int, tasks: Iterable[int]) -> list[int]:
    """Return those of `tasks` that no longer exist in the project."""
    present = {task.id for task in client.tasks(project_id, only_unlabeled=False)}
    return [task for task in tasks if task not in present]


def _ensure_tab(client: StudioClient, project_id: int, state: QueueState, *, below: float) -> QueueState:
    """Create the run's tab unless it exists; return the state with the tabs' ids."""
    present = tabs.views(client, project_id)
    default = state.default_view_id
    if not present:
        default = tabs.create_default(client, project_id)
    ours = [
        view
        for view in present
        if tabs.is_unchanged(view, run_id=state.run_id, model_version=state.model_version)
    ]
    if ours:
        view_id = int(ours[0]["id"])
    else:
        view_id = tabs.create_picks(
            client, project_id, run_id=state.run_id, model_version=state.model_version, below=below
        )
    return dataclasses.replace(state, view_id=view_id, default_view_id=default)


def _remove_earlier(client: StudioClient, project_id: int, *, keep: str) -> None:
    """Delete the predictions and tabs of earlier runs."""
    for version in versions(client, project_id):
        if is_ours(version) and version != keep:
            delete_version(client, project_id, version)
    for view in tabs.views(client, project_id):
        if tabs.is_of_a_run(view) and view["data"]["title"] != tabs.title(str(run_of(keep))):
            tabs.delete(client, int(view["id"]))


def _overlap_warnings(now: Project) -> list[str]:
    """Warn of project settings under which Label Studio does not keep the exact order."""
    found = []
    if now.maximum_annotations > 1:
        found.append(
            f"the project asks for {now.maximum_annotations} annotations per task: Label Studio serves tasks that"
            " somebody has started first, at random; the chosen ones still come before the rest"
        )
    if now.show_overlap_first:
        found.append(
            "this project shows tasks with overlap first (Settings > Annotation), which overrides the order of the"
            " queue"
        )
    return found


def _batches(tasks: Sequence[int]) -> Iterable[Sequence[int]]:
    """Split tasks into few large calls, because Label Studio recounts the whole project in each."""
    return (tasks[start : start + _BATCH] for start in range(0, len(tasks), _BATCH))
