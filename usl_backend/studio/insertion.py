"""Insert tasks into a queue that is in force, or take them out; `queue.py` publishes one and adds to its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from usl_backend.errors import StudioNotFoundError
from usl_backend.studio import preannotations
from usl_backend.studio.bulk import CARRIED_SCORE, NewPrediction, add_predictions
from usl_backend.studio.queue import end_of_queue, require_current

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.preannotations import Prediction
    from usl_backend.studio.records import Project


def insert(
    client: StudioClient, project: Project, *, version: str, tasks: Sequence[int], after: Collection[int]
) -> int:
    """Queue tasks right behind others, before all that come later; can be repeated when interrupted.

    Parameters
    ----------
    client
        With a token of a user who may change the project.
    project
        As it is now.
    version
        Model version of the run; must be the project's current one.
    tasks : (b,) task ids
        In rank order. Those queued further behind move up, with their pre-annotation if they have one.
    after
        Tasks that stay before them.

    Returns
    -------
    int
        Number of tasks that were queued or moved.

    Raises
    ------
    InputError
        The project's current model version is another one.
    StudioError
        Label Studio did not accept all tasks; those queued keep their place.
    """
    require_current(project, version)
    held: dict[int, list[Prediction]] = {}
    for one in preannotations.predictions_of(client, project.id, version):
        held.setdefault(one.task, []).append(one)
    score = {task: min(_score(one) for one in stored) for task, stored in held.items()}
    first, wanted, end = set(after), set(tasks), end_of_queue(version)
    low = max((at for task, at in score.items() if task in first and at < end), default=0.0)
    high = min((at for task, at in score.items() if low < at < end and task not in wanted), default=end)
    kept = 0
    while kept < len(tasks) and low < score.get(tasks[kept], end) < high:
        if any(preannotations.is_suggestion(one.result) for one in held[tasks[kept]]):
            break  # a control task has to be blank: a label that was only confirmed would measure nothing
        low = score[tasks[kept]]
        kept += 1
    new = tasks[kept:]
    # Half of the gap stays free for those inserted next.
    step = (high - low) / 2 / max(len(new), 1)
    scored = {
        task: NewPrediction(
            low + step * (place + 1),
            next(iter(preannotations.results_of(held.get(task, []), [version]).values()), []),
        )
        for place, task in enumerate(new)
    }
    add_predictions(client, project.id, version, {task: scored[task] for task in new if task not in held})
    for task in tasks:
        there = sorted(held.get(task, ()), key=_score)
        if there and task in scored:
            _move(client, project, there[0], scored[task])
        for one in there[1:]:  # an earlier release wrote anew what it moved
            with contextlib.suppress(StudioNotFoundError):  # its answer was lost, and it was asked again
                client.http.json("DELETE", f"/api/predictions/{one.id}/")
    return len(new)


def take_out(client: StudioClient, project: Project, *, version: str, tasks: Sequence[int]) -> int:
    """Take tasks out of the queue; can be repeated when interrupted.

    Parameters
    ----------
    client
        With a token of a user who may change the project.
    project
        As it is now.
    version
        Model version of the run; must be the project's current one.
    tasks : (b,) task ids
        They keep their predictions, behind the queue: whoever has one of them open can still submit it.

    Returns
    -------
    int
        Number of tasks that were queued.

    Raises
    ------
    InputError
        The project's current model version is another one.
    StudioError
        Label Studio refuses or fails; those taken out stay so.
    """
    require_current(project, version)
    wanted, end = set(tasks), end_of_queue(version)
    queued = [
        one
        for one in preannotations.predictions_of(client, project.id, version)
        if one.task in wanted and _score(one) < end
    ]
    for one in queued:
        with contextlib.suppress(StudioNotFoundError):  # its task was deleted
            _move(client, project, one, NewPrediction(CARRIED_SCORE, one.result))
    return len({one.task for one in queued})


def _move(client: StudioClient, project: Project, held: Prediction, to: NewPrediction) -> None:
    """Change score and result of a prediction in place: whoever has its task open can still submit it."""
    body: dict[str, Any] = {"score": to.score}
    if held.result != to.result:
        body |= {"result": to.result, "task": held.task, "project": project.id}
    client.http.json("PATCH", f"/api/predictions/{held.id}/", body=body)


def _score(prediction: Prediction) -> float:
    """Return the Studio score; Label Studio serves predictions without one last."""
    return CARRIED_SCORE if prediction.score is None else prediction.score
