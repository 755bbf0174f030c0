"""Provenance of an export for its manifest: its run, how labels were read, and excluded tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from usl_backend.version import VERSION

if TYPE_CHECKING:
    from usl_backend.exports.split import Row
    from usl_backend.runs import Run
    from usl_backend.studio.labels import Labels

RULE = (
    "Skipped (cancelled) annotations have no voice. An annotation marked as ground truth decides; else every annotator "
    "has one vote, the newest, and the majority wins. Tasks with a tie are conflicts and in neither part; tasks that "
    "were only skipped, or submitted without a class, stay unlabeled."
)
"""Rule for reading labels, included in every manifest of labels."""
RULE_OF_ANNOTATIONS = (
    "Skipped (cancelled) annotations are left out. All others are handed over as Label Studio holds them, also those "
    "that mark nothing; tasks without any stay unlabeled."
)
"""Rule where no tag classifies the whole task."""


class Classes:
    """Labels of a tag; where it takes one choice, a task with several counts as a conflict."""

    def __init__(self, labels: Labels, *, several: bool) -> None:
        self.control = labels.control
        self.skipped, self.empty, self.ground_truth = labels.skipped, labels.empty, labels.ground_truth
        disputed = {
            task: (choice,) for task, choice in labels.by_task.items() if len(choice) > 1 and not several
        }
        self.by_task = {task: choice for task, choice in labels.by_task.items() if task not in disputed}
        self.conflicts = {**labels.conflicts, **disputed}

    def add(self, known: Mapping[int, str]) -> None:
        """Add classes that existed before annotation."""
        self.by_task = {**{task: (label,) for task, label in known.items()}, **self.by_task}


def provenance(
    run: Run,
    rows: Sequence[Row],
    labels: Classes,
    cancelled: int,
    *,
    include_labeled: bool,
    control_set: Sequence[int],
    deleted: Sequence[int],
    retired: Sequence[str],
    asks_for: str,
) -> dict[str, Any]:
    """Describe the origin of an export's rows and the excluded tasks.

    Parameters
    ----------
    run
        Run that provides the pool.
    rows
        All rows of the export, including disputed ones.
    labels
        Labels of the project.
    cancelled
        Number of skipped annotations.
    include_labeled
        True if the labeled rows are listed among the unlabeled ones too.
    control_set
        Tasks drawn uniformly from the pool, including picks; use them to measure accuracy.
    deleted
        Tasks of the pool that the project no longer has.
    retired
        Classes of labeled rows that the label config no longer has.
    asks_for
        Types of the control tags.

    Returns
    -------
    dict
        JSON-able entries of the manifest.
    """
    summary, project = run.summary, run.published_to
    assert summary is not None, "a run that is done has a summary"
    assert project is not None, "a run that was published has a project"
    parts = [_part(row, labels) for row in rows]
    held = Counter(label for row in rows for label in row.labels)
    return {
        "product": f"usl-backend {VERSION}",
        "created_at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "project": TypeAdapter(type(project)).dump_python(project, mode="json"),
        "pool": run.address or None,
        "run": run.id,
        "method": summary.method.name,
        "preset": summary.method.preset,
        "parameters": dict(summary.method.parameters),
        "settings": dict(run.settings),
        "seed": summary.seed,
        "encoder": summary.encoder.key,
        "pool_digest": run.pool_digest,
        "versions": dict(run.versions),
        "asks_for": asks_for,
        "control": labels.control or None,
        "rule": RULE if labels.control else RULE_OF_ANNOTATIONS,
        "labeled_rows_are_also_unlabeled": include_labeled,
        "counts": {
            "rows": len(rows),
            "labeled": parts.count("labeled"),
            "unlabeled": parts.count("unlabeled"),
            "conflicts": parts.count("conflict"),
            "skipped": len(labels.skipped),
            "empty": len(labels.empty),
            "cancelled": cancelled,
            "ground_truth": labels.ground_truth,
            "unreadable": summary.skipped.count,
            "deleted": len(deleted),
            "retired": sum(held[name] for name in retired),
        },
        "retired_classes": {name: held[name] for name in retired},
        "conflicts": [
            {"task": task, "labels": [list(choice) for choice in choices]}
            for task, choices in sorted(labels.conflicts.items())
        ],
        "skipped": list(labels.skipped),
        "deleted": list(deleted),
        "control_set": list(control_set),
    }


def _part(row: Row, labels: Classes) -> str:
    """Return the part of the split that contains a row, or "conflict"."""
    if row.task in labels.by_task:
        return "labeled"
    return "conflict" if row.task in labels.conflicts else "unlabeled"
