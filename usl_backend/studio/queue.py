"""Publish a queue: make Label Studio serve the chosen tasks first, in order; `reset.py` undoes it.

Label Studio's uncertainty sampling serves the unlabeled tasks that have a prediction of the project's model version,
lowest score first, and respects locks. Therefore each run writes predictions under its own model version and then
switches the project to that version. Annotators notice nothing until the switch. `leftovers.py` has the rules by which
several installations can publish to one project at the same time: the last switch wins, and its queue is whole.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.errors import InputError
from usl_backend.instances import QueueState
from usl_backend.studio import leftovers, preannotations, tabs
from usl_backend.studio.bulk import (
    CARRIED_SCORE,
    FRONT_SCORE,
    NewPrediction,
    add_predictions,
    deleted_tasks,
    fits,
    left_out,
    write_predictions,
)
from usl_backend.studio.model_versions import (
    Origin,
    begun_at,
    holds_suggestions,
    is_ours,
    model_version,
    origin,
    versions,
)
from usl_backend.studio.patience import waited_out
from usl_backend.studio.switch import SAMPLING, Written, check_in_force, refuse_another, switch_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from usl_backend.progress import Progress
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.preannotations import Prediction
    from usl_backend.studio.records import Project


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

    Repeating the call for the same run, also after an interruption, creates no duplicates: a queue of the run that is
    in force and whole stays, any other is written again and replaces it.

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
    SupersededError
        Another installation switched the project to its own queue meanwhile; that one is in force.
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
        run_id=run_id,
        installation=installation,
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
    run_id: str,
    installation: str,
    below: float,
    state: QueueState | None,
    save: Callable[[QueueState], None] | None,
    progress: Progress | None,
    suggests: bool = False,
) -> Switch:
    """Write predictions under a new version of ours, with other models' pre-annotations, and switch the project to it.

    Parameters
    ----------
    new
        Task id -> prediction. Pre-annotations of other models fill in empty results; tasks that have one and are
        not here are added behind the others.
    run_id, installation
        The run that the version belongs to.
    below
        Upper limit of the Studio score of picks, for the run's tab.
    suggests
        The predictions are suggestions too. Those that an interrupted call has written are kept if they still fit.

    Notes
    -----
    Other parameters, result and errors are those of `publish`. Nothing is in force before the switch. If a version of
    the run is in force and holds the same predictions, it is kept.
    """
    now = client.project(project.id)
    refuse_another(now, project.key)
    own = Origin(run_id, installation)
    warnings: list[str] = []
    counts = versions(client, project.id)
    planned = _planned_state(now, counts, run_id=run_id, state=state, warnings=warnings)
    former = () if state is None else (state.model_version, *state.replaced)
    stored = preannotations.predictions(client, now.id) if any(counts.values()) else []
    carried = _carry_over(now, counts, stored, new=new, state=planned, warnings=warnings)
    version = now.model_version or ""
    created = _held(client, now, stored, new=new, warnings=warnings) if origin(version) == own else 0
    if created:
        written = Written(version, own, created, begun=0.0)
        planned = dataclasses.replace(planned, model_version=version)
        if save:
            save(planned)
        if now.sampling != SAMPLING:
            client.update_project(project.id, sampling=SAMPLING)
    else:
        version, begun = _attempt(client, now, own, counts, state=planned, suggests=suggests)
        created = write_predictions(client, now, version, new, warnings=warnings, progress=progress)
        written = Written(version, own, created, begun)
        planned = switch_to(client, project, written, planned=planned, save=save)
    final = waited_out(client, lambda: _ensure_tab(client, project.id, planned, below=below))
    spare = next(iter(final.replaced), "")
    leftovers.remove_leftovers(client, project.id, keep=version, own=own, spare=spare, former=former)
    final = dataclasses.replace(final, replaced=(spare,) if spare else ())
    check_in_force(client, project.id, written)
    if save:
        save(final)
    warnings += _overlap_warnings(now)
    assert final.view_id is not None
    return Switch(version, final.view_id, created, carried, tuple(warnings), final)


def require_current(project: Project, version: str) -> None:
    """Raise InputError unless a version is the project's current one."""
    if project.model_version != version:
        raise InputError(
            f'the model version of project {project.id} is "{project.model_version}", not {version}; start a new run'
        )


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
    require_current(project, version)
    held = {one.task: one.score for one in preannotations.predictions_of(client, project.id, version)}
    end = end_of_queue(version)
    last = max((score for score in held.values() if score is not None and score < end), default=0.0)
    new = [task for task in tasks if task not in held]
    step = (end - last) / (len(new) + 1)
    scored = {task: NewPrediction(last + step * (place + 1), []) for place, task in enumerate(new)}
    add_predictions(client, project.id, version, scored)
    return len(new)


