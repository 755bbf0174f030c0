"""Publish a queue: make Label Studio serve the chosen tasks first, in order; `reset.py` undoes it.

Label Studio's uncertainty sampling serves the unlabeled tasks that have a prediction of the project's model version,
lowest score first, and respects locks. Therefore each run writes predictions under its own model version and then
switches the project to that version. Annotators notice nothing until the switch.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.errors import (
    InputError,
    StudioError,
)
from usl_backend.instances import QueueState
from usl_backend.studio import preannotations, tabs
from usl_backend.studio.bulk import (
    CARRIED_SCORE,
    MiscountError,
    NewPrediction,
    import_predictions,
    in_batches,
    write_predictions,
)
from usl_backend.studio.model_versions import delete_version, is_ours, model_version, run_of, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from usl_backend.progress import Progress
    from usl_backend.studio.client import Project, StudioClient

logger = logging.getLogger(__name__)

SAMPLING = "Uncertainty sampling"


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
    ranked = [*picks, *reserve]
    if not picks:
        raise InputError("there are no picks to publish")
    if len(set(ranked)) != len(ranked):
        raise InputError("a task appears twice among picks and reserve")
    return put_in_force(
        client,
        project,
        {task: NewPrediction(rank / len(ranked), []) for rank, task in enumerate(ranked)},
        version=model_version(run_id, installation),
        run_id=run_id,
        below=(len(picks) - 0.5) / len(ranked),
        state=state,
        save=save,
        progress=progress,
    )


def put_in_force(
    client: StudioClient,
    project: Project,
    new: dict[int, NewPrediction],
    *,
    version: str,
    run_id: str,
    below: float,
    state: QueueState | None,
    save: Callable[[QueueState], None] | None,
    progress: Progress | None,
) -> Switch:
    """Write predictions under a version of ours, with other models' pre-annotations, and switch the project to it.

    Parameters
    ----------
    new
        Task id -> prediction. Pre-annotations of other models fill in empty results; tasks that have one and are
        not here are added behind the others.
    version, run_id
        The model version, and the run that it belongs to.
    below
        Upper limit of the Studio score of picks, for the run's tab.

    Notes
    -----
    Other parameters, result and errors are those of `publish`. Nothing is in force before the switch; a repeated call
    with the same predictions writes the missing ones only.
    """
    now = client.project(project.id)
    if now.key != project.key:
        raise InputError(
            f"project {project.id} was deleted and another project now has its id; start a new run for it"
        )
    warnings: list[str] = []
    counts = versions(client, project.id)
    planned = _planned_state(now, counts, run_id=run_id, version=version, state=state, warnings=warnings)
    carried = _carry_over(client, now, counts, version=version, new=new, state=planned, warnings=warnings)
    created = write_predictions(client, now, version, new, counts, warnings=warnings, progress=progress)
    if save:
        save(planned)
    if (now.sampling, now.model_version) != (SAMPLING, version):
        client.update_project(project.id, sampling=SAMPLING, model_version=version)
    final = _ensure_tab(client, project.id, planned, below=below)
    if (held := versions(client, project.id).get(version, 0)) != created:
        raise MiscountError(held, created, version)  # a lost request took effect late
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
    scored = {task: NewPrediction(last + step * (place + 1), []) for place, task in enumerate(new)}
    for batch in in_batches(new):
        created = import_predictions(client, project.id, version, {task: scored[task] for task in batch})
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
    new: dict[int, NewPrediction],
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
        new[task] = NewPrediction(new[task].score if task in new else CARRIED_SCORE, result)
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
