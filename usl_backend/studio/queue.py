"""The queue: makes Label Studio serve the chosen tasks first; it chooses nothing, and `reset.py` puts all back.

How it works: Label Studio's uncertainty sampling serves the unlabeled tasks that have a prediction of the project's
model version, lowest score first, and respects locks. So every run writes predictions under a version of its own
and then switches the project to it. Publishing is that switch: until then annotators notice nothing.
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
_REPEATS = 3
"""How often writing that met trouble is taken up again, from what Label Studio holds then."""
_REST_SECONDS = 2.0
"""A request whose answer was lost may still be at work behind a proxy: pause before looking what it has done."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A project that was switched to a new queue.

    Attributes
    ----------
    model_version, view_id
        The run's version and tab.
    created
        Predictions that Label Studio holds under that version.
    carried_over
        Tasks whose pre-annotation of another model was copied into ours.
    warnings
        What the user should know, one sentence each.
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
    """Label Studio does not hold what was written: a lost request was carried out after all, or not at all."""

    def __init__(self, held: int, rows: int, version: str) -> None:
        super().__init__(
            f"Label Studio holds {held} of {rows} predictions under {version}; resume the run", status=200
        )


class _TasksGoneError(StudioError):
    """Tasks to be written do not exist any more."""

    def __init__(self, tasks: list[int]) -> None:
        super().__init__(f"{len(tasks)} tasks do not exist any more (first: {tasks[0]})")
        self.tasks = tasks


@dataclass(frozen=True, slots=True)
class _Row:
    """One prediction to write: Studio score (low first) and the result it carries."""

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

    Repeating it for the same run, also after an interruption, writes nothing twice.

    Parameters
    ----------
    client
        With a token of a user who may change the project.
    project
        The project as the run read it; its settings are read again.
    run_id
        `<project>-<number>`.
    installation
        Tells data directories apart, as in `model_versions.model_version`.
    picks, reserve : (m,) and (r,) task ids
        In rank order; Studio score is rank / (m + r): in [0, 1), low first.
    state
        What an earlier run stored for this project, if any.
    save
        Called with the state before the switch and again after it, so that a crash between the two does not
        forget the user's settings.
    progress
        Called with predictions written and predictions to write.

    Returns
    -------
    Switch
        With the state to store.

    Raises
    ------
    InputError
        No picks, or a task twice, or another project has taken the id.
    StudioError
        Label Studio refused or did not hold what was written; the project's settings were not touched, unless the
        trouble began after the switch. Repeating it then goes on from there.
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
            f"project {project.id} was deleted and another one has its number; start a new run for it"
        )
    warnings: list[str] = []
    counts = versions(client, project.id)
    planned = _plan(now, counts, run_id=run_id, version=version, state=state, warnings=warnings)
    rows = {task: _Row(rank / len(ranked), []) for rank, task in enumerate(ranked)}
    carried = _carry_over(client, now, counts, version=version, rows=rows, state=planned, warnings=warnings)
    created = _write_present(client, now, version, rows, counts, warnings=warnings, progress=progress)
    if save:
        save(planned)
    if (now.sampling, now.model_version) != (SAMPLING, version):
        client.update_project(project.id, sampling=SAMPLING, model_version=version)
    final = _show(client, project.id, planned, below=(len(picks) - 0.5) / len(ranked))
    if (held := versions(client, project.id).get(version, 0)) != created:
        raise _MiscountError(held, created, version)  # a lost request came through late
    if save:
        save(final)
    _remove_earlier(client, project.id, keep=version)
    warnings += _overlap_warnings(now)
    assert final.view_id is not None
    return Switch(version, final.view_id, created, carried, tuple(warnings), final)


