"""Read the predictions of other models, so that `queue.py` can keep showing them to annotators.

Label Studio shows annotators the predictions of one model version, the project's. The queue needs that setting for
its own version, so predictions of other models are copied into it, for the chosen tasks and for all others.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)

Result = list[dict[str, Any]]
SUGGESTED: Final = "usl-suggested-"
ACCEPTED: Final = "usl-accepted-"
"""Beginnings of the region ids of our suggestions; Label Studio keeps them in annotations made from them."""


@dataclass(frozen=True)
class Prediction:
    """A stored prediction.

    Attributes
    ----------
    task
        Task id.
    score
        None if stored without one.
    result
        Label Studio's regions; empty for ours on tasks that no other model predicted.
    id
        Label Studio's id of the prediction.
    """

    task: int
    model_version: str
    score: float | None
    result: Result = field(repr=False)
    id: int = 0


def predictions(client: StudioClient, project_id: int) -> list[Prediction]:
    """Read all predictions of a project in one request (about 7,000 per second), in Label Studio's order."""
    rows = client.http.json("GET", "/api/predictions/", params={"project": project_id})
    # 1.2x answers a plain list; later releases may page.
    rows = rows if isinstance(rows, list) else rows.get("results", [])
    return [
        Prediction(
            int(row["task"]),
            str(row.get("model_version") or ""),
            row.get("score"),
            row.get("result") or [],
            int(row.get("id") or 0),
        )
        for row in rows
    ]


def predictions_of(client: StudioClient, project_id: int, version: str | None) -> list[Prediction]:
    """Read the predictions of one version, in Label Studio's order; costs as much as reading all."""
    return [one for one in predictions(client, project_id) if one.model_version == version]


def is_suggestion(result: Result) -> bool:
    """Return True if a result is a suggestion of ours and not another model's."""
    return any(str(region.get("id")).startswith((SUGGESTED, ACCEPTED)) for region in result)


def is_accepted_suggestion(annotation: Mapping[str, Any]) -> bool:
    """Return True for an annotation that was made from an accepted suggestion and that nobody has looked at.

    Label Studio's pages note where a region comes from when a person submits it.
    """
    result = annotation.get("result") or []
    return bool(result) and all(
        str(region.get("id")).startswith(ACCEPTED) and "origin" not in region for region in result
    )


def results_of(stored: Sequence[Prediction], versions: Sequence[str]) -> dict[int, Result]:
    """Return per task the first non-empty result in the order of `versions` (the latest one within a version).

    Tasks without a result are absent; a suggestion of ours is none.
    """
    order = {version: place for place, version in enumerate(versions)}
    best: dict[int, tuple[int, Result]] = {}
    for prediction in stored:
        place = order.get(prediction.model_version)
        if place is None or not prediction.result or is_suggestion(prediction.result):
            continue
        known = best.get(prediction.task)
        if known is None or place <= known[0]:
            best[prediction.task] = (place, prediction.result)
    return {task: result for task, (_, result) in best.items()}


def valid_results(label_config: str, results: Mapping[int, Result]) -> tuple[dict[int, Result], list[int]]:
    """Separate results that fit the label config from those that Label Studio would drop silently.

    Parameters
    ----------
    label_config
        XML.
    results
        Task id -> result.

    Returns
    -------
    (dict, list of int)
        Valid results by task id, and the tasks of the others.
    """
    if not results:
        return {}, []
    # The same check as the server's; imported here because the import takes a second.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own, of pydantic
        from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(label_config)
    valid: dict[int, Result] = {}
    refused: list[int] = []
    for task, result in results.items():
        try:
            errors = interface.validate_prediction({"result": result, "score": 0.0}, return_errors=True)
        except Exception as error:  # noqa: BLE001 - a foreign result can make the SDK raise anything
            errors = [str(error)]
        if errors:
            logger.info("pre-annotation of task %d does not fit the label config: %s", task, errors)
            refused.append(task)
        else:
            valid[task] = result
    return valid, refused
