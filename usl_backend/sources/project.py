"""Source for a Label Studio project: lists the tasks that can be selected, without reading their media."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING

from usl_backend.errors import InputError, MediaError
from usl_backend.instances import Instance
from usl_backend.runs.inventory import Inventory
from usl_backend.settings import HostSettings, RunSettings
from usl_backend.sources.media import Media, MediaAccess
from usl_backend.sources.showing import FIRST_TASKS, Showing
from usl_backend.studio.label_config import SEVERAL_IN_ONE, parse
from usl_backend.studio.labels import classifier, read_labels
from usl_backend.studio.regions import draws_regions

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)


class ProjectSource:
    """The unannotated tasks of a project, with `keep_labels` also the annotated ones; implements `Source`.

    Parameters
    ----------
    client
        Label Studio client.
    project_id, project_key
        Label Studio's id, and the project's key at the creation of the run; "" if unknown.
    settings
        Settings of the run, of which `data_key`, `encoder`, `keep_labels` and `budget` are used.
    host
        Limits and hosts of media.
    """

    def __init__(
        self,
        client: StudioClient,
        project_id: int,
        *,
        project_key: str = "",
        settings: RunSettings,
        host: HostSettings,
    ) -> None:
        self.client, self.project_id, self.project_key = client, project_id, project_key
        self.settings, self.host = settings, host

    def fetch(self, files: RunFiles, progress: Progress) -> None:
        """List the tasks, sorted by id, and store those that have media.

        Raises
        ------
        InputError
            The project was replaced, is empty, fully annotated, or smaller than the budget; or its label config
            shows nothing that can be embedded.
        StudioError
            Label Studio refuses the request or fails.
        """
        files.write_instances(*self.listed(progress))

    def listed(self, progress: Progress) -> tuple[list[Instance], Inventory]:
        """List the tasks without storing them; raises the errors of `fetch`."""
        progress("listing tasks", 0, 0)
        project = self.client.project(self.project_id)
        if self.project_key and project.key != self.project_key:
            raise InputError(
                f'project {self.project_id} ("{project.title}") is not the project of this run, as its creation time '
                "differs: the earlier project was deleted, or LABEL_STUDIO_URL points to another Label Studio; "
                "start a new run"
            )
        config = parse(project.label_config)
        tasks = self.client.tasks(project.id, only_unlabeled=False, progress=progress)
        first = list(islice(tasks, FIRST_TASKS))
        if not first:
            raise InputError(
                f"{_named(project.id, project.title)} has no tasks; import tasks, then start again"
            )
        shown = Showing.of(config, self.settings, first=[task.data for task in first])

        instances: list[Instance] = []
        labeled: list[int] = []
        steered, taken = {*self.settings.pin, *self.settings.exclude}, []
        skipped: dict[int, str] = {}
        total = annotated = 0
        for task in chain(first, tasks):
            total += 1
            annotated += not task.unlabeled
            if not task.unlabeled and str(task.id) in steered:
                taken.append(task.id)
            if not task.unlabeled and not self.settings.keep_labels:
                continue
            try:
                instances.append(shown.instance(task.id, task.data))
            except MediaError as error:
                if task.unlabeled:
                    skipped[task.id] = str(error)
                continue
            if not task.unlabeled:
                labeled.append(task.id)
        found = Inventory(
            id=project.id,
            key=project.key,
            title=project.title,
            classes=tuple(config.classes),
            data_key=shown.fields[0].key,
            fields=shown.fields,
            tasks=total,
            annotated=annotated,
            labeled=tuple(sorted(labeled)),
            taken=tuple(taken),
            skipped=skipped,
            several=sum(_shows_several(one, shown) for one in instances),
            regions=draws_regions(config),
        )
        free = len(instances) - len(labeled)
        _check(found, free, self.settings)
        logger.info("project %s: %s of %s tasks can be selected", self.project_id, free, total)
        return sorted(instances, key=lambda instance: instance.id), found

    def labels(self, files: RunFiles) -> dict[int, str]:  # noqa: ARG002 - a project holds its labels itself
        """Read the class of each labeled task; conflicts and skips have none."""
        config = parse(self.client.project(self.project_id).label_config)
        tag = classifier(config)
        if tag.multiple:
            raise InputError(
                f"Choices {tag.name!r} takes several choices per task, but the next round goes by one class per task; "
                "use keep_labels instead of next"
            )
        found = read_labels(self.client.labeled(self.project_id), config, control=tag.name)
        return {task: chosen[0] for task, chosen in found.by_task.items() if len(chosen) == 1}

    def access(self, inventory: Inventory) -> MediaAccess:  # noqa: ARG002 - Label Studio knows where its media are
        """Return access to media that Label Studio serves or that are under its local-files root on this host."""
        return MediaAccess.of_project(self.host, self.client)

    def open_media(self, inventory: Inventory) -> Media:
        """Open the media in this process."""
        return self.access(inventory).open(self.client)

    def store_vectors(self, files: RunFiles, progress: Progress) -> None:
        """Never called: tasks have no embeddings."""
        raise NotImplementedError

    def warnings(self, inventory: Inventory, skipped: Mapping[int, str]) -> list[str]:
        """Warn about tasks that could not be read."""
        if not skipped:
            return []
        unlabeled = inventory.tasks - inventory.annotated
        warning = (
            f"{len(skipped)} of {unlabeled} unlabeled tasks could not be read and were left out; "
            f"the first is task {min(skipped)}: {skipped[min(skipped)]}"
        )
        return [warning]


def _named(project_id: int, title: str) -> str:
    """Name a project in an error."""
    return f'project {project_id} ("{title}")'


def _shows_several(instance: Instance, shown: Showing) -> bool:
    """Tell whether one of the fields shows several images or texts."""
    if any(field.tag.type in SEVERAL_IN_ONE for field in shown.shown):
        return True
    return bool(instance.more) or any(len(sources) > 1 for sources in instance.fields)


def _check(project: Inventory, free: int, settings: RunSettings) -> None:
    """Refuse a project with too few selectable tasks before any media is read."""
    name = _named(project.id, project.title)
    if project.annotated == project.tasks:
        raise InputError(
            f"all {project.tasks} tasks of {name} already have an annotation, so there is nothing to select; import "
            "new tasks, or delete annotations"
        )
    if free == 0:
        task, why = min(project.skipped.items())
        raise InputError(
            f"none of the {project.tasks - project.annotated} unlabeled tasks of {name} shows an image or text "
            f"(task {task}: {why}); check the label config's value and the tasks' data"
        )
    settings.rows_to_choose(classes=len(project.classes), pool=free)
    settings.check_control(free)
