"""Compare queued tasks with what the run read: deleted, labeled meanwhile, or another task under the same id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.errors import InputError, MediaError
from usl_backend.sources.showing import Showing
from usl_backend.studio.fields import parse_data_key
from usl_backend.studio.label_config import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usl_backend.instances import Instance
    from usl_backend.runs.inventory import Inventory
    from usl_backend.settings import RunSettings
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project


@dataclass(frozen=True, slots=True)
class Changes:
    """Tasks that cannot be queued any more: deleted ones, and those with an annotation or skip."""

    deleted: frozenset[int] = frozenset()
    labeled: frozenset[int] = frozenset()


def changes_of(
    client: StudioClient,
    project: Project,
    tasks: Sequence[int],
    *,
    read: Mapping[int, Instance],
    inventory: Inventory,
    settings: RunSettings,
) -> Changes:
    """Look up tasks as they are now.

    Parameters
    ----------
    project
        As it is now.
    tasks
        Task ids.
    read, inventory, settings
        Instances of the tasks, inventory and settings of the run.

    Raises
    ------
    InputError
        The label config shows other fields, or a task shows something else than the run read: what was selected is not
        what would be labeled.
    """
    now = list(client.tasks_of(project.id, tasks))
    if not now:
        return Changes(frozenset(tasks))
    told = settings.model_copy(update={"data_key": _told(settings.data_key, inventory)})
    shown = Showing.of(parse(project.label_config), told, first=[task.data for task in now])
    if shown.fields != inventory.fields:
        before, shows = (
            ", ".join(field.key for field in fields) for fields in (inventory.fields, shown.fields)
        )
        raise InputError(
            f"the label config of project {project.id} shows the data field {shows} now, but the run read {before};"
            " nothing was written, start a new run"
        )
    labeled: set[int] = set()
    there: set[int] = set()
    for task in now:
        there.add(task.id)
        if not task.unlabeled:
            labeled.add(task.id)
        try:
            now_shown = shown.instance(task.id, task.data)
        except MediaError as error:
            raise InputError(
                f"task {task.id} of project {project.id} was changed while the run computed: {error};"
                " nothing was written, start a new run"
            ) from error
        if now_shown != read[task.id]:
            raise InputError(
                f"task {task.id} of project {project.id} shows {_brief(now_shown)} now, but the run read"
                f" {_brief(read[task.id])}: it was changed, or a backup was restored and its id used again;"
                " nothing was written, start a new run"
            )
    return Changes(frozenset(tasks) - there, frozenset(labeled))


def _told(data_key: str | None, inventory: Inventory) -> str | None:
    """Say in `data_key` what each field holds, as the run learned it from the first tasks of the project."""
    if data_key is None:
        return None
    chosen = zip(parse_data_key(data_key), inventory.fields, strict=True)
    return ",".join(f"{field.modality}:{one.key}={one.weight!r}" for one, field in chosen)


def _brief(instance: Instance) -> str:
    """Return the beginning of what an instance shows."""
    further = (source for field in instance.fields for source in field)
    text = " + ".join((*instance.sources, *further, instance.key)).removesuffix(" + ")
    return repr(text if len(text) <= 80 else text[:80] + "...")
