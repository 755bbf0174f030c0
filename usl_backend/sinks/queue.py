"""Sink that publishes picks as the queue of their own project, through `studio.queue`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usl_backend.errors import InputError, StudioError
from usl_backend.runs.published import Published, Verified
from usl_backend.runs.summary import Tab
from usl_backend.settings import RunSettings
from usl_backend.sinks.changes import Changes, changes_of
from usl_backend.studio.model_versions import Origin, origin
from usl_backend.studio.patience import waited_out
from usl_backend.studio.queue import publish as publish_queue
from usl_backend.studio.verification import verify_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usl_backend.instances import Instance, Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Selection
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.queue import Switch
    from usl_backend.studio.records import Project
    from usl_backend.studio.verification import Verification


class QueueSink:
    """Publishes the picks of a run first in its project; implements `Sink`.

    Parameters
    ----------
    client
        Label Studio client.
    run
        The run; the model version is named after its id.
    store
        Stores the previous state of the project.
    """

    def __init__(self, client: StudioClient, run: Run, store: RunStore) -> None:
        self.client, self.run, self.store = client, run, store
        self._read: Mapping[int, Instance] | None = None

    def changes(self, tasks: Sequence[int]) -> Changes:
        """Look up tasks in Label Studio; if the run's queue is in force already, labels are its own and no changes."""
        if self.run.dry_run:
            return Changes()
        files, settings = self.store.files(self.run.id), RunSettings.from_json(self.run.settings)
        project = self.client.project(self.run.project)
        if self._read is None:
            self._read = {instance.id: instance for instance in files.read_instances()}
        found = changes_of(
            self.client,
            project,
            tasks,
            read=self._read,
            inventory=files.read_inventory(),
            settings=settings,
        )
        published = origin(project.model_version) == Origin(self.run.id, self.store.installation)
        return Changes() if published else found

    def publish(self, queue: Queue, progress: Progress) -> Published:
        """Make Label Studio serve the queue in order."""
        if self.run.dry_run:
            return Published(queue)
        inventory = self.store.files(self.run.id).read_inventory()
        # Use the key under which the tasks were listed: a new project with the same id is refused.
        project = replace(self.client.project(inventory.id), key=inventory.key)
        return publish(self.client, self.run, project, queue, store=self.store, progress=progress)

    def complete(self, published: Published, pool: Pool, selection: Selection) -> None:
        """Do nothing: no files accompany the queue."""

    def describe(self, summary: Summary, published: Published) -> Summary:
        """Add the link to the tab."""
        return replace(summary, tab=tab_of(self.client.browser_url, summary.project.id, published))

    def versions(self) -> Mapping[str, str]:
        """Return Label Studio's version."""
        return {"label-studio": self.client.version()}


def publish(
    client: StudioClient, run: Run, project: Project, queue: Queue, *, store: RunStore, progress: Progress
) -> Published:
    """Make Label Studio serve the picks in order, then the control set, then the reserve.

    The previous state of the project is stored before any change, so a reset can restore it even if this process
    dies midway.

    Parameters
    ----------
    client
        Label Studio client.
    run
        The run; the model version is named after its id.
    project
        Project that receives the queue.
    queue
        Queue of the project's tasks.
    store
        Stores the project's queue state.
    progress
        Receives the number of predictions written.
    """
    picks = queue.of_role("pick")
    state = store.queue_state(project.key)
    queued = set(queue.instances)
    later = () if state is None or state.run_id != run.id else state.extended
    switch = publish_queue(
        client,
        project,
        run_id=run.id,
        installation=store.installation,
        picks=picks,
        reserve=[*queue.instances[len(picks) :], *(task for task in later if task not in queued)],
        state=state,
        save=lambda state: store.save_queue_state(project.key, state),
        progress=progress,
    )
    store.save_queue_state(project.key, switch.state)
    verified = read_back(client, project, queue.instances, files=store.files(run.id))
    return Published(
        queue,
        model_version=switch.model_version,
        view_id=switch.view_id,
        carried_over=switch.carried_over,
        warnings=switch.warnings if verified.ok else (*switch.warnings, verified.detail),
        verified=verified,
    )


def version_in_force(store: RunStore, run: Run, project: Project) -> str:
    """Return the model version of a run that its project uses now, with suggestions or without.

    Raises
    ------
    InputError
        The project uses another one.
    """
    version = project.model_version or ""
    if origin(version) not in (Origin(run.id, store.installation), Origin(run.id, "")):
        raise InputError(
            f'the model version of project {project.id} is "{version}", which is not of run {run.id}; start a new run'
        )
    return version


def record_switch(store: RunStore, run: Run, client: StudioClient, switch: Switch) -> None:
    """Note in a run's record which model version and tab it has now."""
    files = store.files(run.id)
    published = replace(
        files.read_published(),
        model_version=switch.model_version,
        view_id=switch.view_id,
        carried_over=switch.carried_over,
    )
    files.write_published(published)
    tab = tab_of(client.browser_url, run.project, published)
    store.amend(run.id, model_version=switch.model_version, tab=tab)


def tab_of(studio_url: str, project_id: int, published: Published) -> Tab | None:
    """Return the tab that shows a published queue, with its address."""
    if published.view_id is None:
        return None
    return Tab(published.view_id, f"{studio_url}/projects/{project_id}/data?tab={published.view_id}")


def read_back(client: StudioClient, project: Project, ranked: Sequence[int], *, files: RunFiles) -> Verified:
    """Check that Label Studio would serve the first unlabeled task of a queue next; the queue is not affected.

    Parameters
    ----------
    ranked
        Tasks of the queue in rank order.
    files
        Files of the run that published it; they remember a check that was killed midway.
    """

    def ask() -> Verification:
        with files.reading_back(client.clock()) as since:
            return verify_first(client, project, ranked, since=since)

    try:
        found = waited_out(client, ask)
    except StudioError as error:
        return Verified(False, "unknown", f"the order could not be read back: {error}")
    return Verified(found.ok, found.outcome, found.detail)