def end_of_queue(version: str) -> float:
    """Return the Studio score at which the queue ends, and suggestions or carried-over pre-annotations begin."""
    return FRONT_SCORE if holds_suggestions(version) else CARRIED_SCORE


def _held(
    client: StudioClient,
    now: Project,
    stored: Sequence[Prediction],
    *,
    new: dict[int, NewPrediction],
    warnings: list[str],
) -> int:
    """Return the number of predictions of the version in force if all of `new` are among them, else 0.

    Tasks that were deleted since are taken out of `new`. The version may hold more, which `append` added.
    """
    held = [one for one in stored if one.model_version == now.model_version]
    there = {one.task for one in held}
    lacking = [task for task in new if task not in there]
    gone = deleted_tasks(client, now.id, lacking) if lacking and held else []
    if len(gone) < len(lacking) or len(there) < len(held) or not fits(held, new):
        return 0
    for task in gone:
        del new[task]
    if gone:
        warnings.append(left_out(gone))
    return len(held)


def _attempt(
    client: StudioClient,
    now: Project,
    own: Origin,
    counts: Mapping[str, int],
    *,
    state: QueueState,
    suggests: bool,
) -> tuple[str, float]:
    """Return the version to write, one that no attempt has used or one to continue, and when writing it began."""
    begun = client.clock()
    over = (now.model_version, *state.replaced)
    kept = leftovers.interrupted(client, now.id, own=own, over=over, clock=begun) if suggests else None
    leftovers.remove_attempts(client, now.id, own=own, keep=(*over, kept))
    if kept is not None:
        return kept, begun_at(kept) or begun
    at = begun
    while (version := model_version(own.run_id, own.installation, at=at, suggests=suggests)) in counts:
        at += 1
    return version, begun


def _planned_state(
    now: Project,
    counts: Mapping[str, int],
    *,
    run_id: str,
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
        model_version="",
        sampling=SAMPLING,
        view_id=state.view_id if state is not None and state.run_id == run_id else None,
        default_view_id=state.default_view_id if state is not None else None,
        original_sampling=sampling,
        original_model_version=original,
        extended=state.extended if state is not None and state.run_id == run_id else (),
        replaced=state.replaced if state is not None else (),
    )


def _carry_over(
    now: Project,
    counts: Mapping[str, int],
    stored: Sequence[Prediction],
    *,
    new: dict[int, NewPrediction],
    state: QueueState,
    warnings: list[str],
) -> tuple[int, ...]:
    """Copy the pre-annotations that annotators see into `new`; return their tasks, sorted."""
    foreign = [v for v, count in counts.items() if count and not is_ours(v)]
    # One that was replaced is kept for open tasks, and shown only if it is in force again.
    over = set(state.replaced) - {now.model_version}
    ours = [v for v, count in counts.items() if count and is_ours(v) and v not in over]
    if not foreign and not ours:
        return ()
    # Unless the project's version named stored predictions (connecting a backend sets it to the backend's title),
    # the Data Manager showed those of all models: the latest first. Results that an earlier run carried over are
    # what annotators see now, even if their source was deleted.
    original = state.original_model_version
    sources = [*([original] if original in foreign else foreign), *ours]
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
            f"pre-annotations of {len(results)} tasks ({named}) were copied into the queue, so that annotators"
            " still see them; after the chosen tasks, tasks with pre-annotations come before those without,"
            " and predictions that another model adds later are hidden until the next run or reset"
        )
    return tuple(sorted(results))


def _ensure_tab(client: StudioClient, project_id: int, state: QueueState, *, below: float) -> QueueState:
    """Create the run's tab unless it exists; return the state with the tabs' ids."""
    present = tabs.views(client, project_id)
    default = state.default_view_id
    if not present:
        default = tabs.create_default(client, project_id) or default
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
