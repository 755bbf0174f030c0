"""Turn predictions into annotations of the token's user; which ones is decided in `suggesting/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usl_backend.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usl_backend.progress import Progress
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.preannotations import Result

_BATCH: Final = 2_000


def annotate_from(
    client: StudioClient,
    project_id: int,
    results: Mapping[int, Result],
    *,
    version: str,
    progress: Progress | None = None,
) -> int:
    """Annotate tasks with the predictions that they have under a version; return how many were annotated.

    Tasks that somebody has annotated meanwhile are left alone, so that the call can be repeated.

    Parameters
    ----------
    results
        Task id -> result of its prediction.
    version
        Model version of the predictions.
    progress
        Receives the number of tasks annotated.

    Raises
    ------
    StudioError
        Label Studio refused, or annotated fewer tasks than it was asked to.
    """
    free = {task.id for task in client.tasks(project_id)}
    tasks = [task for task in results if task in free]
    # Label Studio's own action copies a result as it is, so what was added for its check would come along.
    plain: list[int] = []
    others: list[int] = []
    for task in tasks:
        as_it_is = all(set(region["value"]) == {"choices"} for region in results[task])
        (plain if as_it_is else others).append(task)
    for start in range(0, len(plain), _BATCH):
        batch = plain[start : start + _BATCH]
        _act(client, project_id, batch, version=version)
        if progress is not None:
            progress("annotating", start + len(batch), len(tasks))
    for done, task in enumerate(others, start=len(plain) + 1):
        client.annotate(
            task,
            [{**region, "value": {"choices": region["value"]["choices"]}} for region in results[task]],
        )
        if progress is not None:
            progress("annotating", done, len(tasks))
    left = {task.id for task in client.tasks(project_id)}
    if missing := [task for task in tasks if task in left]:
        raise StudioError(
            f"Label Studio annotated {len(tasks) - len(missing)} of {len(tasks)} tasks of project {project_id} "
            f"(not task {missing[0]}); try again"
        )
    return len(tasks)


def _act(client: StudioClient, project_id: int, tasks: Sequence[int], *, version: str) -> None:
    """Run the Data Manager's action Create Annotations From Predictions."""
    client.http.json(
        "POST",
        "/api/dm/actions/",
        params={"id": "predictions_to_annotations", "project": project_id},
        body={"selectedItems": {"all": False, "included": list(tasks)}, "model_version": version},
    )
