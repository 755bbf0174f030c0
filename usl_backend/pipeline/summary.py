"""What a finished run says of itself, as JSON. Nothing is computed or looked up here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usl_backend.encoders import DEFAULTS

if TYPE_CHECKING:
    from usl_backend.instances import Pool
    from usl_backend.runs import Run
    from usl_backend.selection.base import Selection
    from usl_backend.settings import RunSettings
    from usl_backend.sources.project import Project

SHOWN = 20
"""Unreadable tasks that a summary names, and entries of its other lists; the artifacts hold all of them."""


def summarize(
    run: Run,
    settings: RunSettings,
    *,
    project: Project,
    pool: Pool,
    selection: Selection,
    published: Mapping[str, Any],
    encoder_key: str,
    studio_url: str,
    seconds: Mapping[str, float],
    encoded: int | None,
) -> dict[str, Any]:
    """Describe a run in JSON-able values.

    Parameters
    ----------
    run, settings
        What was asked for.
    project, pool, selection, published
        What the stages left.
    encoder_key
        Key of the encoder that made the embeddings.
    studio_url
        Where Label Studio is, for the link to the tab.
    seconds
        Wall time of each stage that this attempt computed.
    encoded
        Embeddings that were not in the cache; None where an earlier attempt made the pool.

    Returns
    -------
    dict
        Keys project, budget, pool, skipped, method, encoder, seed, picks, control, reserve, model_version, tab,
        verified, carried_over, warnings, seconds, dry_run.
    """
    skipped = skipped_tasks(project, pool)
    roles = Counter(entry["role"] for entry in published["queue"])
    labeled = len(set(project.labeled) - set(pool.skipped))
    view = published["view_id"]
    return {
        "project": {
            "id": project.id,
            "key": project.key,
            "title": project.title,
            "data_key": project.data_key,
            "classes": list(project.classes),
        },
        "budget": {
            "asked": settings.budget,
            "resolved": len(selection.indices),
            "default": settings.budget is None,
        },
        "pool": {
            "tasks": project.tasks,
            "annotated": project.annotated,
            "unlabeled": project.tasks - project.annotated,
            "readable": len(pool) - labeled,
            "skipped": len(skipped),
            "encoded": encoded,
        },
        "skipped": {
            "count": len(skipped),
            "kinds": [{"kind": kind, "count": count} for kind, count in kinds_of(skipped).most_common()],
            "first": [{"task": task, "reason": skipped[task]} for task in sorted(skipped)[:SHOWN]],
        },
        "method": {
            "name": settings.method,
            "preset": settings.preset,
            "parameters": dict(selection.parameters),
            "diagnostics": _brief(selection.diagnostics),
        },
        "encoder": {
            "name": settings.encoder or " + ".join(DEFAULTS[modality] for _, modality, _ in project.fields),
            "key": encoder_key,
            "image_size": settings.image_size,
        },
        "seed": settings.seed,
        "picks": roles["pick"],
        "control": sum(bool(entry.get("control")) for entry in published["queue"]),
        "reserve": roles["reserve"],
        "model_version": published["model_version"],
        "tab": None
        if view is None
        else {"id": view, "url": f"{studio_url}/projects/{project.id}/data?tab={view}"},
        "verified": published["verified"],
        "carried_over": len(published["carried_over"]),
        "warnings": [*_warnings(project, skipped), *_of_training(selection), *published["warnings"]],
        "seconds": dict(seconds),
        "dry_run": run.dry_run,
    }


def skipped_tasks(project: Project, pool: Pool) -> dict[int, str]:
    """Task id -> reason, of the unlabeled tasks that could not be read."""
    labeled = set(project.labeled)
    unread = {task: why for task, why in pool.skipped.items() if task not in labeled}
    return {**project.skipped, **unread}


def kinds_of(skipped: Mapping[int, str]) -> Counter[str]:
    """How often each kind of reason occurs; reasons that differ in numbers or details are one kind."""
    return Counter(re.sub(r"\d[\d,.]*", "N", why.partition(": ")[0]) for why in skipped.values())


def _brief(values: Any) -> Any:
    """The same with long lists cut: a summary is read at every poll; the selection's artifact holds all."""
    if isinstance(values, Mapping):
        return {name: _brief(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_brief(value) for value in values[:SHOWN]]
    return values


def _warnings(project: Project, skipped: Mapping[int, str]) -> list[str]:
    """What a user should know although the run went well."""
    unlabeled = project.tasks - project.annotated
    if not skipped:
        return []
    told = (
        f"{len(skipped)} of {unlabeled} unlabeled tasks could not be read and were left out; "
        f"the first is task {min(skipped)}: {skipped[min(skipped)]}"
    )
    return [told]


def _of_training(selection: Selection) -> list[str]:
    """What a method that trains warns of."""
    return list(selection.diagnostics.get("training", {}).get("warnings", ()))
