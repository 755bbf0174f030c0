"""Where an export comes from and how its labels were read, as its manifest says it. Nothing is asked here."""

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
"""How labels are read, as every manifest states it."""


class Classes:
    """Labels of a control with one choice; a task that has several all the same is in conflict with itself."""

    def __init__(self, labels: Labels) -> None:
        self.control = labels.control
        self.skipped, self.empty, self.ground_truth = labels.skipped, labels.empty, labels.ground_truth
        self.by_task = {task: choice[0] for task, choice in labels.by_task.items() if len(choice) == 1}
        several = {task: (choice,) for task, choice in labels.by_task.items() if len(choice) > 1}
        self.conflicts = {**labels.conflicts, **several}

    def add(self, known: Mapping[int, str]) -> None:
        """Take in classes that were there before anybody annotated."""
        self.by_task = {**known, **self.by_task}


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
) -> dict[str, Any]:
    """Where the rows come from and what was left out.

    Parameters
    ----------
    run
        Whose pool the rows are of.
    rows
        All of the export's, the disputed ones included.
    labels
        As they were read.
    cancelled
        Annotations that were skipped.
    include_labeled
        Whether the labeled rows stand among the unlabeled ones too.
    control_set
        Tasks drawn uniformly from the pool, picks among them: accuracy is to be measured on these.
    deleted
        Tasks of the pool that the project no longer has.
    retired
        Classes that rows are labeled with and the label config no longer has.

    Returns
    -------
    dict
        JSON-able.
    """
    summary, project = run.summary, run.published_to
    assert summary is not None, "a run that is done has a summary"
    assert project is not None, "a run that was published has a project"
    parts = [_part(row, labels) for row in rows]
    held = Counter(row.label for row in rows)
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
        "control": labels.control,
        "rule": RULE,
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
    """Which part of the split a row is in, if any."""
    if row.label is not None:
        return "labeled"
    return "conflict" if row.task in labels.conflicts else "unlabeled"
