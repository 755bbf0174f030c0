"""Add the suggestions of a run to its split, apart from the labels that people gave."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from usl_backend.errors import ExportError
from usl_backend.exports.split import Row, Split, SuggestedRow
from usl_backend.suggesting.compute import suggest_for_run
from usl_backend.suggesting.labels import read_run_labels

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient
    from usl_backend.suggesting.compute import RunSuggestions

RECIPE = (
    "mean of the softmaxes of a probe on smoothed rows and of spreading over the nearest-neighbor graph "
    "(usl_backend.suggest), from the labels of this export without the control set's"
)


def suggested_split(
    split: Split,
    run: Run,
    *,
    store: RunStore,
    host: HostSettings,
    client: StudioClient,
    control: str | None = None,
    min_confidence: float | None = None,
) -> Split:
    """Suggest classes for a run from the labels of its project, and return its split with them.

    Parameters
    ----------
    split
        Split of the run.
    run
        A completed run of a project.
    store, host, client
        Store of the runs, directory of the encoders, and Label Studio's client.
    control
        Choices tag to read, if the label config has several.
    min_confidence
        As for `with_suggestions`.

    Raises
    ------
    USLError
        There are no suggestions, `with_suggestions` refuses the limit, or Label Studio fails.
    """
    labels = read_run_labels(store, run, client=client, control=control)
    found = suggest_for_run(store, labels, host=host, client=client)
    return with_suggestions(split, found, min_confidence=min_confidence)


def with_suggestions(split: Split, found: RunSuggestions, *, min_confidence: float | None = None) -> Split:
    """Return the split with suggestions for its unlabeled rows.

    Parameters
    ----------
    split
        Split of the same run.
    found
        Its suggestions.
    min_confidence
        Chance of being right from which suggestions are taken, 0 to 1; None takes all.

    Raises
    ------
    ExportError
        The limit is out of range, or confidences are no chances yet, so that a limit would mean nothing.
    """
    if min_confidence is not None and not 0.0 <= min_confidence <= 1.0:
        raise ExportError(f"min-confidence is {min_confidence}; give a share from 0 to 1, such as 0.9")
    if min_confidence is not None and not found.calibrated:
        why = found.fault or f"{found.acceptance.controls} control labels so far"
        raise ExportError(
            "min-confidence needs a labeled control set: until then confidence is an order, not the chance of being "
            f"right ({why}); leave it out, or label more control tasks"
        )
    place = {task: number for number, task in enumerate(found.labels.pool.ids.tolist())}
    accepted = found.acceptance.accepted
    rows = []
    for row in split.unlabeled:
        number = place.get(row.task)
        if number is None or not found.open[number]:
            continue
        confidence = float(found.confidence[number])
        if min_confidence is None or confidence >= min_confidence:
            given = {field.name: getattr(row, field.name) for field in fields(Row)}
            given["label"] = found.labels.classes[int(found.suggestions.label[number])]
            rows.append(SuggestedRow(**given, confidence=confidence, accepted=bool(accepted[number])))
    known = set(split.classes)
    classes = (*split.classes, *(name for name in found.labels.classes if name not in known))
    manifest = {**split.manifest, "suggested": _how(found, rows, min_confidence)}
    return replace(split, classes=classes, suggested=tuple(rows), manifest=manifest)


def _how(found: RunSuggestions, rows: list[SuggestedRow], min_confidence: float | None) -> dict[str, Any]:
    """Say how the suggestions were made and what was promised."""
    promise = found.acceptance
    return {
        "rows": len(rows),
        "made_by": RECIPE,
        "labels": sum(found.labels.counts.values()),
        "class_names_used": found.names,
        "confidence": "chance of being right" if found.calibrated else "order only",
        "control_labels": promise.controls,
        "min_confidence": min_confidence,
        "accepted": sum(row.accepted for row in rows),
        "promise": {
            "target": promise.target,
            "delta": promise.delta,
            "threshold": promise.threshold,
            "lower_bound": promise.lower,
            "says": found.promise,
        },
        "notes": list(found.notes),
    }