def append(client: StudioClient, project: Project, *, version: str, tasks: Sequence[int]) -> int:
    """Queue more tasks behind all that a run has queued; pre-annotated tasks stay last.

    Parameters
    ----------
    client
        With a token of a user who may change the project.
    project
        As it is now.
    version
        Model version of the run in force.
    tasks : (b,) task ids
        First to last. Those that the run's queue holds already keep their place there.

    Returns
    -------
    int
        Tasks that were queued now.

    Raises
    ------
    InputError
        Another run, or none, is in force.
    StudioError
        Label Studio did not take all of them: tasks were deleted meanwhile, for instance.
    """
    if project.model_version != version:
        raise InputError(
            f'{version} is not in force in project {project.id}, whose model version is "{project.model_version}"; '
            "start a new run"
        )
    held = {
        p.task: p.score for p in preannotations.predictions(client, project.id) if p.model_version == version
    }
    last = max((score for score in held.values() if score is not None and score < CARRIED_SCORE), default=0.0)
    new = [task for task in tasks if task not in held]
    step = (CARRIED_SCORE - last) / (len(new) + 1)
    rows = {task: _Row(last + step * (place + 1), []) for place, task in enumerate(new)}
    for batch in _batches(new):
        created = _import(client, project.id, version, {task: rows[task] for task in batch})
        if created != len(batch):
            raise StudioError(
                f"Label Studio queued {created} of {len(batch)} new tasks of project {project.id}; try again: those "
                "that are queued stay where they are"
            )
    return len(new)


def _plan(
    now: Project,
    counts: Mapping[str, int],
    *,
    run_id: str,
    version: str,
    state: QueueState | None,
    warnings: list[str],
) -> QueueState:
    """The state to be: our settings, and the user's as far as they are known."""
    sampling, original = now.sampling, now.model_version
    if is_ours(now.model_version):
        if state is not None:
            original = state.original_model_version
        else:
            original = next((v for v in counts if not is_ours(v)), "")
            warnings.append(
                f"the project is in the queue of {now.model_version}, of which nothing is stored here;"
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
    rows: dict[int, _Row],
    state: QueueState,
    warnings: list[str],
) -> tuple[int, ...]:
    """Copy pre-annotations in sight into `rows`; the tasks concerned, sorted."""
    foreign = [v for v, count in counts.items() if count and not is_ours(v)]
    ours = [v for v, count in counts.items() if count and is_ours(v)]
    if not foreign and not ours:
        return ()
    # Where nothing static was in force (connecting a backend sets its title), all of them were to be seen in the
    # Data Manager: the latest first. What a run of ours carried over is what annotators see now, even if its
    # source is gone.
    in_force = state.original_model_version
    sources = [*([in_force] if in_force in foreign else foreign), *ours]
    stored = preannotations.predictions(client, now.id)
    results, refused = preannotations.valid_results(
        now.label_config, preannotations.results_of(stored, sources)
    )
    for task, result in results.items():
        rows[task] = _Row(rows[task].score if task in rows else CARRIED_SCORE, result)
    if refused:
        warnings.append(
            f"pre-annotations of {len(refused)} tasks (first: task {refused[0]}) do not fit the label config,"
            " so Label Studio would not take them again; they are hidden until reset"
        )
    if results:
        named = ", ".join(v for v in sources if not is_ours(v)) or "an earlier model"
        warnings.append(
            f"pre-annotations of {len(results)} tasks ({named}) were copied into {version}, so that annotators"
            " still see them; after the chosen tasks, tasks with pre-annotations come before those without,"
            " and what another model adds later is hidden until the next run or reset"
        )
    return tuple(sorted(results))


def _write_present(
    client: StudioClient,
    now: Project,
    version: str,
    rows: dict[int, _Row],
    counts: Mapping[str, int],
    *,
    warnings: list[str],
    progress: Progress | None,
) -> int:
    """Write `rows`, without tasks that were deleted since the run listed them; leave nothing half-written."""
    repeats = 0
    while True:
        try:
            return _write(client, now, version, rows, counts, progress=progress)
        except USLError as error:
            passing = isinstance(error, StudioTroubleError | StudioUnreachableError)
            if passing and repeats < _REPEATS:
                repeats += 1
                logger.info("writing %s is taken up again: %s", version, error)
                time.sleep(_REST_SECONDS * repeats)
                counts = versions(client, now.id)
                continue
            if now.model_version != version:
                # Nobody saw them yet; leaving them would be a half-written queue.
                with contextlib.suppress(StudioError):
                    delete_version(client, now.id, version)
            if not isinstance(error, _TasksGoneError):
                raise
            for task in error.tasks:
                del rows[task]
            if not any(row.score < CARRIED_SCORE for row in rows.values()):
                raise InputError("all chosen tasks were deleted meanwhile; start a new run") from error
            warnings.append(
                f"{len(error.tasks)} tasks (first: {error.tasks[0]}) were deleted while the run went on"
                " and are left out"
            )
            counts = versions(client, now.id)


