"""First stage: which tasks of a project can be chosen. Their media is not read here, and nothing is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError, MediaError
from usl_backend.instances import Instance
from usl_backend.settings import RunSettings, resolve_budget
from usl_backend.sources.showing import EmbeddedField, Showing
from usl_backend.studio.label_config import parse

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Project:
    """What a run knows of its project, JSON-able.

    Attributes
    ----------
    id, key, title
        Label Studio's id, id with creation time, and title.
    classes
        Choices of the label config, in its order; empty where it names none.
    data_key
        Field of a task's data that is shown for it, and embedded first.
    fields
        Key, modality and weight of each field that is embedded, in order.
    tasks
        Tasks in the project, all of them.
    annotated
        How many of them have an annotation, skipped ones included.
    labeled
        Ids of the annotated tasks among the instances; empty unless labels are kept.
    skipped
        Task id -> why it has no media to read.
    """

    id: int
    key: str
    title: str
    classes: tuple[str, ...]
    data_key: str
    tasks: int
    annotated: int
    fields: tuple[EmbeddedField, ...] = (("image", "image", 1.0),)
    labeled: tuple[int, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON-able values."""
        return {**asdict(self), "skipped": {str(task): why for task, why in self.skipped.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Project:
        """Inverse of `to_json`; further entries, such as those of a pool outside Label Studio, are ignored."""
        return cls(
            **{
                **{name: values[name] for name in cls.__dataclass_fields__ if name in values},
                "classes": tuple(values["classes"]),
                "fields": tuple((key, modality, weight) for key, modality, weight in values["fields"]),
                "labeled": tuple(values["labeled"]),
                "skipped": {int(task): why for task, why in values["skipped"].items()},
            }
        )


def fetch(
    client: StudioClient,
    project_id: int,
    settings: RunSettings,
    *,
    project_key: str = "",
    progress: Callable[[int, int], None],
) -> tuple[list[Instance], Project]:
    """List the tasks of a project that have no annotation, and with `keep_labels` those that have.

    Parameters
    ----------
    client
        Door to Label Studio.
    project_id
        Label Studio's id.
    settings
        Of the run; `data_key`, `keep_labels` and `budget` matter here.
    project_key
        Key of the project that the run was asked for; "" if unknown.
    progress
        Called as `progress(done, total)` in tasks.

    Returns
    -------
    list of Instance
        Sorted by id, without those that name no media.
    Project

    Raises
    ------
    InputError
        The project is another one, empty, annotated throughout, or smaller than the budget; or its label config
        shows nothing that can be embedded.
    StudioError
        Label Studio refuses or fails.
    """
    project = client.project(project_id)
    if project_key and project.key != project_key:
        raise InputError(
            f'project {project_id} ("{project.title}") was created at another time than the project this run '
            "belongs to: the earlier one was deleted, or LABEL_STUDIO_URL leads to another Label Studio; "
            "start a new run"
        )
    config = parse(project.label_config)
    shown = Showing.of(config, settings)

    instances: list[Instance] = []
    labeled: list[int] = []
    skipped: dict[int, str] = {}
    total = annotated = 0
    for task in client.tasks(project.id, only_unlabeled=False, progress=progress):
        total += 1
        annotated += not task.unlabeled
        if not task.unlabeled and not settings.keep_labels:
            continue
        try:
            instances.append(shown.instance(task.id, task.data))
        except MediaError as error:
            if task.unlabeled:
                skipped[task.id] = str(error)
            continue
        if not task.unlabeled:
            labeled.append(task.id)
    found = Project(
        id=project.id,
        key=project.key,
        title=project.title,
        classes=tuple(config.classes),
        data_key=shown.fields[0][0],
        fields=shown.fields,
        tasks=total,
        annotated=annotated,
        labeled=tuple(sorted(labeled)),
        skipped=skipped,
    )
    _check(found, len(instances) - len(labeled), settings)
    logger.info("project %s: %s of %s tasks can be chosen", project_id, len(instances) - len(labeled), total)
    return sorted(instances, key=lambda instance: instance.id), found


def _check(project: Project, free: int, settings: RunSettings) -> None:
    """Refuse a project from which nothing, or not enough, can be chosen, before any media is read."""
    name = f'project {project.id} ("{project.title}")'
    if project.tasks == 0:
        raise InputError(f"{name} has no tasks; import some, then start again")
    if project.annotated == project.tasks:
        raise InputError(
            f"every one of the {project.tasks} tasks of {name} already has an annotation, so nothing is left to "
            "choose; import new tasks, or delete annotations"
        )
    if free == 0:
        task, why = min(project.skipped.items())
        raise InputError(
            f"none of the {project.tasks - project.annotated} unlabeled tasks of {name} shows a picture or text "
            f"(task {task}: {why}); check the label config's value and the tasks' data"
        )
    resolve_budget(settings.budget, classes=len(project.classes), pool=free)
