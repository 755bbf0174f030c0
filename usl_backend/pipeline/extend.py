"""Tasks that came after a run, queued behind its picks without a new run. How they are scored is in `selection/`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usl_backend.encoders.allocator import keep_freed_memory
from usl_backend.errors import InputError
from usl_backend.pipeline.rows import Rows, Stages
from usl_backend.runs import RunFiles
from usl_backend.runs.progress import RunProgress
from usl_backend.selection import score_new_rows
from usl_backend.settings import RunSettings
from usl_backend.sources.project import ProjectSource
from usl_backend.studio.queue import append

if TYPE_CHECKING:
    from usl_backend.progress import StageProgress
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import Project, StudioClient


@dataclass(frozen=True)
class Extension:
    """What became of the tasks that a run did not know.

    Attributes
    ----------
    run
        The run they queue behind.
    tasks
        Their ids in the order in which they should be labeled, whether they were queued before or not.
    queued
        How many were written to Label Studio now.
    skipped
        Task id -> why it cannot be read.
    new_run
        Whether a new run is worthwhile.
    reason
        Why, or why not, in a sentence.
    """

    run: str
    tasks: tuple[int, ...]
    queued: int
    skipped: dict[int, str]
    new_run: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON-able values."""
        return {**asdict(self), "skipped": {str(task): why for task, why in self.skipped.items()}}


def run_in_force(store: RunStore, project: Project) -> Run:
    """Find the run whose picks a project's annotators are served.

    Raises
    ------
    InputError
        There is none.
    """
    state = store.queue_state(project.key)
    if state is None or state.model_version != project.model_version:
        raise InputError(
            f'no run is in force in project {project.id}, whose model version is "{project.model_version}"; '
            f"`usl-backend select {project.id}` makes one first"
        )
    run = store.get(state.run_id)
    if run.pool:
        raise InputError(
            f"run {run.id}, which is in force in project {project.id}, chose from {run.address} and not "
            f"from the project's tasks; `usl-backend select {project.id}` makes a run that does"
        )
    return run


def extend(
    run: Run,
    *,
    store: RunStore,
    host: HostSettings,
    client: StudioClient,
    watch: StageProgress | None,
    dry_run: bool = False,
) -> Extension:
    """Embed the tasks that a run did not know, score them against its pool, and queue them behind its picks.

    The run itself is left as it is. As `execute`, not to be called in a server.

    Parameters
    ----------
    run
        A completed run by the method usl.
    store, host, client
        As for `execute`.
    watch
        Told where it is.
    dry_run
        Write nothing to Label Studio.

    Returns
    -------
    Extension

    Raises
    ------
    USLError
        The run is not complete, not by usl, or not in force; or Label Studio refuses.
    """
    keep_freed_memory()
    files = store.files(run.id)
    selection, (pool, _) = files.read_selection(), files.read_pool()
    known = set(pool.ids.tolist()) | set(pool.skipped)
    with tempfile.TemporaryDirectory(dir=files.directory, prefix=".extension-") as folder:
        # no budget, for that is spent; and the run's own artifacts and record stay as they are
        settings = RunSettings.from_json(run.settings).model_copy(
            update={"budget": None, "keep_labels": False}
        )
        source = ProjectSource(client, run.project, project_key=run.project_key, settings=settings, host=host)
        stages = Stages(store, RunProgress(None, run.id, watch=watch))
        part = Rows(settings, RunFiles(Path(folder)), source, host=host, stages=stages)
        instances, inventory = part.fetch()
        fresh = [instance for instance in instances if instance.id not in known]
        if not fresh:
            return Extension(run.id, (), 0, {}, False, "no tasks came after the run")
        new, _, _ = part.embed(fresh, inventory)
        skipped = dict(new.skipped)
        if not len(new):
            return Extension(run.id, (), 0, skipped, False, "none of the new tasks could be read")
        found = score_new_rows(new.embeddings, pool=pool.embeddings, selection=selection)
        ordered = tuple(int(task) for task in new.ids[found.order])
    queued = 0
    if not dry_run:
        version = None if run.summary is None else run.summary.model_version
        assert version is not None, "a run in force has published"
        queued = append(client, client.project(run.project), version=version, tasks=ordered)
    return Extension(run.id, ordered, queued, skipped, found.new_run, found.reason)
