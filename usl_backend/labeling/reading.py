"""Read how the labeling of a project goes, from Label Studio and from the run that published its queue."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usl_backend.errors import RunError
from usl_backend.labeling.advice import next_step
from usl_backend.labeling.counting import by_annotator, by_class, by_role, coverage_now, pace, sort_tasks
from usl_backend.labeling.state import AccuracyNow, CoverageNow, LabelingState, QueueNow
from usl_backend.runs.extensions import read_extensions
from usl_backend.runs.suggest_job import read_job
from usl_backend.studio.model_versions import holds_suggestions, versions
from usl_backend.suggesting.accuracy import load_accuracy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from usl_backend.instances import Queue, QueueState
    from usl_backend.report.record import Report
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.runs.published import Published
    from usl_backend.sinks.standing import Standing
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import LabeledTask, Project


@dataclass(frozen=True)
class Owner:
    """The run that owns a project's published queue.

    Attributes
    ----------
    run, files
        The run and its artifacts.
    published
        What it published.
    state
        What it changed in the project.
    """

    run: Run
    files: RunFiles
    published: Published
    state: QueueState

    @property
    def queue(self) -> Queue:
        """The published queue."""
        return self.published.queue


def owner_of(store: RunStore, project: Project) -> Owner | None:
    """Return the run whose queue was published last to a project; None if there is none here."""
    state = store.queue_state(project.key)
    if state is None:
        return None
    try:
        run = store.get(state.run_id)
        files = store.files(run.id)
        return Owner(run, files, files.read_published(), state)
    except RunError:
        return None


def deleted(
    client: StudioClient, project: Project, owner: Owner | None, labeled: Collection[int]
) -> frozenset[int]:
    """Return the tasks of a queue that Label Studio no longer has.

    A deleted task takes its prediction with it: tasks are looked up only if predictions of the queue are missing, or
    suggestions stand among them. The number of tasks would not tell, since others may have been imported.

    Parameters
    ----------
    labeled
        Tasks that are known to be there.
    """
    if owner is None:
        return frozenset()
    version = owner.state.model_version
    whole = len(owner.published.with_prediction(owner.state.extended))
    if not holds_suggestions(version) and versions(client, project.id).get(version) == whole:
        return frozenset()
    asked = [task for task in owner.queue.tasks if task not in labeled]
    return frozenset(asked) - {task.id for task in client.tasks_of(project.id, asked)}


def waiting(client: StudioClient, owner: Owner | None) -> int:
    """Return how many unlabeled tasks came after a run and its last extension; these have the highest ids.

    Counting all tasks would not tell, since others may have been deleted.
    """
    if owner is None or owner.run.pool or not owner.files.has_pool():
        return 0
    pool, _ = owner.files.read_pool()
    notes = read_extensions(owner.files)
    known = (
        *pool.ids[-1:].tolist(),
        *pool.skipped,
        *owner.files.read_inventory().skipped,
        *owner.state.extended,
    )
    return client.count_unlabeled(
        owner.run.project, after=max((*known, *(note.newest for note in notes)), default=0)
    )


def labeling_state(
    project: Project,
    tasks: Mapping[int, LabeledTask],
    *,
    store: RunStore,
    owner: Owner | None,
    standing: Standing,
    names: Mapping[int, str],
    gone: frozenset[int] = frozenset(),
    waiting: int = 0,
    report: Report | None = None,
    now: float | None = None,
) -> LabelingState:
    """Combine what Label Studio says now with what the run has stored.

    Parameters
    ----------
    project
        As it is now.
    tasks
        Its annotated tasks.
    store
        Runs of this data directory.
    owner
        The run that owns the queue.
    standing
        State of the queue.
    names
        User id -> name.
    gone
        Tasks of the queue that were deleted since.
    waiting
        Tasks that came after the run and are not queued.
    report
        Report of the owner, for the coverage; None if it is not made.
    now
        Unix seconds; by default the time of this host.
    """
    entries = list(tasks.values())
    found = sort_tasks(entries)
    queue = None if owner is None else owner.queue
    labeled = by_role(queue, found, total=project.task_number, gone=gone)
    classes, disputed, reason = by_class(entries, project.label_config)
    active = store.active(project=project.id)
    job = None if owner is None else read_job(owner.files)
    done = job is not None and job.result is not None and not job.request.get("dry_run")
    state = LabelingState(
        project=project.id,
        title=project.title,
        tasks=project.task_number,
        queue=_queue(owner, standing),
        labeled=labeled,
        annotators=by_annotator(entries, names),
        classes=classes,
        disputed=disputed,
        accepted=len(found.accepted),
        pace=pace(
            entries,
            left=labeled["pick"].left + labeled["control"].left,
            now=time.time() if now is None else now,
        ),
        coverage=None if owner is None or report is None else _coverage(owner, report, found.labeled),
        accuracy=None if owner is None else _accuracy(owner.files),
        waiting=waiting,
        suggested=job.finished_at if done and job is not None else None,
        active="" if active is None else active.id,
        notes=(f"Classes are not counted: {reason}.",) if reason else (),
    )
    made = (job.result or {}) if done and job is not None else {}
    suggested_from = sum(made.get("labels", {}).values()) + made.get("control_labels", 0)
    return replace(state, next=next_step(state, suggested_from=suggested_from))


def _queue(owner: Owner | None, standing: Standing) -> QueueNow:
    """Return the queue in force."""
    summary = None if owner is None else owner.run.summary
    tab = "" if summary is None or summary.tab is None or standing.kind == "no tab" else summary.tab.url
    return QueueNow(
        run=standing.run,
        in_force=standing.kind == "in force",
        published=None if owner is None else owner.run.finished_at,
        kind=standing.kind,
        detail=standing.detail,
        remedy=standing.remedy,
        tab=tab if tab.startswith(("http://", "https://")) else "",
    )


def _coverage(owner: Owner, report: Report, labeled: frozenset[int]) -> CoverageNow | None:
    """Return the coverage that the labeled picks reach."""
    task = dict(zip(owner.queue.instances, owner.queue.tasks, strict=True))
    return coverage_now(
        [task.get(why.task, why.task) for why in report.whys],
        labeled,
        covered={task.get(why.task, why.task): why.covered for why in report.whys},
        curve=report.trust.picks,
        random=report.trust.random_mean,
    )


def _accuracy(files: RunFiles) -> AccuracyNow | None:
    """Return the accuracy measured last; None without a figure."""
    measured = load_accuracy(files)
    if measured is None or measured.right is None:
        return None
    right = measured.right
    return AccuracyNow(
        right.share, right.low, right.high, measured.controls, measured.labels, measured.read_at
    )
