"""Find labels that look wrong, and say what agreed labels suggest for disputed tasks. Nothing is ever corrected."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.errors import InputError
from usl_backend.runs.doubts import Dispute, Doubt, Doubts, write_doubts
from usl_backend.suggesting.compute import RunRows, control_of
from usl_backend.suggestions import label_check, suggest
from usl_backend.suggestions.checking import ENOUGH

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.runs import RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.suggesting.labels import RunLabels


def find_doubts(
    store: RunStore, labels: RunLabels, *, host: HostSettings, progress: Progress | None = None
) -> Doubts:
    """Rank the labels of a run's tasks by how much the others speak against them, and store the result.

    Parameters
    ----------
    store
        Store of the run's artifacts, which receive the result.
    labels
        The labels in its project.
    host
        Directory of the encoders, for the class names of texts.
    progress
        Receives the current step.

    Returns
    -------
    Doubts
        Without doubts, but with the reason, if there are too few labels for an order that is worth showing.
    """
    if progress is not None:
        progress("checking labels", 0, 0)
    files = store.files(labels.run.id)
    rows = RunRows.of(labels, files, host=host)
    seed = int(labels.run.settings.get("seed") or 0)
    tasks, names = labels.pool.ids, labels.classes
    control, _ = control_of(labels)
    doubts: tuple[Doubt, ...] = ()
    judged = unjudged = 0
    reason = _too_few(labels, controls=0 if control is None else len(control.rows))
    if not reason:
        try:
            found = label_check(
                labels.pool.embeddings,
                labels.given,
                control=control,
                neighbors=rows.neighbors,
                class_rows=rows.class_rows,
                classes=len(names),
                seed=seed,
                workers=usable_cpus(),
            )
        except InputError as error:
            reason = str(error)
        else:
            judged, unjudged = len(found.rows), len(found.unjudged)
            doubts = tuple(
                Doubt(int(tasks[row]), names[label], names[likely], round(float(doubt), 4))
                for row, label, likely, doubt in zip(
                    found.rows, found.label, found.likely, found.doubt, strict=True
                )
                if label != likely and labels.alive[row]
            )
    result = Doubts(
        labels.run.id,
        doubts,
        _disputes(labels, rows, seed=seed),
        judged=judged,
        unjudged=unjudged,
        reason=reason,
        read_at=time.time(),
    )
    write_doubts(files, result)
    return result


def _too_few(labels: RunLabels, *, controls: int) -> str:
    """Say why an order of doubts would be too poor; "" if it would not."""
    counts = [count for count in labels.counts.values() if count]
    if len(counts) < 2:
        return "labels are checked against those of other classes, and fewer than two classes have one"
    if not controls and sum(counts) < ENOUGH * len(counts):
        return (
            f"{sum(counts)} labels of {len(counts)} classes are too few to doubt any: doubts are shown from {ENOUGH} "
            f"per class on ({ENOUGH * len(counts) - sum(counts)} more), or with a labeled control set"
        )
    return ""


def _disputes(labels: RunLabels, rows: RunRows, *, seed: int) -> tuple[Dispute, ...]:
    """Return the disputed tasks with what all agreed labels suggest, control tasks included."""
    if not labels.conflicts or len(np.unique(labels.label[labels.label >= 0])) < 2:
        return tuple(Dispute(task, given, "") for task, given in labels.conflicts.items())
    found = suggest(
        labels.pool.embeddings,
        labels.label,
        neighbors=rows.neighbors,
        class_rows=rows.class_rows,
        classes=len(labels.classes),
        seed=seed,
        workers=usable_cpus(),
    )
    at = np.searchsorted(labels.pool.ids, list(labels.conflicts))
    return tuple(
        Dispute(task, given, labels.classes[int(found.label[row])])
        for (task, given), row in zip(labels.conflicts.items(), at.tolist(), strict=True)
    )
