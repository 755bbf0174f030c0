"""Extension of a run's queue by tasks added after the run; `selection` scores them."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.encoders.allocator import keep_freed_memory
from usl_backend.errors import InputError
from usl_backend.outliers import find_outliers
from usl_backend.pipeline.rows import Rows, Stages
from usl_backend.runs import RunFiles
from usl_backend.runs.extensions import ExtensionNote, note_extension
from usl_backend.runs.lock import Lock
from usl_backend.runs.progress import RunProgress
from usl_backend.selection import score_new_rows
from usl_backend.settings import RunSettings
from usl_backend.sinks.queue import version_in_force
from usl_backend.sources.project import ProjectSource
from usl_backend.sources.wishes import excluded_tasks
from usl_backend.studio.queue import append

if TYPE_CHECKING:
    from usl_backend.instances import Pool
    from usl_backend.progress import StageProgress
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient


@dataclass(frozen=True)
class Extension:
    """Result of extending a run's queue by new tasks.

    Attributes
    ----------
    run
        Id of the extended run.
    tasks
        Ids of the new tasks in labeling order, including those queued before.
    queued
        Number of tasks written to Label Studio by this call.
    skipped
        Task id -> reason why it cannot be read.
    new_run
        True if a new run is worthwhile.
    reason
        Sentence that explains `new_run`.
    """

    run: str
    tasks: tuple[int, ...]
    queued: int
    skipped: dict[int, str]
    new_run: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return {**asdict(self), "skipped": {str(task): why for task, why in self.skipped.items()}}


def extend(
    run: Run,
    *,
    store: RunStore,
    host: HostSettings,
    client: StudioClient,
    watch: StageProgress | None,
    dry_run: bool = False,
) -> Extension:
    """Embed the tasks added after a run, score them against its pool, and queue them after its picks.

    Excluded tasks are left out, as are outliers if the run kept them out. The run itself is not changed. Like
    `execute`, do not call this in a server process.

    Parameters
    ----------
    run
        A completed run by the method usl.
    store, host, client
        As for `execute`.
    watch
        Receives the progress of each stage.
    dry_run
        Write nothing to Label Studio.

    Returns
    -------
    Extension
        The new tasks in labeling order, and whether a new run is worthwhile.

    Raises
    ------
    USLError
        The run is not complete, does not own the published queue, or used another method than usl; another process
        works on it; or Label Studio refuses the request.
    """
    keep_freed_memory()
    files = store.files(run.id)
    with Lock(files.lock):
        files.clear_leftovers()
        found, newest = _score(run, files, store=store, host=host, client=client, watch=watch)
        if dry_run:
            return found
        if found.tasks:
            found = _queue(run, found, store=store, client=client)
        note = ExtensionNote(
            time.time(),
            len(found.tasks),
            found.queued,
            len(found.skipped),
            found.new_run,
            found.reason,
            newest,
        )
        note_extension(files, note)
    return found


def _score(
    run: Run,
    files: RunFiles,
    *,
    store: RunStore,
    host: HostSettings,
    client: StudioClient,
    watch: StageProgress | None,
) -> tuple[Extension, int]:
    """Return the new tasks in order, none of them queued yet, and the highest id of the project's unlabeled tasks."""
    selection, (pool, _) = files.read_selection(), files.read_pool()
    known = set(pool.ids.tolist()) | set(pool.skipped)
    with tempfile.TemporaryDirectory(dir=files.directory, prefix=files.PART_PREFIX) as folder:
        # no budget, it is already spent; the run's own artifacts and record are not changed
        settings = RunSettings.from_json(run.settings).model_copy(
            update={"budget": None, "keep_labels": False}
        )
        source = ProjectSource(client, run.project, project_key=run.project_key, settings=settings, host=host)
        stages = Stages(store, RunProgress(None, run.id, watch=watch))
        part_files = RunFiles(Path(folder))
        part = Rows(settings, part_files, source, host=host, stages=stages)
        instances, inventory = part.fetch()
        newest = max((*(one.id for one in instances), *inventory.skipped), default=0)
        barred = {*excluded_tasks(settings), *store.wishes(inventory.key).excluded}
        fresh = [one for one in instances if one.id not in known and one.id not in barred]
        if not fresh:
            return Extension(run.id, (), 0, {}, False, "no tasks came after the run"), newest
        part_files.write_encoders(files.read_encoders(settings.encoder, files.read_inventory().fields))
        new, _, key = part.embed(fresh, inventory)
        _check_encoder(run, key)
        skipped = dict(new.skipped)
        if not len(new):
            reason = "none of the new tasks could be read"
            return Extension(run.id, (), 0, skipped, False, reason), newest
        found = score_new_rows(new.embeddings, pool=pool.embeddings, selection=selection)
        odd = _outliers(new, pool) if settings.exclude_outliers else set()
        ordered = tuple(int(new.ids[row]) for row in found.order if int(row) not in odd)
    return Extension(run.id, ordered, 0, skipped, found.new_run, found.reason), newest


def _outliers(new: Pool, pool: Pool) -> set[int]:
    """Return the new rows that are outliers, seen beside those of the run."""
    if new.traits is None:
        return set()
    known = np.empty((0, new.traits.shape[1])) if pool.traits is None else pool.traits
    rows = find_outliers(np.concatenate([known, new.traits])).rows - len(known)
    return set(rows[rows >= 0].tolist())


def _queue(run: Run, found: Extension, *, store: RunStore, client: StudioClient) -> Extension:
    """Queue the new tasks behind all others; return with how many were not queued before."""
    project = client.project(run.project)
    queued = append(client, project, version=version_in_force(store, run, project), tasks=found.tasks)
    state = store.queue_state(project.key)
    assert state is not None, "a run in force has a state"
    later = tuple(dict.fromkeys((*state.extended, *found.tasks)))
    store.save_queue_state(project.key, replace(state, extended=later))
    return replace(found, queued=queued)


def _check_encoder(run: Run, key: str) -> None:
    """Raise InputError if new rows come from another encoder than the run's: they could not be compared."""
    if run.summary is not None and key != run.summary.encoder.key:
        raise InputError(
            f"run {run.id} was embedded by {run.summary.encoder.key}, and this host now has {key}; install the former "
            "weights, or start a new run"
        )