def _write(
    client: StudioClient,
    now: Project,
    version: str,
    rows: Mapping[int, _Row],
    counts: Mapping[str, int],
    *,
    progress: Progress | None,
) -> int:
    """Write what is missing of `rows` under `version`; the number Label Studio then holds."""
    missing = list(rows)
    if counts.get(version):
        held = [p for p in preannotations.predictions(client, now.id) if p.model_version == version]
        times = Counter(p.task for p in held)
        planned = all(
            p.task in rows and p.score is not None and abs(p.score - rows[p.task].score) < 1e-9 for p in held
        )
        if planned and max(times.values(), default=1) == 1:
            missing = [task for task in rows if task not in times]
        else:
            delete_version(client, now.id, version)
    done = len(rows) - len(missing)
    for batch in _batches(missing):
        refusal = None
        try:
            created = _import(client, now.id, version, {task: rows[task] for task in batch})
        except (StudioUnreachableError, StudioTroubleError, StudioAuthError):
            raise
        except StudioError as error:
            created, refusal = 0, error
        if created != len(batch):
            if gone := _gone(client, now.id, rows):
                raise _TasksGoneError(gone)
            raise refusal or StudioTroubleError(
                f"Label Studio created {created} of {len(batch)} predictions for project {now.id};"
                " nothing was switched, resume the run",
                status=201,
            )
        done += len(batch)
        if progress:
            progress("writing the queue", done, len(rows))
    held_now = versions(client, now.id).get(version, 0)
    if held_now != len(rows):
        raise _MiscountError(held_now, len(rows), version)
    return held_now


def _import(client: StudioClient, project_id: int, version: str, rows: Mapping[int, _Row]) -> int:
    """One bulk call; how many Label Studio says it created (it drops what it dislikes with a 201)."""
    body = [
        {"task": task, "result": row.result, "score": row.score, "model_version": version}
        for task, row in rows.items()
    ]
    answer = client.http.json("POST", f"/api/projects/{project_id}/import/predictions", body=body)
    return int(answer["created"])


def _gone(client: StudioClient, project_id: int, rows: Iterable[int]) -> list[int]:
    """Tasks of `rows` that the project has no more."""
    present = {task.id for task in client.tasks(project_id, only_unlabeled=False)}
    return [task for task in rows if task not in present]


def _show(client: StudioClient, project_id: int, state: QueueState, *, below: float) -> QueueState:
    """Make the run's tab unless it is there; the state with the tabs' ids."""
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
    """Delete earlier runs' predictions and tabs, once nobody depends on them."""
    for version in versions(client, project_id):
        if is_ours(version) and version != keep:
            delete_version(client, project_id, version)
    for view in tabs.views(client, project_id):
        if tabs.is_of_a_run(view) and view["data"]["title"] != tabs.title(str(run_of(keep))):
            tabs.delete(client, int(view["id"]))


def _overlap_warnings(now: Project) -> list[str]:
    """Project settings under which Label Studio does not keep the exact order."""
    found = []
    if now.maximum_annotations > 1:
        found.append(
            f"the project asks for {now.maximum_annotations} annotations per task: Label Studio serves tasks that"
            " somebody has started before any other, at random; the chosen ones still come before the rest"
        )
    if now.show_overlap_first:
        found.append(
            "tasks with overlap are shown first in this project (Settings > Annotation), which comes before the order"
        )
    return found


def _batches(tasks: Sequence[int]) -> Iterable[Sequence[int]]:
    """`tasks` in the few big calls that Label Studio likes; it recounts the whole project in each."""
    return (tasks[start : start + _BATCH] for start in range(0, len(tasks), _BATCH))
