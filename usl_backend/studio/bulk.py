"""Write the predictions of a queue in bulk, so that each is there once, also after interruptions."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from usl_backend.errors import (
    InputError,
    StudioAuthError,
    StudioError,
    StudioTroubleError,
    StudioUnreachableError,
    USLError,
)
from usl_backend.studio.model_versions import delete_version, versions
from usl_backend.studio.patience import waited_out
from usl_backend.studio.preannotations import is_suggestion, predictions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from usl_backend.progress import Progress
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.preannotations import Prediction, Result
    from usl_backend.studio.records import Project

CARRIED_SCORE: Final = 1.0
FRONT_SCORE: Final = 0.01
"""Where suggestions begin, which have their confidence as score; the queue before them lies below it."""
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class NewPrediction:
    """A prediction to write: Studio score (low first) and result."""

    score: float
    result: Result


class MiscountError(StudioTroubleError):
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


def write_predictions(
    client: StudioClient,
    now: Project,
    version: str,
    new: dict[int, NewPrediction],
    *,
    warnings: list[str],
    progress: Progress | None,
) -> int:
    """Write `new` without deleted tasks; wait out temporary failures, and delete the version if writing fails.

    Nobody may see these predictions yet: `version` is not in force.
    """
    while True:
        try:
            return waited_out(client, lambda: _write_missing(client, now, version, new, progress=progress))
        except USLError as error:
            if not isinstance(error, StudioUnreachableError):
                with contextlib.suppress(StudioError):
                    delete_version(client, now.id, version)
            if not isinstance(error, _TasksDeletedError):
                raise
            for task in error.tasks:
                del new[task]
            if not any(prediction.score < CARRIED_SCORE for prediction in new.values()):
                raise InputError("all chosen tasks were deleted during the run; start a new run") from error
            warnings.append(left_out(error.tasks))


def left_out(tasks: Sequence[int]) -> str:
    """Return the warning about tasks that do not exist any more."""
    return f"{len(tasks)} tasks (first: {tasks[0]}) were deleted during the run and are left out"


def fits(held: Sequence[Prediction], new: Mapping[int, NewPrediction]) -> bool:
    """Return True if all stored predictions of the tasks in `new` have the score and the result given there."""
    return all(
        one.score is not None
        and abs(one.score - new[one.task].score) < 1e-9
        and _shown(one.result) == _shown(new[one.task].result)
        for one in held
        if one.task in new
    )


def _shown(result: Result) -> list[tuple[object, ...]]:
    """Return the parts of a result that annotators see, and what marks a suggestion; Label Studio adds others."""
    names = ("from_name", "to_name", "type", "value", *(("id",) if is_suggestion(result) else ()))
    return [tuple(region.get(name) for name in names) for region in result]


def _write_missing(
    client: StudioClient,
    now: Project,
    version: str,
    new: Mapping[int, NewPrediction],
    *,
    progress: Progress | None,
) -> int:
    """Write those of `new` that Label Studio does not hold yet; return the number it holds then."""
    missing = list(new)
    if versions(client, now.id).get(version):
        held = predictions_of(client, now.id, version)
        there = {p.task for p in held}
        if len(there) == len(held) and there <= set(new) and fits(held, new):
            missing = [task for task in new if task not in there]
        else:
            delete_version(client, now.id, version)
    done = len(new) - len(missing)
    for batch in in_batches(missing):
        refusal = None
        try:
            created = import_predictions(client, now.id, version, {task: new[task] for task in batch})
        except (StudioUnreachableError, StudioTroubleError, StudioAuthError):
            raise
        except StudioError as error:
            created, refusal = 0, error
        if created != len(batch):
            if deleted := deleted_tasks(client, now.id, new):
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
        raise MiscountError(held_now, len(new), version)
    return held_now


def import_predictions(
    client: StudioClient, project_id: int, version: str, predictions: Mapping[int, NewPrediction]
) -> int:
    """Create predictions in one call; return the number created (Label Studio drops invalid ones with a 201)."""
    body = [
        {"task": task, "result": new.result, "score": new.score, "model_version": version}
        for task, new in predictions.items()
    ]
    answer = client.http.json("POST", f"/api/projects/{project_id}/import/predictions", body=body)
    return int(answer["created"])


def add_predictions(
    client: StudioClient, project_id: int, version: str, new: Mapping[int, NewPrediction]
) -> None:
    """Write predictions under a version that is in force; raise StudioError where Label Studio does not take all."""
    for batch in in_batches(list(new)):
        created = import_predictions(client, project_id, version, {task: new[task] for task in batch})
        if created != len(batch):
            raise StudioError(
                f"Label Studio queued {created} of {len(batch)} tasks of project {project_id}; try again, queued tasks "
                "keep their place"
            )


def deleted_tasks(client: StudioClient, project_id: int, tasks: Iterable[int]) -> list[int]:
    """Return those of `tasks` that no longer exist in the project."""
    present = {task.id for task in client.tasks(project_id, only_unlabeled=False)}
    return [task for task in tasks if task not in present]


def in_batches(tasks: Sequence[int]) -> Iterable[Sequence[int]]:
    """Split tasks into few large calls, because Label Studio recounts the whole project in each."""
    return (tasks[start : start + _BATCH] for start in range(0, len(tasks), _BATCH))
