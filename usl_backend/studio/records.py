"""A project, a task and a labeled task as they were read from Label Studio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Project:
    """A Label Studio project as it was when it was read.

    Attributes
    ----------
    key
        `<id>.<creation time, unix s>`, the name that Label Studio sends to `/setup`; a later project with the same
        id has another key.
    created_at
        Unix seconds.
    label_config
        XML.
    model_version
        Version whose predictions annotators see: a static version, a backend's title, empty or None.
    sampling
        `Sequential sampling`, `Uniform sampling` or `Uncertainty sampling`.
    maximum_annotations
        Overlap: annotations requested per task.
    show_overlap_first
        Serve tasks with overlap before all others.
    show_collab_predictions
        Show predictions to annotators.
    task_number
        Number of tasks in the project.
    """

    id: int
    key: str
    title: str
    created_at: float
    label_config: str
    model_version: str | None
    sampling: str
    maximum_annotations: int
    show_overlap_first: bool
    show_collab_predictions: bool
    task_number: int


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a listing.

    Attributes
    ----------
    data
        As stored (`s3://...` is not signed); limited to one key if the listing was.
    annotations, cancelled
        Number of submitted and of skipped annotations.
    """

    id: int
    data: Mapping[str, Any]
    annotations: int
    cancelled: int

    @property
    def unlabeled(self) -> bool:
        """True if nobody has submitted or skipped the task; Label Studio's is_labeled is false for skipped ones."""
        return self.annotations == 0 and self.cancelled == 0


@dataclass(frozen=True, slots=True)
class LabeledTask:
    """A task of the export.

    Attributes
    ----------
    annotations
        As Label Studio writes them (`result`, `completed_by`, `was_cancelled`, `ground_truth`, ...).
    """

    id: int
    data: Mapping[str, Any]
    annotations: tuple[Mapping[str, Any], ...]
